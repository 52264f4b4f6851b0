"""SemDeDup: of images that are alike within a cluster, the one farthest from its centre stays.

Abbas, Tirumala, Simig, Ganguli and Morcos, "SemDeDup: Data-efficient learning at web-scale through semantic
deduplication" (2023). Within each cluster of k-means, images in falling distance to the centre; one goes if its cosine
similarity to any before it is above 1 - epsilon. The score is minus the largest similarity to one before it, so that the
ratio sets epsilon.

Otherwise here: features are the proxy's, and there are sqrt(N) clusters (the paper: 50,000 for 440 million images).
"""

import numpy as np

from ..pruning.neighbors import unit_vectors
from ..pruning.statistics import Statistics
from .clusters import nearest_centres


def semdedup(statistics: Statistics, keep_ratio: float, seed: int) -> np.ndarray:
    """Keeps the images least like one of their cluster that is farther from its centre. Labels play no part."""
    cluster, similarity = nearest_centres(statistics.features, round(len(statistics) ** 0.5), seed)
    return -likeness(statistics.features, cluster, similarity)


_ROWS = 1024  # of cosines at a time


def likeness(features: np.ndarray, cluster: np.ndarray, similarity: np.ndarray) -> np.ndarray:
    """The largest cosine of each image to one of its cluster that is less similar to the centre, (N,); -1 for none."""
    units, largest = unit_vectors(features), np.full(len(features), -1.0)
    for c in np.unique(cluster):
        members = np.flatnonzero(cluster == c)
        members = members[np.argsort(similarity[members], kind="stable")]
        for start in range(0, len(members), _ROWS):
            rows = members[start : start + _ROWS]
            cosines = units[rows] @ units[members[: start + len(rows)]].T
            cosines[np.arange(cosines.shape[1]) >= start + np.arange(len(rows))[:, None]] = -1  # it and those behind it
            largest[rows] = cosines.max(axis=1)
    return largest
