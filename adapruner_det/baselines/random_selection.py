"""Random: the baseline every pruning method has to beat."""

import numpy as np

METHOD = "random"


def random_scores(num_samples: int, seed: int) -> np.ndarray:
    """A uniform score for each of N samples, (N,) float64; the highest are to be kept.

    Cutting the same scores at several ratios gives nested random subsets.
    """
    return np.random.default_rng(seed).random(num_samples)
