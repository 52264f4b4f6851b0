"""What a method gives: a score for each image, from an order of the images if need be.

N images, n images of one class.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..pruning.class_balance import rarest_class
from ..pruning.statistics import Statistics


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


def classes_or_one(statistics: Statistics) -> np.ndarray:
    """The class of each image, (N,); for detection all are one: an image has boxes of several, and one feature vector."""
    return statistics.classes if statistics.classifies else np.zeros(len(statistics.features), np.int64)


def rarest_classes(statistics: Statistics) -> np.ndarray:
    """The class of each image, (N,); of one with boxes the rarest, and one more for those without boxes."""
    return statistics.classes if statistics.classifies else rarest_class(statistics.counts)


def divided(total: float, weights: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """Divides so many places among groups in proportion to weights (K,) >= 0, none above its size (K,); (K,) float64."""
    weights = np.maximum(weights, 1e-9 * max(1.0, float(np.max(weights))))
    full = np.zeros(len(sizes), bool)
    while True:
        free = total - sizes[full].sum()
        quotas = np.where(full, sizes, free * weights / weights[~full].sum() if not full.all() else sizes)
        over = quotas > sizes
        if not over.any():
            return quotas
        full |= over


def scores_of_quotas(groups: np.ndarray, quotas: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """Scores (N,) of which a cut at the sum of the quotas keeps each group's, to within one image, and its best.

    Args:
        groups: (N,) integers in [0, K).
        quotas: (K,) images.
        scores: (N,) that order the images within their group; higher: keep.
    """
    order = np.lexsort((-scores, groups))
    place = np.empty(len(groups))
    place[order] = np.arange(len(groups)) - np.searchsorted(groups[order], groups[order])
    return -(place + 0.5) / np.maximum(quotas[groups], 1e-9)
