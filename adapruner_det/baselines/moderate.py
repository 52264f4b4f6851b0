"""Moderate: neither the images near the centre of their class nor those far from it.

Xia, Liu, Yu, Shen, Han and Liu, "Moderate Coreset: A Universal Method of Data Selection for Real-world Data-efficient
Deep Learning" (2023). With z an image's features, mu the mean of its class and d = ||z - mu||, images with the smallest
|d - median of d| stay. The median is the class's own here, and each class keeps the same share.
"""

import numpy as np

from ..pruning.statistics import Statistics
from .scores import class_by_class, classes_or_one, scores_of_order


def moderate(statistics: Statistics, keep_ratio: float, seed: int) -> np.ndarray:
    """Keeps the images whose distance to the centre of their class is nearest to the median.

    For detection all images are one class.
    """
    features = statistics.features.astype(np.float64)
    order = class_by_class(classes_or_one(statistics), lambda members: moderate_order(features[members]), seed)
    return scores_of_order(order)


def moderate_order(features: np.ndarray) -> np.ndarray:
    """The order (n,) of the images of one class, features (n, F): the most usual distance first."""
    distances = np.linalg.norm(features - features.mean(axis=0), axis=1)
    return np.argsort(np.abs(distances - np.median(distances)), kind="stable")
