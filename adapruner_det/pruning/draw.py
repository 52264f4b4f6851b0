"""A weighted draw without replacement that depends on a seed and on each image's identity alone."""

import hashlib
from collections.abc import Sequence

import numpy as np


def identity(dataset: str, image_id: object) -> str:
    """The name of an image that no other has, wherever it stands."""
    return f"{dataset}\n{image_id}"


def drawn_lots(names: Sequence[str], seed: int, weights: np.ndarray) -> np.ndarray:
    """A place in line for each image, the better the higher, from a draw that weights tilt.

    A seed draws a number v between 0 and 1 for each name, wherever it stands; those with the highest
    v^(1 / weight) are a weighted random sample without replacement, however many they are (Efraimidis and
    Spirakis, "Weighted random sampling with a reservoir", 2006).

    Args:
        names: N different strings, see `identity`.
        weights: (N,), above 0; only their ratios count.

    Returns:
        (N,), evenly spread from 0.5 / N to 1 - 0.5 / N.
    """
    drawn = (hashlib.sha256(f"{seed}\n{name}".encode()).digest() for name in names)
    keys = np.log([(int.from_bytes(digest[:8], "big") + 1) / 2**64 for digest in drawn])
    lots = np.empty(len(names))
    lots[np.argsort(keys / weights)] = (np.arange(len(names)) + 0.5) / len(names)
    return lots
