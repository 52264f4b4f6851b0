"""OFDS: images of the objects nearest to the centres of clusters of their class, rare classes first.

Popp, Zhang, Metzen, Hein and Schott, "Object-Focused Data Selection for Dense Prediction Tasks" (2024). Each class has an
equal budget. From the rarest class on, its objects are clustered by their features into as many clusters as its budget
still has. Of each the object nearest to the centre brings its image along, with all objects that are in it.

Left open, or otherwise here: features are the proxy's, labels are known (the paper's come from a foundation model). Where
images with several objects leave places over, there are further rounds with the objects of images not chosen. Images
without objects come last, in random order.
"""

import numpy as np

from ..pruning.adapruner import number_to_keep
from ..pruning.neighbors import unit_vectors
from ..pruning.statistics import Statistics
from .scores import scores_of_order


def ofds(statistics: Statistics, keep_ratio: float, seed: int) -> np.ndarray:
    """Keeps the images of the objects that stand for clusters of their class, the same number a class."""
    num, labels = len(statistics), statistics.labels
    chosen = chosen_images(unit_vectors(statistics.objects), labels.classes, labels.images, num, keep_ratio, seed)
    rest = np.random.default_rng(seed).permutation(np.setdiff1d(np.arange(num), chosen))
    without = ~np.isin(rest, labels.images)
    return scores_of_order(np.concatenate([chosen, rest[~without], rest[without]]).astype(np.int64))


def chosen_images(
    units: np.ndarray, classes: np.ndarray, images: np.ndarray, num: int, keep_ratio: float, seed: int
) -> list[int]:
    """The images that stay, or all with objects if these are fewer, from M objects: (M, F), (M,), (M,)."""
    keep = min(number_to_keep(num, keep_ratio), len(np.unique(images)))
    names, counts = np.unique(classes, return_counts=True)
    chosen: dict[int, None] = {}
    while len(chosen) < keep:
        budget = -(-(keep - len(chosen)) // len(names))  # of each class, in this round
        for c in names[np.argsort(counts, kind="stable")]:
            own = np.flatnonzero((classes == c) & ~np.isin(images, list(chosen)))
            for image in images[own[_central(units[own], budget, seed)]]:
                if len(chosen) < keep:
                    chosen[int(image)] = None
    return list(chosen)


def _central(units: np.ndarray, num_clusters: int, seed: int) -> np.ndarray:
    """The places of the objects nearest to the centres of so many clusters, of objects (n, F)."""
    from sklearn.cluster import KMeans  # here: it takes a second
    from sklearn.metrics import pairwise_distances_argmin

    if len(units) <= num_clusters:
        return np.arange(len(units))
    centres = KMeans(num_clusters, n_init=1, max_iter=20, random_state=seed).fit(units).cluster_centers_
    return np.unique(pairwise_distances_argmin(centres, units))
