"""CCS: every degree of difficulty is covered, but the hardest images go.

Zheng, Liu, Lai and Prakash, "Coverage-centric Coreset Selection for High Pruning Rates" (2023). The hardest share beta
goes. The rest is cut into strata of equal width of difficulty, the places are divided equally among them, the stratum
with the fewest images first, and each draws its own.

Left open there, or otherwise here: the paper searches beta for each data set and ratio; here it is a third of what goes.
Difficulty is the mean loss while the proxy trained (the paper has the area under the margin, which detectors lack).
"""

import numpy as np

from ..pruning.adapruner import number_to_keep
from ..pruning.statistics import Statistics
from .mean_loss import mean_loss

STRATA = 50  # as in the paper
HARDEST = 1 / 3  # of the images that go


def ccs(statistics: Statistics, keep_ratio: float, seed: int) -> np.ndarray:
    """Keeps the images of a draw with equal quotas for all degrees of difficulty, without the hardest."""
    difficulty, rng = mean_loss(statistics, keep_ratio, seed), np.random.default_rng(seed)
    keep = number_to_keep(len(difficulty), keep_ratio)
    scores = rng.random(len(difficulty))
    scores[stratified(difficulty, keep, rng)] += 1
    return scores


def stratified(difficulty: np.ndarray, keep: int, rng: np.random.Generator) -> np.ndarray:
    """The places (keep,) of the images that stay, of difficulties (N,)."""
    rest = np.argsort(difficulty, kind="stable")[: len(difficulty) - int(HARDEST * (len(difficulty) - keep))]
    limits = np.linspace(difficulty[rest[0]], difficulty[rest[-1]], STRATA + 1)[1:-1]
    stratum = np.digitize(difficulty[rest], limits)
    strata = sorted((rest[stratum == s] for s in np.unique(stratum)), key=len)
    chosen: list[np.ndarray] = []
    for place, members in enumerate(strata):
        budget = (keep - sum(map(len, chosen))) // (len(strata) - place)
        chosen.append(rng.permutation(members)[:budget])
    return np.concatenate(chosen)
