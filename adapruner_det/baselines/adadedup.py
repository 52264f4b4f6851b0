"""AdaDeDup: duplicates go by cluster, and clusters that suffer from it keep more.

"AdaDeDup: Adaptive Hybrid Data Pruning for Efficient Large-Scale Object Detection Training" (2025). A first cut by density
within the clusters of the features; then a proxy's loss on the images that went is compared with that on those that
stayed, cluster by cluster: where it is higher, the cluster keeps more, where it is lower, less.

Left open, or otherwise here: the first cut is SemDeDup's. The proxy has trained on all images, where the paper's has
trained on those that stayed, which makes the difference smaller. A cluster's quota is what it kept times the ratio of the
mean losses, within [1/2, 2].
"""

import numpy as np

from ..pruning.adapruner import number_to_keep
from ..pruning.statistics import Statistics
from .clusters import nearest_centres
from .scores import divided, scores_of_quotas
from .semdedup import likeness

_LIMIT = 2.0


def adadedup(statistics: Statistics, keep_ratio: float, seed: int) -> np.ndarray:
    """Keeps the images least like others of their cluster, more of clusters whose pruned images have higher losses."""
    cluster, similarity = nearest_centres(statistics.features, round(len(statistics) ** 0.5), seed)
    scores = -likeness(statistics.features, cluster, similarity)
    _, cluster, sizes = np.unique(cluster, return_inverse=True, return_counts=True)
    keep = number_to_keep(len(scores), keep_ratio)
    kept = np.zeros(len(scores), bool)
    kept[np.argsort(-scores, kind="stable")[:keep]] = True
    weights = np.bincount(cluster, kept) * np.clip(loss_ratio(statistics.loss, cluster, kept), 1 / _LIMIT, _LIMIT)
    return scores_of_quotas(cluster, divided(keep, weights, sizes), scores)


def loss_ratio(losses: np.ndarray, cluster: np.ndarray, kept: np.ndarray) -> np.ndarray:
    """Mean loss of the images of each of K clusters that went over that of those that stayed, (K,); 1 if all did."""
    sums, counts = np.zeros((2, 2, cluster.max() + 1))
    np.add.at(sums, (kept.astype(int), cluster), losses)
    np.add.at(counts, (kept.astype(int), cluster), 1)
    means = sums / np.maximum(counts, 1)
    known = (counts > 0).all(axis=0) & (means[1] > 0)
    return np.divide(means[0], means[1], out=np.ones(len(known)), where=known)
