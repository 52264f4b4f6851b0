"""Scores next to those of near neighbours: of images that are alike, one has to do for the others.

A loss sees one image at a time, so it cannot tell that two of them teach the same, nor that an image is hard
because all that look like it are. Here an image is compared with its neighbours, and who is taken lowers
the scores of those near it, as the reverse messages of D2 Pruning do (Maharana, Yadav and Bansal, "D2
Pruning: Message Passing for Balancing Diversity and Difficulty in Data Pruning", 2023).

N samples, F features, k neighbours in a list.
"""
import heapq
from dataclasses import dataclass
from typing import Optional

import numpy as np

from ..neighbours import nearest_neighbours, unit_vectors

_BASELINE_NEIGHBOURS = 10
_NARROWEST = 1e-6  # kernel, in cosine distance: what lies closer differs by rounding alone
_COMPONENTS, _SAMPLES_A_COMPONENT = 128, 8  # at most, of what features vary in; at least, to know it
_ROUNDING = 1e-4  # of the largest singular value: features come from bfloat16


@dataclass(frozen=True)
class Comparison:
    """How scores are compared with those of near neighbours.

    A score first loses `baseline` times the median score of the ten nearest samples: what is left is the
    sample's own. It then counts by its rank r, from 0 to 1, as 1 - (1 - r)^power. With power 1 that is the
    rank; the higher the power, the less the better samples differ, so that only the worst are told from others
    by their score. To this `chance` times the sample's lot is added, a number drawn between 0 and 1, which
    decides between samples that nothing else tells from each other.

    A sample then loses strength times exp(-(2 d / w)^2), d being its cosine distance from the nearest sample
    that is taken: with strength 1, a copy of a sample taken counts no more than whoever is like none of them.
    w is the distance at which samples lie from each other once a share of c is left of them, the median
    distance of a sample from its (1 / c)-th neighbour; what is much nearer than half of it is as good as a
    copy. (In D2 Pruning the discounts of all neighbours taken add up: the longer the lists, the more samples
    of a crowded but varied region fall below copies.)

    Attributes:
        strength: at least 0; with 0 the order is that of the scores, whatever the rest is.
        power: at least 1; 1 takes ranks as they are.
        baseline: at least 0; 0 takes scores as they are.
        chance: at least 0; with 0 lots decide between equals only.
        num_neighbours: k; neighbours further than the k-th are not asked.
    """

    strength: float
    power: float = 1.0
    baseline: float = 0.0
    chance: float = 0.0
    num_neighbours: int = 32


def discounted_order(
    scores: np.ndarray,
    features: np.ndarray,
    comparison: Comparison,
    keep_ratio: float = 1.0,
    lots: Optional[np.ndarray] = None,
) -> np.ndarray:
    """The order in which samples are taken, the one with the highest score that is left each time.

    Args:
        scores: (N,), higher: take first.
        features: (N, F); only their directions count, see `whitened`.
        comparison: what is made of the scores.
        keep_ratio: c, above 0.
        lots: (N,) from 0 to 1, no two alike. None: drawn by the samples' places, always the same.

    Returns:
        (N,) int64, a permutation; the sample taken first comes first.
    """
    num, strength = len(scores), comparison.strength
    lots = np.random.default_rng(0).permutation(num) / num if lots is None else lots
    if strength == 0 or num < 2:
        return np.lexsort((lots, -scores))
    units = unit_vectors(features)
    lists, distances = nearest_neighbours(
        units, min(comparison.num_neighbours, num - 1), progress="Neighbours"
    )
    rank = ranks(_beyond_neighbours(scores, lists, comparison.baseline))
    # All of them one less, so that the best differ by more than rounding.
    base = comparison.chance * lots - (1 - rank) ** comparison.power
    taken = _Taken(units, lists, distances, keep_ratio)
    # What a sample waits with is never too low: what is taken only comes nearer.
    queue = [(-base[i], lots[i], i) for i in range(num)]
    heapq.heapify(queue)
    while queue:
        waited, _, sample = queue[0]
        score = base[sample] - strength * taken.kernel(sample)
        if score < -waited:
            heapq.heapreplace(queue, (-score, lots[sample], sample))
        else:
            heapq.heappop(queue)
            taken.add(sample)
    return taken.order


def discounted_scores(
    scores: np.ndarray,
    kept: np.ndarray,
    features: np.ndarray,
    comparison: Comparison,
    groups: Optional[np.ndarray] = None,
    lots: Optional[np.ndarray] = None,
) -> np.ndarray:
    """Scores that keep as many samples as before, those that `discounted_order` takes first.

    Args:
        scores: (N,).
        kept: (N,) bool, the verdict without a discount.
        features: (N, F) of a trained model, as they are.
        comparison: what is made of the scores.
        groups: (N,) integers; each group is a set by itself and keeps as many as it did. None for one.
        lots: (N,), see there.

    Returns:
        (N,) float64 in (-1, 1), above zero for those to keep: how far inside or outside the cut each one
        stands, as a share of its group. No two of a group are equal.
    """
    discounted = np.empty(len(scores))
    features = whitened(features)
    groups = np.zeros(len(scores), int) if groups is None else groups
    for group in np.unique(groups):
        own = np.flatnonzero(groups == group)
        drawn = None if lots is None else lots[own]
        order = own[discounted_order(scores[own], features[own], comparison, kept[own].mean(), drawn)]
        discounted[order] = (kept[own].sum() - np.arange(len(own)) - 0.5) / len(own)
    return discounted


def whitened(features: np.ndarray) -> np.ndarray:
    """The principal components of the features, each scaled to variance 1.

    The features of a trained detector vary in a few directions a lot, by what the classes are, and in many
    others a little, which is what tells two pictures from two copies of one (docs/method.md).

    Args:
        features: (N, F).

    Returns:
        (N, G) float32. G is 128, less where there are fewer features or fewer than 8 samples each, as
        directions in which few samples vary put all of them at the same distance, and where the features
        vary in fewer directions, as what remains is rounding. Features that hardly vary are returned as
        they are.
    """
    num, size = features.shape
    components = min(_COMPONENTS, size, num // _SAMPLES_A_COMPONENT)
    if components < 2 or not np.ptp(features, axis=0).any():
        return features
    from sklearn.decomposition import PCA  # here, so that the method itself needs nothing but torch

    pca = PCA(components, whiten=True, random_state=0)
    white = pca.fit_transform(features.astype(np.float64))
    return white[:, pca.singular_values_ > _ROUNDING * pca.singular_values_[0]].astype(np.float32)


def ranks(scores: np.ndarray) -> np.ndarray:
    """Each score's rank, from 0 for the lowest to 1 for the highest; the mean of theirs for equals."""
    _, which, times = np.unique(scores, return_inverse=True, return_counts=True)
    last = np.cumsum(times) - 1
    return (last - (times - 1) / 2)[which] / max(1, len(scores) - 1)


def _beyond_neighbours(scores: np.ndarray, lists: np.ndarray, share: float) -> np.ndarray:
    """(N,) scores less a share of the median score of the nearest neighbours, whose places are (N, k) lists."""
    return scores - share * np.median(scores[lists[:, :_BASELINE_NEIGHBOURS]], axis=1)


class _Taken:
    """The samples taken so far, and how much like the nearest of them each sample is.

    Attributes:
        order: (N,) int64; of these, the first `count` are taken.
    """

    def __init__(self, units: np.ndarray, lists: np.ndarray, distances: np.ndarray, keep_ratio: float):
        self._units, self._lists, self._distances = units, lists, distances
        num, length = lists.shape
        place = min(round(1 / max(keep_ratio, 1 / num)), length) - 1
        self._width = max(np.median(self._distances[:, place]), _NARROWEST)
        self.order = np.empty(num, np.int64)
        self.count = 0
        self._is_taken = np.zeros(num, bool)
        self._units_taken = np.empty_like(self._units)  # in their order
        self._nearest = np.full(num, np.inf)
        self._compared = np.zeros(num, np.int64)  # with so many of those taken

    def add(self, sample: int) -> None:
        self.order[self.count] = sample
        self._units_taken[self.count] = self._units[sample]
        self._is_taken[sample] = True
        self.count += 1

    def kernel(self, sample: int) -> float:
        """exp(-(2 d / w)^2); 0 while nothing is taken."""
        listed = self._is_taken[self._lists[sample]]
        first = listed.argmax()
        if listed[first]:
            self._nearest[sample] = self._distances[sample, first]
        else:
            self._compare(sample)
        return np.exp(-((2 * self._nearest[sample] / self._width) ** 2))

    def _compare(self, sample: int) -> None:
        """For a sample whose own list has none that is taken: with all that were since the last time."""
        others = self._units_taken[self._compared[sample] : self.count]
        self._compared[sample] = self.count
        if len(others):
            unit = self._units[sample]
            difference = (unit - others[(others @ unit).argmax()]).astype(np.float64)
            self._nearest[sample] = min(self._nearest[sample], np.square(difference).sum() / 2)
