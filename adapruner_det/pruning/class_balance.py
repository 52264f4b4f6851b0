"""How many images each class keeps, by a draw that favours rare classes and depends on a seed and on identities alone.

N images, K classes; counts (N, K) are the objects of each class in each image.
"""

import hashlib
from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
from scipy import sparse

Counts: TypeAlias = "np.ndarray | sparse.csr_matrix"


def rarest_class(counts: Counts) -> np.ndarray:
    """The class of each image that the fewest images have, (N,) int64; of equally rare ones that with the lowest id.

    K for an image without objects. Held to a ratio by it, an image counts where it is missed most.
    """
    counts = sparse.csr_matrix(counts)
    number, width = counts.shape
    images, there = np.bincount(counts.indices, minlength=width), np.diff(counts.indptr)
    # The class with the fewest images, then the lowest number, as one number each.
    order = np.full(number, np.iinfo(np.int64).max)
    np.minimum.at(order, np.repeat(np.arange(number), there), images[counts.indices] * width + counts.indices)
    return np.where(there > 0, order % max(width, 1), width)


def class_weights(counts: Counts, power: float) -> np.ndarray:
    """What an image weighs for its rarest class: the share of images with that class, to the power of -power, (N,).

    With power 1, an image drawn by it is as likely to be of one class as of another, where images have one class each; mAP
    is a mean over classes. LVIS's
    repeat factors go by the same share, with power 1/2 (Gupta, Dollar and Girshick 2019). Images without objects are a
    class as well.
    """
    counts = sparse.csr_matrix(counts)
    number, width = counts.shape
    with_objects = np.count_nonzero(np.diff(counts.indptr))
    shares = np.append(np.bincount(counts.indices, minlength=width) / number, 1 - with_objects / number)
    return shares[rarest_class(counts)] ** -power


def class_quotas(classes: np.ndarray, drawn: np.ndarray) -> np.ndarray:
    """How many images of each class stay, (K + 1,): as many as the draw takes, but one at least.

    Args:
        classes: (N,) see `rarest_class`.
        drawn: (N,) bool. Where it takes fewer images than there are classes, some of them have none.
    """
    size = int(classes.max()) + 1
    there, quotas = np.bincount(classes, minlength=size) > 0, np.bincount(classes[drawn], minlength=size)
    for missing in np.flatnonzero(there & (quotas == 0)):
        most = quotas.argmax()
        if quotas[most] > 1:
            quotas[most] -= 1
            quotas[missing] += 1
    return quotas


def image_key(dataset: str, image_id: object) -> str:
    """The name of an image that no other has, wherever it stands."""
    return f"{dataset}\n{image_id}"


def weighted_draw(keys: Sequence[str], seed: int, weights: np.ndarray) -> np.ndarray:
    """A place in line for each image, the better the higher, from a draw that weights tilt.

    A seed draws a number v between 0 and 1 for each key, wherever it stands. Those with the highest v^(1 / weight) are a
    weighted random sample without replacement, however many they are (Efraimidis and Spirakis, "Weighted random sampling
    with a reservoir", 2006).

    Args:
        keys: N different strings, see `image_key`.
        weights: (N,), above 0; only their ratios count.

    Returns:
        (N,), evenly spread from 0.5 / N to 1 - 0.5 / N.
    """
    drawn = (hashlib.sha256(f"{seed}\n{key}".encode()).digest() for key in keys)
    numbers = np.log([(int.from_bytes(digest[:8], "big") + 1) / 2**64 for digest in drawn])
    draw = np.empty(len(keys))
    draw[np.argsort(numbers / weights)] = (np.arange(len(keys)) + 0.5) / len(keys)
    return draw
