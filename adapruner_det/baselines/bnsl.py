"""Prototypes: how far an image lies from the nearest cluster of its like.

Sorscher, Geirhos, Shekhar, Ganguli and Morcos, "Beyond neural scaling laws: beating power law scaling via
data pruning" (2022): k-means in the embedding space of a network; the difficulty of an image is its cosine
distance to the nearest centroid, its prototype. Which side to keep depends on how much data there is: the
hard images (far) of an abundant set, the easy ones (near) of a scarce one.

Left open there, or otherwise here:
- The features are those of the proxy, as for every other baseline, not of a self-supervised network.
- They are scaled to length 1 before k-means, so that clusters and distance mean the same by "near".
- There are as many clusters as classes, but at least MIN_CLUSTERS: a detector's images of one class would
  have one prototype. The paper found ten times more or fewer to do as well.
- It found balanced classes essential. Here each class keeps at least CLASS_SHARE of what it would keep if all
  were cut alike; for classification only, where an image has one class.

N images, C classes, F features, k prototypes.
"""

import numpy as np
from scipy.stats import rankdata
from sklearn.cluster import KMeans
from sklearn.preprocessing import normalize

from .evidence import CLASSIFICATION, Evidence

# The paper gives no number. It keeps the hard images of CIFAR-10 (5,000 a class) and of ImageNet (about
# 1,280); starting from a fifth of CIFAR-10 (1,000), by an account of it (The Batch, deeplearning.ai), the
# easy ones do better. The limit agrees with these three: a rule made from them, not a measured one, with
# little to say of images with many boxes.
ABUNDANT_IMAGES_PER_CLASS = 1000
CLASS_SHARE = 0.5
MIN_CLUSTERS = 10


def bnsl(evidence: Evidence, keep_ratio: float, seed: int) -> np.ndarray:
    """Far from the prototypes first in an abundant set, near to them first in a scarce one.

    Abundant: more than ABUNDANT_IMAGES_PER_CLASS images a class (N / C) before pruning.

    Returns:
        (N,) float64, higher: keep.
    """
    return (bnsl_hard if is_abundant(evidence) else bnsl_easy)(evidence, keep_ratio, seed)


def bnsl_hard(evidence: Evidence, keep_ratio: float, seed: int) -> np.ndarray:
    """Far from the prototypes first. Returns (N,) float64, higher: keep."""
    return _balanced(_distances(evidence, seed), evidence, keep_ratio, seed)


def bnsl_easy(evidence: Evidence, keep_ratio: float, seed: int) -> np.ndarray:
    """Near to the prototypes first. Returns (N,) float64, higher: keep."""
    return _balanced(-_distances(evidence, seed), evidence, keep_ratio, seed)


def bnsl_supervised(evidence: Evidence, keep_ratio: float, seed: int) -> np.ndarray:
    """The paper's "supervised prototypes": the means of the classes. Side by regime. Classification only.

    The paper's own proposal needs no labels and is the one above; this one needs them and did at least as
    well there.

    Returns:
        (N,) float64, higher: keep.
    """
    distances = class_distances(evidence.features(), evidence.labels)
    return _balanced(distances if is_abundant(evidence) else -distances, evidence, keep_ratio, seed)


def is_abundant(evidence: Evidence) -> bool:
    """Whether there are so many images a class that the hard ones are to be kept."""
    return len(evidence.labels) > ABUNDANT_IMAGES_PER_CLASS * evidence.num_classes


def cluster_distances(features: np.ndarray, num_clusters: int, seed: int) -> np.ndarray:
    """Cosine distance of each image to the nearest k-means centroid.

    Args:
        features: (N, F). A row of zeros points nowhere; its cosine with everything counts as 0.
        num_clusters: k; N where there are fewer images.

    Returns:
        (N,) float64 in [0, 2].
    """
    directions = normalize(features)
    # k-means starts from random positions in the list: in an order of its own, the result does not depend
    # on how the data set lists its images.
    listed = directions[np.lexsort(directions.T)]
    k_means = KMeans(min(num_clusters, len(features)), n_init=1, random_state=seed).fit(listed)
    similarities = directions @ normalize(k_means.cluster_centers_).T
    return _cosine_distance(similarities.max(axis=1))


def class_distances(features: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Cosine distance of each image to the mean of its own class.

    To its own and not the nearest, since class and cluster are to be the same thing: an image of another
    class's looks is hard.

    Args:
        features: (N, F).
        labels: (N,) integers.

    Returns:
        (N,) float64 in [0, 2].
    """
    directions = normalize(features)
    classes, members = np.unique(labels, return_inverse=True)
    means = np.stack([directions[labels == c].mean(axis=0) for c in classes])
    return _cosine_distance(np.einsum("ij,ij->i", directions, normalize(means)[members]))


def guarantee_classes(scores: np.ndarray, labels: np.ndarray, share: float, seed: int) -> np.ndarray:
    """Puts the best of each class before all others; within and after them the order stays.

    Args:
        scores: (N,), higher: keep.
        labels: (N,) integers.
        share: of each class's images, rounded down, that come first.
        seed: decides between equal scores at that limit.

    Returns:
        (N,) float64: the rank of the score in (0, 1], the same for equal scores, plus 1 for those that come
        first.
    """
    ranks = rankdata(scores) / len(scores)
    order = np.lexsort((np.random.default_rng(seed).random(len(scores)), -ranks))
    for c in np.unique(labels):
        best_first = order[labels[order] == c]
        ranks[best_first[: int(share * len(best_first))]] += 1
    return ranks


def _distances(evidence: Evidence, seed: int) -> np.ndarray:
    return cluster_distances(evidence.features(), max(MIN_CLUSTERS, evidence.num_classes), seed)


def _balanced(scores: np.ndarray, evidence: Evidence, keep_ratio: float, seed: int) -> np.ndarray:
    if evidence.task != CLASSIFICATION:
        return scores
    return guarantee_classes(scores, evidence.labels, CLASS_SHARE * keep_ratio, seed)


def _cosine_distance(similarities: np.ndarray) -> np.ndarray:
    """1 - cosine, without the tiny negative values of rounding."""
    return np.clip(1 - similarities.astype(np.float64), 0, 2)
