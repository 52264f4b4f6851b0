"""The nearest images of each image, by the angle between their features (N images, F features)."""

import numpy as np


def unit_vectors(features: np.ndarray) -> np.ndarray:
    """Rows of length 1, float32: (N, F), or (N, F + 1) with rows of zeros alone along the last axis."""
    norms = np.linalg.norm(features.astype(np.float64), axis=1, keepdims=True)
    zero = norms == 0
    units = features / np.where(zero, 1, norms)
    return np.hstack([units, zero] if zero.any() else [units]).astype(np.float32)


def nearest_neighbours(
    units: np.ndarray, length: int, images: np.ndarray | None = None, candidates: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """The k nearest candidates to each image but itself: (B, k) places and float64 cosine distances, rising.

    Args:
        units: (N, F) float32 rows of length 1.
        length: k, below the number of candidates.
        images: (B,) places of those asked about, which have to be among the candidates; None for all.
        candidates: places of those that may be found; None for all.
    """
    from sklearn.neighbors import NearestNeighbors  # here, as it takes a second to import

    everything = np.arange(len(units))
    images = everything if images is None else images
    candidates = everything if candidates is None else candidates
    search = NearestNeighbors(n_neighbors=length + 1, algorithm="brute").fit(units[candidates])
    places = candidates[search.kneighbors(units[images], return_distance=False)]
    own = places == images[:, None]
    own[~own.any(axis=1), -1] = True  # more copies than places: the image itself is not in its list
    places = places[~own].reshape(-1, length)
    distances = np.stack([_distances(units[images], units[column]) for column in places.T], axis=1)
    order = np.argsort(distances, axis=1, kind="stable")
    return np.take_along_axis(places, order, axis=1), np.take_along_axis(distances, order, axis=1)


def _distances(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """1 - cosine of the rows of two (B, F), as half the squared distance: exact for near ones, 0 for copies."""
    return np.square((one - other).astype(np.float64)).sum(axis=1) / 2
