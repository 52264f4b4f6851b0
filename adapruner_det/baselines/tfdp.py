"""TFDP: images with many boxes of unusual shape, from the labels alone.

Dai, Xiao, Tsang and He, "Training-Free Dataset Pruning for Instance Segmentation" (2025). A mask's shape complexity is its
perimeter against its area; scale-invariant P / (2 sqrt(pi A)), which is 1 for a disc; class-balanced, over the mean of
its class; an image has the sum over its instances.

Carried to boxes here: P = 2 (w + h) and A = w h, so that a shape is how far from square a box is, and the number of boxes
weighs most.
"""

import numpy as np

from ..pruning.statistics import Statistics


def tfdp(statistics: Statistics, keep_ratio: float, seed: int) -> np.ndarray:
    """Keeps the images with many boxes, long ones before square ones."""
    labels = statistics.labels
    assert labels.crowds is not None  # Statistics sees to it
    sides = np.maximum(labels.boxes[:, 2:] - labels.boxes[:, :2], 1e-6).astype(np.float64)
    shape = np.where(labels.crowds, 0, sides.sum(axis=1) / np.sqrt(np.pi * sides.prod(axis=1)))
    of_class, count = np.bincount(labels.classes, shape), np.bincount(labels.classes, ~labels.crowds)
    means = of_class / np.maximum(count, 1)
    return np.bincount(labels.images, shape / np.maximum(means[labels.classes], 1e-6), len(statistics))
