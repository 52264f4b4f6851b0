"""From the order in which images are chosen to their scores.

N images, n images of one class.
"""

from collections.abc import Callable

import numpy as np


def scores_of_order(order: np.ndarray) -> np.ndarray:
    """Scores of N images that were chosen one by one: the first gets the highest.

    Args:
        order: (N,) integers, a permutation; the image chosen first comes first.

    Returns:
        (N,) float64 in (0, 1].
    """
    scores = np.empty(len(order))
    scores[order] = np.arange(len(order), 0, -1) / len(order)
    return scores


def class_by_class(labels: np.ndarray, choose: Callable[[np.ndarray], np.ndarray], seed: int) -> np.ndarray:
    """One order of all images, in which each class has its own and none is ahead of another.

    Whatever the cut, each class keeps the share of its images that all keep, to within one image.

    Args:
        labels: (N,) integers.
        choose: given the (n,) positions of the images of a class, the (n,) order to take them in, a
            permutation of 0 to n - 1.
        seed: of the order in which positions and classes are handed on. It must not be the data set's,
            whose neighbours are often alike; and where fewer images stay than there are classes, it says
            which classes these are of.

    Returns:
        (N,) int64, a permutation.
    """
    rng = np.random.default_rng(seed)
    shuffled = rng.permutation(len(labels))
    members = [shuffled[labels[shuffled] == c] for c in rng.permutation(np.unique(labels))]
    return interleave([positions[choose(positions)] for positions in members])


def interleave(orders: list[np.ndarray]) -> np.ndarray:
    """One order of several, in which each is spread evenly over the whole length.

    Args:
        orders: one array of image positions a class, of n_c each.

    Returns:
        (sum of n_c,) the same positions: among the first K of N, each class has n_c K / N of its own, to
        within one image.
    """
    place = np.concatenate([(np.arange(len(order)) + 0.5) / len(order) for order in orders])
    return np.concatenate(orders)[np.argsort(place, kind="stable")]
