"""Prototypes: how far an image lies from the nearest cluster of its like.

Sorscher, Geirhos, Shekhar, Ganguli and Morcos, "Beyond neural scaling laws: beating power law scaling via data pruning"
(2022): k-means in the embedding space of a network; the difficulty of an image is its cosine distance to the nearest
centroid, its prototype. Of an abundant set the hard images (far) are to be kept, of a scarce one the easy ones (near).

Left open there, or otherwise here: features are those of the proxy, not of a self-supervised network, and scaled to
length 1. There are as many clusters as classes, but at least MIN_CLUSTERS (the paper found ten times more or fewer to
do as well). Balanced classes, which it found essential, mean that each class keeps at least CLASS_SHARE of what it
would keep if all were cut alike; for classification only, where an image has one class.

N images, C classes, F features, k prototypes.
"""

import numpy as np

from ..pruning.statistics import Statistics
from .clusters import nearest_centres

# The paper gives no number. It keeps the hard images of CIFAR-10 (5,000 a class) and of ImageNet (about
# 1,280); starting from a fifth of CIFAR-10 (1,000), by an account of it (The Batch, deeplearning.ai), the
# easy ones do better. The limit is made from these three, not measured; for images with many boxes it says little.
ABUNDANT_IMAGES_PER_CLASS = 1000
CLASS_SHARE = 0.5
MIN_CLUSTERS = 10


def bnsl(statistics: Statistics, keep_ratio: float, seed: int, variant: str = "auto") -> np.ndarray:
    """Keeps the images nearest to a prototype, or farthest from it.

    Args:
        variant: "hard": far first. "easy": near first. "auto": hard if there are more than ABUNDANT_IMAGES_PER_CLASS
            images a class (N / C) before pruning. "supervised", for classification: the paper's "supervised
            prototypes", the means of the classes, and the side as for "auto". The paper's own proposal needs no labels;
            this one did at least as well there.
    """
    abundant = len(statistics) > ABUNDANT_IMAGES_PER_CLASS * len(statistics.class_names)
    if variant == "supervised":
        distances = class_distances(statistics.features, statistics.classes)
    else:
        clusters = max(MIN_CLUSTERS, len(statistics.class_names))
        distances = cluster_distances(statistics.features, clusters, seed)
    hard = abundant if variant in ("auto", "supervised") else variant == "hard"
    scores = distances if hard else -distances
    if not statistics.classifies:
        return scores
    return guarantee_classes(scores, statistics.classes, CLASS_SHARE * keep_ratio, seed)


def cluster_distances(features: np.ndarray, num_clusters: int, seed: int) -> np.ndarray:
    """Cosine distance (N,) float64 of each image, features (N, F), to the nearest of k centroids."""
    return _cosine_distance(nearest_centres(features, num_clusters, seed)[1])


def class_distances(features: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Cosine distance (N,) float64 of each image, features (N, F), to the mean of its class, even if another is nearer."""
    from sklearn.preprocessing import normalize

    directions = normalize(features)
    classes, members = np.unique(labels, return_inverse=True)
    means = np.stack([directions[labels == c].mean(axis=0) for c in classes])
    return _cosine_distance(np.einsum("ij,ij->i", directions, normalize(means)[members]))


def guarantee_classes(scores: np.ndarray, labels: np.ndarray, share: float, seed: int) -> np.ndarray:
    """Ranks (N,) in (0, 1] of the scores, plus 1 for the best of each class.

    Args:
        scores: (N,), higher: keep.
        labels: (N,) integers.
        share: of each class's images, rounded down, that get the 1.
        seed: decides between equal scores at that limit.
    """
    from scipy.stats import rankdata

    ranks = rankdata(scores) / len(scores)
    order = np.lexsort((np.random.default_rng(seed).random(len(scores)), -ranks))
    for c in np.unique(labels):
        best_first = order[labels[order] == c]
        ranks[best_first[: int(share * len(best_first))]] += 1
    return ranks


def _cosine_distance(similarities: np.ndarray) -> np.ndarray:
    """1 - cosine, without the tiny negative values of rounding."""
    return np.clip(1 - similarities.astype(np.float64), 0, 2)
