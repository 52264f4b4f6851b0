"""Mean loss: how hard an image was to learn while the proxy trained, and its two sides.

The simplest measure there is, a control for the others rather than one paper's method: the loss of
each image at its visits, averaged over the whole training, so that it tells how soon the image was
learned and how well.

N images, E epochs.
"""

import numpy as np

from .evidence import Evidence


def high_loss(evidence: Evidence, keep_ratio: float, seed: int) -> np.ndarray:
    """Keeps the images with the highest mean loss, (N,) float64.

    Caveat: wrong labels have high losses too, and of small selections the easy images make the better
    ones (Sorscher et al. 2022, "Beyond neural scaling laws: beating power law scaling via data
    pruning"). `low_loss` is the other side.
    """
    return mean_losses(evidence.dynamics().losses)


def low_loss(evidence: Evidence, keep_ratio: float, seed: int) -> np.ndarray:
    """Keeps the images with the lowest mean loss, (N,) float64. See `high_loss`."""
    return -mean_losses(evidence.dynamics().losses)


def mean_losses(losses: np.ndarray) -> np.ndarray:
    """Mean over an image's visits.

    Args:
        losses: (E, N), NaN where an image was not visited.

    Returns:
        (N,) float64.

    Raises:
        ValueError: an image was never visited.
    """
    visited = ~np.isnan(losses)
    visits = visited.sum(axis=0)
    if not visits.all():
        never = np.flatnonzero(visits == 0)
        raise ValueError(
            f"the proxy never visited {len(never)} of {len(visits)} images, at positions "
            f"{never[:5].tolist()} first: train it for an epoch or more (SOLVER.MAX_ITER)"
        )
    return np.sum(losses, axis=0, where=visited, dtype=np.float64) / visits
