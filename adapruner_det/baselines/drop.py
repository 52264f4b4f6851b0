"""DRoP: classes with a higher error keep more of their images, drawn at random.

Vysogorets, Ahuja and Kempe, "DRoP: Distributionally Robust Data Pruning" (2025). Of N_k images of class k with the error
r_k of a network, the share d_k = d r_k / Z stays, Z = sum_k r_k N_k / N; what a class cannot fill goes to the others.

Otherwise here: the paper measures the error on held-out images. Here it is that of the images themselves while the proxy
trains, before each step (detection: the share of boxes not found). An image with boxes is of its rarest class.
"""

import numpy as np

from ..pruning.statistics import Statistics
from .scores import divided, rarest_classes, scores_of_quotas


def drop(statistics: Statistics, keep_ratio: float, seed: int) -> np.ndarray:
    """Keeps the images of a draw with quotas for classes by the error of the proxy."""
    wrong = 1 - np.nanmean(statistics.dynamics.correct, axis=0, dtype=np.float64)
    _, classes, sizes = np.unique(rarest_classes(statistics), return_inverse=True, return_counts=True)
    quotas = divided(keep_ratio * len(classes), np.bincount(classes, wrong), sizes)
    return scores_of_quotas(classes, quotas, np.random.default_rng(seed).random(len(classes)))
