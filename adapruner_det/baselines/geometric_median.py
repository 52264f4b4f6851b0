"""Geometric median matching: the images whose running mean follows the geometric median of their class.

Acharya, Dhillon and Sanghavi, "Geometric Median (GM) Matching for Robust Data Pruning" (2024). Herding (`herding`)
toward the geometric median, argmin_m sum_i ||x_i - m||, in place of the mean: up to half of the images may be arbitrarily
wrong before it moves far. Features are scaled to length 1, as the authors match by the cosine. The median is found by
Weiszfeld's iteration, where it meets a point as Vardi and Zhang have it ("The multivariate L1-median and associated data
depth", 2000).
"""

import numpy as np

from ..pruning.neighbors import unit_vectors
from ..pruning.statistics import Statistics
from .herding import herding_order
from .scores import class_by_class, classes_or_one, scores_of_order

_STEPS, _NEAR = 200, 1e-10


def geometric_median(statistics: Statistics, keep_ratio: float, seed: int) -> np.ndarray:
    """Keeps the images that are together nearest to the geometric median of their class.

    The score is their place in the order of choice. For detection all images are one class, as in herding.
    """
    features = unit_vectors(statistics.features)

    def choose(members: np.ndarray) -> np.ndarray:
        return herding_order(features[members], centre=median_of(features[members]))

    return scores_of_order(class_by_class(classes_or_one(statistics), choose, seed))


def median_of(points: np.ndarray) -> np.ndarray:
    """The geometric median (F,) float64 of points (n, F)."""
    points = points.astype(np.float64)
    median = points.mean(axis=0)
    for _ in range(_STEPS):
        distances = np.linalg.norm(points - median, axis=1)
        off = distances > _NEAR * distances.max()
        weights = 1 / distances[off]
        pull = np.linalg.norm(weights @ (points[off] - median))
        here = np.count_nonzero(~off)  # points that the median lies on, which hold it with a force of 1 each
        if pull <= here:
            return median
        moved = median + (1 - here / pull) * (weights @ points[off] / weights.sum() - median)
        if np.linalg.norm(moved - median) <= _NEAR * (1 + np.linalg.norm(median)):
            return moved
        median = moved
    return median
