"""Geometric median matching: the images whose running mean follows the geometric median of their class.

Acharya, Dhillon and Sanghavi, "Geometric Median (GM) Matching for Robust Data Pruning" (2024). Herding (`herding`)
toward the geometric median, argmin_m sum_i ||x_i - m||, in place of the mean: up to half of the images may be arbitrarily
wrong before it moves far. The median is found by Weiszfeld's iteration ("Sur le point pour lequel la somme des distances
de n points donnes est minimum", 1937).
"""

import numpy as np

from ..pruning.statistics import Statistics
from .herding import herding_order
from .scores import class_by_class, classes_or_one, scores_of_order

_STEPS, _NEAR = 200, 1e-10


def geometric_median(statistics: Statistics, keep_ratio: float, seed: int) -> np.ndarray:
    """Keeps the images that are together nearest to the geometric median of their class.

    The score is their place in the order of choice. For detection all images are one class, as in herding.
    """
    features = statistics.features

    def choose(members: np.ndarray) -> np.ndarray:
        return herding_order(features[members], centre=median_of(features[members]))

    return scores_of_order(class_by_class(classes_or_one(statistics), choose, seed))


def median_of(points: np.ndarray) -> np.ndarray:
    """The geometric median (F,) float64 of points (n, F)."""
    points = points.astype(np.float64)
    median = points.mean(axis=0)
    for _ in range(_STEPS):
        distances = np.linalg.norm(points - median, axis=1)
        weights = 1 / np.maximum(distances, _NEAR * (1 + distances.max()))  # on a point the step is not defined
        moved = weights @ points / weights.sum()
        if np.linalg.norm(moved - median) <= _NEAR * (1 + np.linalg.norm(median)):
            return moved
        median = moved
    return median
