"""Forgetting: how often an image was unlearned while the proxy trained.

Toneva et al. 2019, "An Empirical Study of Example Forgetting during Deep Neural Network Learning".

N images, E visits of each or measurements.
"""

import numpy as np

from .evidence import Evidence

# Counts are told apart down to here. Shares are float32: sums that ought to be equal are not quite.
_DECIMALS = 6


def forgetting(evidence: Evidence, keep_ratio: float, seed: int) -> np.ndarray:
    """Keeps the images forgotten most often, (N,) float64.

    The paper removes images in ascending order of their forgetting count (`forgetting_counts`), the
    unforgettable ones first. Ties are massive: on CIFAR-10 about a third of the images has the count 0
    in the paper's trainings, more than half in short ones. The authors' code draws among them, and so
    does the seed here. Ordered by their loss they would make another method of it: after 8 epochs it
    would prune what `high_loss` prunes.

    Caveat: images never learned, among them most of those with wrong labels, are kept first; at high
    pruning rates keeping the hardest images does worse than keeping random ones (Sorscher et al. 2022,
    "Beyond neural scaling laws: beating power law scaling via data pruning").
    """
    counts = forgetting_counts(evidence.dynamics().correct)
    draw = np.random.default_rng((seed, len(counts)))  # not the one of random selection by the same seed
    return counts + 10.0**-_DECIMALS / 2 * draw.random(len(counts))


def forgetting_counts(correct: np.ndarray) -> np.ndarray:
    """Number of times each image was forgotten; E for one never learned.

    For 0 and 1 this is the paper's count: a forgetting event is a fall from right to wrong between two
    visits in a row, so events are the falls summed up. An image that was never right has none, yet is
    taken as the most forgettable: it counts E, as in the authors' code, more than any that was learned.

    A detector's images are right to a share. What is summed is the same: a share falls by 1 / boxes
    when a box is lost, and the share never reached stands for the boxes never found, which count E
    each. So the number is the mean over the boxes of the count each would have had as an image of
    its own, if boxes get lost in the order opposite to that in which they are found; one found while
    another is lost goes unnoticed. The paper knows no shares: this form is ours.

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
