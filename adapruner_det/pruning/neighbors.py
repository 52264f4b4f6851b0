"""The nearest images of each image, by the angle between their features (N images, F features)."""

import logging
from importlib.util import find_spec

import numpy as np

LARGE = 50_000  # images, beyond which not all are compared with all
_SEARCHED = 32  # of sqrt(N) lists
_SLOW = 4 * LARGE  # images that take minutes all with all

logger = logging.getLogger(__name__)


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
    return _others(units, images, candidates[search.kneighbors(units[images], return_distance=False)])


def nearest_of_all(
    units: np.ndarray, length: int, images: np.ndarray | None = None, candidates: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """As `nearest_neighbours`, of many candidates nearly so.

    Beyond `LARGE` candidates those in the nearest 32 of sqrt(N) lists of faiss are looked at (inverted lists, Jegou et al. 2011).
    On 50,000 CIFAR-10 images these are all neighbours that are as good as copies, and 97 to 99% of the redundancy (docs/performance.md).
    An image whose lists hold fewer than k is compared with all, and without faiss all are.
    """
    number = len(units if candidates is None else candidates)
    if number <= LARGE or not find_spec("faiss"):
        if number > _SLOW:
            logger.warning(
                f"{number:,} images of one class are compared all with all: faiss-cpu makes that fast (pip install 'adapruner_det[large]')"
            )
        return nearest_neighbours(units, length, images, candidates)
    import faiss

    everything = np.arange(len(units))
    images = everything if images is None else images
    candidates = everything if candidates is None else candidates
    listed = np.ascontiguousarray(units[candidates])
    lists = faiss.IndexIVFFlat(
        faiss.IndexFlatIP(units.shape[1]), units.shape[1], round(number**0.5), faiss.METRIC_INNER_PRODUCT
    )
    lists.train(listed)
    lists.add(listed)
    lists.nprobe = _SEARCHED
    found = lists.search(np.ascontiguousarray(units[images]), length + 1)[1]
    lacking = (found < 0).any(axis=1)  # faiss has -1 for a place
    if not lacking.any():
        return _others(units, images, candidates[found])
    places, distances = np.empty((len(images), length), np.int64), np.empty((len(images), length))
    full = ~lacking
    if full.any():
        places[full], distances[full] = _others(units, images[full], candidates[found[full]])
    places[lacking], distances[lacking] = nearest_neighbours(units, length, images[lacking], candidates)
    return places, distances


def _others(units: np.ndarray, images: np.ndarray, places: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Lists (B, k + 1) of places without each image itself, and their distances, both sorted by these; (B, k) each."""
    own = places == images[:, None]
    own[~own.any(axis=1), -1] = True  # more copies than places: the image itself is not in its list
    places = places[~own].reshape(len(images), -1)
    distances = np.stack([_distances(units[images], units[column]) for column in places.T], axis=1)
    order = np.argsort(distances, axis=1, kind="stable")
    return np.take_along_axis(places, order, axis=1), np.take_along_axis(distances, order, axis=1)


def _distances(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """1 - cosine of the rows of two (B, F), as half the squared distance: exact for near ones, 0 for copies."""
    return np.square((one - other).astype(np.float64)).sum(axis=1) / 2
