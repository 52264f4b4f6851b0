"""OFDS: images of the objects nearest to the centres of clusters of their class, rare classes first.

Popp, Zhang, Metzen, Hein and Schott, "Object-Focused Data Selection for Dense Prediction Tasks" (2024). Each class has an
equal budget of objects. From the rarest class on, its objects are clustered by their features into as many clusters as
its budget has left, less the objects that images chosen before have brought along. Of each the object nearest to the
centre brings its image along, with all objects that are in it.

Left open, or otherwise here: features are the proxy's, labels are known (the paper's come from a foundation model). Where
images with several objects leave places over, budgets grow, and there are further rounds with the objects of images not
chosen. Images without objects come last, in random order.

k-means takes up to 20 n K F multiplications for n objects of a class in K clusters: hours of a core for 100,000 images of
one class at 0.5.
"""

import numpy as np

from ..pruning.adapruner import number_to_keep
from ..pruning.neighbors import unit_vectors
from ..pruning.statistics import Statistics
from .scores import scores_of_order


def ofds(statistics: Statistics, keep_ratio: float, seed: int) -> np.ndarray:
    """Keeps the images of the objects that stand for clusters of their class, the same number a class."""
    num = len(statistics)
    objects, classes, images = statistics.single_objects()
    chosen = chosen_images(unit_vectors(objects), classes, images, num, keep_ratio, seed)
    rest = np.random.default_rng(seed).permutation(np.setdiff1d(np.arange(num), chosen))
    without = ~np.isin(rest, images)
    return scores_of_order(np.concatenate([chosen, rest[~without], rest[without]]).astype(np.int64))


def chosen_images(
    units: np.ndarray, classes: np.ndarray, images: np.ndarray, num: int, keep_ratio: float, seed: int
) -> list[int]:
    """The images that stay, or all with objects if these are fewer, from M objects: (M, F), (M,), (M,)."""
    keep = min(number_to_keep(num, keep_ratio), len(np.unique(images)))
    names, classes, counts = np.unique(classes, return_inverse=True, return_counts=True)
    chosen: dict[int, None] = {}
    budget = 0  # of each class, in objects
    while len(chosen) < keep:
        free = ~np.isin(images, list(chosen))
        covered = np.bincount(classes[~free], minlength=len(names))
        unfinished = np.bincount(classes[free], minlength=len(names)) > 0
        share = -(-(keep - len(chosen)) // len(names))
        budget = max(budget + share, 1 + int(covered[unfinished].min()))  # else thousands of rounds may choose nothing
        for c in np.argsort(counts, kind="stable"):
            free = ~np.isin(images, list(chosen))
            own = np.flatnonzero(free & (classes == c))
            left = budget - int(np.count_nonzero(~free & (classes == c)))
            for image in images[own[_central(units[own], left, seed)]] if left > 0 else ():
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
