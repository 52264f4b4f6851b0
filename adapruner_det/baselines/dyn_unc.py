"""Dyn-Unc: how much the probability of an image's class varies while a network trains.

He, Yang, Huang and Zhao, "Large-scale Dataset Pruning with Dynamic Uncertainty" (2023). With p_e the probability of the
right class in epoch e and windows of J = 10 epochs in a row, the score is

    mean over windows of the standard deviation (J - 1 below the sum) of p within the window.
"""

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from ..pruning.statistics import Statistics

WINDOW = 10  # epochs, as in the paper; trainings that are shorter have one window


def dyn_unc(statistics: Statistics, keep_ratio: float, seed: int) -> np.ndarray:
    """Keeps the images whose probability varied most while the proxy trained.

    The probability is exp(-loss), which holds for a cross-entropy without label smoothing.

    Raises:
        ValueError: the proxy trained less than two epochs.
    """
    return windowed_deviation(np.exp(-statistics.dynamics.losses.astype(np.float64)))


def windowed_deviation(values: np.ndarray, window: int = WINDOW) -> np.ndarray:
    """Mean over windows of the standard deviation in each, (N,), of values (E, N); NaN where not visited."""
    whole = values[~np.isnan(values).any(axis=1)]  # the last epoch may have been cut short
    if len(whole) < 2:
        raise ValueError("dyn_unc needs a proxy that trains two epochs or more: raise SOLVER.MAX_ITER")
    windows = sliding_window_view(whole, min(window, len(whole)), axis=0)
    return np.asarray(windows.std(axis=-1, ddof=1).mean(axis=0))
