"""The nearest images of each image, by the angle between their features.

N images, F features, B of the images asked about, k neighbours of each.
"""

import numpy as np
import torch
from tqdm import tqdm

_BLOCK_BYTES = 2**27  # of similarities, or of differences, at a time


def unit_vectors(features: np.ndarray) -> np.ndarray:
    """(N, F) rows scaled to length 1, float32; where there are rows of zeros, (N, F + 1), they alone along
    the last axis."""
    norms = np.linalg.norm(features.astype(np.float64), axis=1, keepdims=True)
    zero = norms == 0
    units = features / np.where(zero, 1, norms)
    return np.hstack([units, zero] if zero.any() else [units]).astype(np.float32)


def nearest_neighbours(
    units: np.ndarray,
    length: int,
    images: np.ndarray | None = None,
    candidates: np.ndarray | None = None,
    progress: str | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """The nearest candidates to each image but itself, by comparing all with all, a block at a time.

    Args:
        units: (N, F) float32 rows of length 1.
        length: k, below the number of candidates.
        images: (B,) places of those asked about, which have to be among the candidates; None for all.
        candidates: places of those that may be found, rising; None for all.
        progress: what to call it on the screen; None shows nothing.

    Returns:
        (B, k) int64 places and (B, k) float64 cosine distances in [0, 2], rising along a row: the same
        from both sides, 0 for copies.
    """
    everything = np.arange(len(units))
    images = everything if images is None else images
    candidates = everything if candidates is None else candidates
    neighbours = np.empty((len(images), length), np.int64)
    distances = np.empty((len(images), length))
    vectors = torch.from_numpy(units)
    others = vectors[candidates]
    # The differences of a block are held in float32 and in float64.
    rows = max(1, _BLOCK_BYTES // max(4 * len(candidates), 12 * length * units.shape[1]))
    starts = range(0, len(images), rows)
    for start in tqdm(starts, progress, unit="block", delay=5, disable=progress is None):
        block = images[start : start + rows]
        similarities = vectors[block] @ others.T
        similarities[np.arange(len(block)), np.searchsorted(candidates, block)] = -np.inf
        nearest = candidates[similarities.topk(length).indices.numpy()]
        exact = _exact_distances(vectors, block, nearest)
        order = np.argsort(exact, axis=1)
        neighbours[start : start + rows] = np.take_along_axis(nearest, order, axis=1)
        distances[start : start + rows] = np.take_along_axis(exact, order, axis=1)
    return neighbours, distances


def _exact_distances(vectors: torch.Tensor, images: np.ndarray, others: np.ndarray) -> np.ndarray:
    """1 - cosine as ||a - b||^2 / 2: exact for near ones, where 1 - a b is rounding.

    Args:
        images: (B,). others: (B, k).

    Returns:
        (B, k) float64.
    """
    differences = vectors[images][:, None] - vectors[others]
    return (differences.double().square().sum(-1) / 2).numpy()
