"""Forgetting: how often an image was unlearned while the proxy trained.

Toneva et al. 2019, "An Empirical Study of Example Forgetting during Deep Neural Network Learning".

N images, E visits of each or measurements.
"""

import numpy as np

from ..pruning.statistics import Statistics

# Counts are told apart down to here. Shares are float32: sums that ought to be equal are not quite.
_DECIMALS = 6


def forgetting(statistics: Statistics, keep_ratio: float, seed: int) -> np.ndarray:
    """Keeps the images forgotten most often while the proxy trained.

    The paper removes images in ascending order of their forgetting count, the unforgettable ones first. Ties are
    massive: on CIFAR-10 about a third of the images has the count 0. The authors' code draws among them, and so does
    the seed here. Ordered by their loss they would make another method of it.

    Caveat: images never learned are kept first, among them most of those with wrong labels. At high pruning rates
    keeping the hardest images does worse than keeping random ones (Sorscher et al. 2022).
    """
    counts = forgetting_counts(statistics.dynamics.correct)
    draw = np.random.default_rng((seed, len(counts)))  # not the one of random selection by the same seed
    return counts + 10.0**-_DECIMALS / 2 * draw.random(len(counts))


def forgetting_counts(correct: np.ndarray) -> np.ndarray:
    """Number of times each image was forgotten; E for one never learned, as in the authors' code.

    A forgetting event is a fall from right to wrong between two visits in a row, so the count is the sum of the falls.
    A detector's images are right to a share, which falls by 1 / boxes when a box is lost. A box lost while another is found
    is not seen, and what the best share lacks counts E, as if it were of boxes never found. The paper knows no shares: this
    form is ours.

    Args:
        correct: (E, N) in [0, 1], NaN where an image was not visited: the visit is left out.

    Returns:
        (N,) float64 in [0, E], rounded to 6 decimals. NaN for an image never visited.
    """
    last, falls, best = correct[0], np.zeros(correct.shape[1]), correct[0]
    for now in correct[1:]:
        # Before its first visit an image is not known to be right, hence cannot be forgotten.
        falls += np.fmax(last - now, 0)
        last = np.where(np.isnan(now), last, now)
        best = np.fmax(best, now)
    return np.round(falls + len(correct) * (1 - best.astype(np.float64)), _DECIMALS)
