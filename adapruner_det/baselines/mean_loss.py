"""Mean loss: how hard an image was to learn. The simplest measure there is, a control rather than a paper's method."""

import numpy as np

from ..pruning.statistics import Statistics


def mean_loss(statistics: Statistics, keep_ratio: float, seed: int, variant: str = "high") -> np.ndarray:
    """Keeps the images with the highest mean loss while the proxy trained, or with the lowest.

    Caveat: wrong labels have high losses too. Of small selections the easy images make the better ones (Sorscher et al.
    2022, "Beyond neural scaling laws: beating power law scaling via data pruning").

    Args:
        variant: "high" or "low".

    Raises:
        ValueError: an image was never visited.
    """
    losses = statistics.dynamics.losses
    visited = ~np.isnan(losses)
    visits = visited.sum(axis=0)
    if not visits.all():
        never = np.flatnonzero(visits == 0)
        raise ValueError(
            f"the proxy never visited {len(never)} of {len(visits)} images, at positions "
            f"{never[:5].tolist()} first: train it for an epoch or more (SOLVER.MAX_ITER)"
        )
    mean = np.sum(losses, axis=0, where=visited, dtype=np.float64) / visits
    return -mean if variant == "low" else mean
