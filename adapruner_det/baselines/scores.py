"""What a method gives: a score for each image, from an order of the images if need be.

N images, n images of one class.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Scores:
    """The scores of N images, with what else the record of the selection is to say.

    Attributes:
        values: (N,) numbers, higher: keep.
        columns: further columns of N values by name, such as reasons.
        facts: for the record's provenance.
    """

    values: np.ndarray
    columns: dict[str, list[Any]] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)


def scores_of_order(order: np.ndarray) -> np.ndarray:
    """Scores (N,) in (0, 1] of an order, a permutation (N,): the image chosen first gets the highest."""
    scores = np.empty(len(order))
    scores[order] = np.arange(len(order), 0, -1) / len(order)
    return scores


def class_by_class(labels: np.ndarray, choose: Callable[[np.ndarray], np.ndarray], seed: int) -> np.ndarray:
    """One order (N,) of all images, of which any cut keeps the same share of each class, to within one image.

    Args:
        labels: (N,) integers.
        choose: given the (n,) positions of the images of a class, the (n,) order to take them in, a permutation of 0 to
            n - 1.
        seed: of the order in which positions and classes are handed on, in place of the data set's, in which neighbours
            are often alike.
    """
    rng = np.random.default_rng(seed)
    shuffled = rng.permutation(len(labels))
    members = [shuffled[labels[shuffled] == c] for c in rng.permutation(np.unique(labels))]
    return interleave([positions[choose(positions)] for positions in members])


def interleave(orders: list[np.ndarray]) -> np.ndarray:
    """One order of several (n_c,), each spread evenly over the whole length (sum of n_c,)."""
    place = np.concatenate([(np.arange(len(order)) + 0.5) / len(order) for order in orders])
    return np.concatenate(orders)[np.argsort(place, kind="stable")]
