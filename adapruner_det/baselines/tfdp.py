"""TFDP: images with many boxes of unusual shape, from the labels alone.

Dai, Xiao, Tsang and He, "Training-Free Dataset Pruning for Instance Segmentation" (2025). A mask's shape complexity is its
perimeter against its area; scale-invariant P / (2 sqrt(pi A)), which is 1 for a disc; class-balanced, over the sum of
its class, so that all classes count alike and the objects of a rare one most; an image has the sum over its instances.

Carried to boxes here: P = 2 (w + h) and A = w h, so that a shape is how far from square a box is.
"""

import numpy as np

from ..pruning.statistics import Statistics


def tfdp(statistics: Statistics, keep_ratio: float, seed: int) -> np.ndarray:
    """Keeps the images with many boxes of rare classes, long ones before square ones."""
    labels = statistics.labels
    assert labels.crowds is not None  # Statistics sees to it
    sides = np.maximum(labels.boxes[:, 2:] - labels.boxes[:, :2], 1e-6).astype(np.float64)
    shape = np.where(labels.crowds, 0, sides.sum(axis=1) / np.sqrt(np.pi * sides.prod(axis=1)))
    of_class = np.bincount(labels.classes, shape)
    return np.bincount(labels.images, shape / np.maximum(of_class[labels.classes], 1e-6), len(statistics))
