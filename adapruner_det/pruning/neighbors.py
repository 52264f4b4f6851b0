"""The nearest images of each image, by the angle between their features.

N images, F features, B of the images asked about, k neighbours of each.
"""

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
    """The nearest candidates to each image but itself, by comparing all with all.

    Args:
        units: (N, F) float32 rows of length 1.
        length: k, below the number of candidates.
        images: (B,) places of those asked about, which have to be among the candidates; None for all.
        candidates: places of those that may be found; None for all.

    Returns:
        (B, k) int64 places and (B, k) float64 cosine distances in [0, 2], rising along a row.
    """
    from sklearn.neighbors import NearestNeighbors  # here, as it takes a second to import

    everything = np.arange(len(units))
    images = everything if images is None else images
    candidates = everything if candidates is None else candidates
    search = NearestNeighbors(n_neighbors=length + 1, algorithm="brute").fit(units[candidates].astype(np.float64))
    distances, places = search.kneighbors(units[images].astype(np.float64))
    places = candidates[places]
    own = places == images[:, None]
    own[~own.any(axis=1), -1] = True  # more copies than places: the image itself is not in its list
    # 1 - cosine is half the squared distance of unit vectors.
    return places[~own].reshape(-1, length), np.square(distances[~own].astype(np.float64)).reshape(-1, length) / 2
