"""ZCore: images that stand alone for a part of the feature space.

Griffin, Marks and Corso, "Zero-Shot Coreset Selection: Efficient Pruning for Unlabeled Data" (2024). Again and again a
point is drawn in a few dimensions of the feature space, from a triangular distribution over each. The image nearest to
it gets 1 (coverage), and its neighbours share a loss of 1, by their distance to it to the power of -4 (redundancy).

Left open there, or otherwise here: features are the proxy's, not those of a foundation model. Points are drawn a tenth
of N at a time in each plane, 20 N in all (the paper: a million, whatever N); neighbours are 2% of the images, at most
100. Distances are city blocks, and the mode of the triangle is the median, as in the authors' code.
"""

import numpy as np

from ..pruning.statistics import Statistics

DIMENSIONS, PLANES, POINTS = 2, 200, 0.1  # POINTS: of N, in each plane
NEIGHBOURS, MOST, POWER = 0.02, 100, 4


def zcore(statistics: Statistics, keep_ratio: float, seed: int) -> np.ndarray:
    """Keeps the images that cover much of the feature space and have no like. Labels play no part."""
    features, rng = statistics.features.astype(np.float64), np.random.default_rng(seed)
    scores = rng.random(len(features))  # as in the paper: decides between images never met
    varied = np.flatnonzero(features.max(axis=0) > features.min(axis=0))
    for _ in range(PLANES if len(varied) else 0):
        plane = rng.choice(varied, min(DIMENSIONS, len(varied)), replace=False)
        scores += covered(features[:, plane], max(1, round(POINTS * len(features))), rng)
    return scores


def covered(features: np.ndarray, points: int, rng: np.random.Generator) -> np.ndarray:
    """What so many points add to the score of each image, (N,), its sum 0; features (N, D)."""
    from scipy.spatial import cKDTree  # here: it takes a while to import

    tree, count = cKDTree(features), len(features)
    low, middle, high = features.min(axis=0), np.median(features, axis=0), features.max(axis=0)
    _, nearest = tree.query(rng.triangular(low, middle, high, (points, len(low))), p=1)
    chosen, times = np.unique(nearest, return_counts=True)
    score = np.bincount(nearest, minlength=count).astype(np.float64)
    neighbours = min(count, 1 + max(1, min(MOST, int(NEIGHBOURS * count))))
    distances, places = tree.query(features[chosen], neighbours, p=1)
    weights = (distances + 1e-9 * (high - low).max()) ** -POWER
    weights[places == chosen[:, None]] = 0  # itself, which need not be the first where there are copies
    loss = times[:, None] * weights / weights.sum(axis=1, keepdims=True)
    return score - np.bincount(places.ravel(), loss.ravel(), count)
