"""Which images go when pruning has ended: those with a loss far above that of their likes, and what repeats others.

A loss sees one image at a time, so it cannot tell that an image is hard because all that look like it are,
nor that two of them teach the same. Here an image is compared with its nearest neighbours: how far its score is
below theirs counts against it, as does how near it is to an image that is taken, as the reverse messages of D2
Pruning do (Maharana, Yadav and Bansal, "D2 Pruning: Message Passing for Balancing Diversity and Difficulty in Data
Pruning", 2023). Lots decide between the rest, and how many of each group stay.

N samples, F features, k neighbours in a list.
"""
import heapq
from dataclasses import dataclass
from typing import Optional, Tuple

import numpy as np

from ..neighbours import nearest_neighbours, unit_vectors

_LIKES = 10  # nearest neighbours that a score is compared with
_DEVIATIONS = 1.4826, 1.2533  # a normal distribution's standard deviation, in its median and mean absolute deviations
_NARROWEST = 1e-6  # kernel, in cosine distance: what lies closer differs by rounding alone
_COMPONENTS, _SAMPLES_A_COMPONENT = 128, 8  # at most, of what features vary in; at least, to know it
_ROUNDING = 1e-4  # of the largest singular value: features come from bfloat16


@dataclass(frozen=True)
class Comparison:
    """How samples are compared with their near neighbours. A sample counts `chance` times its lot, a number
    between 0 and 1, and loses

    - z / outlier_z - 1, where that is above 0, z being how many robust standard deviations it stands below its
      likes (`outlyingness`);
    - strength times exp(-(2 d / w)^2), d being its cosine distance from the nearest sample that is taken. w is the
      distance at which samples lie from each other once a share of c is left of them, the median distance of a
      sample from its (1 / c)-th neighbour; what is much nearer than half of it is as good as a copy. (In D2
      Pruning the discounts of all neighbours taken add up: the longer the lists, the more samples of a crowded
      but varied region fall below copies.)

    Attributes:
        strength: at least 0; with 0 likeness does not count.
        outlier_z: at least 0; with 0 scores do not count.
        chance: at least 0; with 0 lots decide between equals only.
        num_neighbours: k, in a list; w is the distance of the k-th neighbour at most.
    """

    strength: float
    outlier_z: float = 0.0
    chance: float = 0.0
    num_neighbours: int = 32


def discounted_order(
    scores: np.ndarray,
    features: np.ndarray,
    comparison: Comparison,
    keep_ratio: float,
    lots: np.ndarray,
) -> Tuple[np.ndarray, np.ndarray]:
    """The order in which samples are taken, each time the one that counts most of those left.

    Args:
        scores: (N,), higher: better.
        features: (N, F); only their directions count, see `whitened`.
        comparison: what a sample counts.
        keep_ratio: c, the share that is likely to stay.
        lots: (N,) from 0 to 1, no two alike; the higher, the better.

    Returns:
        (N,) int64, a permutation; the sample taken first comes first. And (N,), in that order, what each counted when
        it was taken; it never rises.
    """
    num, strength = len(scores), comparison.strength
    if num < 2:
        return np.arange(num), comparison.chance * lots
    units = unit_vectors(features)
    lists, distances = nearest_neighbours(
        units, min(comparison.num_neighbours, num - 1), progress="Neighbours"
    )
    base = comparison.chance * lots
    if comparison.outlier_z:
        base = base - np.maximum(outlyingness(scores, lists) / comparison.outlier_z - 1, 0)
    taken = _Taken(units, lists, distances, keep_ratio)
    # What a sample waits with is never too low: what is taken only comes nearer.
    queue = [(-base[i], -lots[i], i) for i in range(num)]
    heapq.heapify(queue)
    while queue:
        waited, _, sample = queue[0]
        score = base[sample] - strength * taken.kernel(sample)
        if score < -waited:
            heapq.heapreplace(queue, (-score, -lots[sample], sample))
        else:
            heapq.heappop(queue)
            taken.add(sample, -waited)
    return taken.order, taken.counted


def discounted_scores(
    scores: np.ndarray,
    num_to_keep: int,
    features: np.ndarray,
    comparison: Comparison,
    groups: Optional[np.ndarray],
    lots: np.ndarray,
) -> np.ndarray:
    """Scores by what samples count when `discounted_order` takes them.

    Args:
        scores: (N,), higher: better.
        num_to_keep: of all N.
        features: (N, F) of a trained model, as they are.
        comparison: what a sample counts.
        groups: (N,) integers, such as classes: samples are compared with those of their own, and each keeps the
            one it takes first, as far as `num_to_keep` reaches. None for one.
        lots: (N,), see there. A group in which many have high ones keeps many.

    Returns:
        (N,) float64 in (-1, 1), above zero for those to keep: how far inside or outside the cut each one
        stands, as a share of N. No two are equal.
    """
    num = len(scores)
    features = whitened(features)
    groups = np.zeros(num, int) if groups is None else groups
    counted = np.empty(num)
    hopeful = lots >= np.sort(lots)[::-1][max(1, num_to_keep) - 1]  # who would stay if lots alone decided
    for group in np.unique(groups):
        own = np.flatnonzero(groups == group)
        order, counts = discounted_order(scores[own], features[own], comparison, hopeful[own].mean(), lots[own])
        counted[own[order]] = counts
        counted[own[order[0]]] = np.inf
    place = np.empty(num, np.int64)
    place[np.lexsort((-lots, -counted))] = np.arange(num)
    return (num_to_keep - place - 0.5) / num


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


def outlyingness(scores: np.ndarray, lists: np.ndarray) -> np.ndarray:
    """How far each score is below those of the samples most like it, in robust standard deviations.

    What is compared is y = log(e + median e), e being what a score lacks to the highest one: scores are losses turned
    round, which lie on a scale of ratios and have a long tail. z is y less the median y of the ten nearest samples,
    centred, over the larger of two deviations: that of all these differences, and that of the ten from their
    median. So where samples that look alike cost this and that, as in a stretch of video with a small object, none of
    them is an outlier for costing much. Deviations are those of Iglewicz and Hoaglin's modified z-score ("How to
    Detect and Handle Outliers", 1993).

    Args:
        scores: (N,), higher: better.
        lists: (N, k) the nearest neighbours of each, the nearest first; those after the tenth are not looked at.

    Returns:
        (N,) z, above 0 for scores lower than their neighbours'; 0 where nothing varies.
    """
    lacking = scores.max() - scores.astype(np.float64)
    if not lacking.any():
        return lacking
    cost = np.log(lacking + (np.median(lacking) or lacking.mean()))
    likes = cost[lists[:, :_LIKES]]
    difference = cost - np.median(likes, axis=1)
    difference -= np.median(difference)
    deviation = np.maximum(_deviation(difference), _deviation(likes - np.median(likes, axis=1, keepdims=True)))
    return np.divide(difference, deviation, out=np.zeros_like(difference), where=deviation > 0)


def _deviation(differences: np.ndarray) -> np.ndarray:
    """The standard deviation along the last axis, from the median of (..., n), or where that is 0 the mean."""
    size = np.abs(differences)
    median, mean = (factor * of(size, axis=-1) for factor, of in zip(_DEVIATIONS, (np.median, np.mean)))
    return np.where(median > 0, median, mean)


class _Taken:
    """The samples taken so far, and how much like the nearest of them each sample is.

    Attributes:
        order: (N,) int64; of these, the first `count` are taken.
        counted: (N,) what they counted then.
    """

    def __init__(self, units: np.ndarray, lists: np.ndarray, distances: np.ndarray, keep_ratio: float):
        self._units, self._lists, self._distances = units, lists, distances
        num, length = lists.shape
        place = min(round(1 / max(keep_ratio, 1 / num)), length) - 1
        self._width = max(np.median(self._distances[:, place]), _NARROWEST)
        self.order = np.empty(num, np.int64)
        self.counted = np.empty(num)
        self.count = 0
        self._is_taken = np.zeros(num, bool)
        self._units_taken = np.empty_like(self._units)  # in their order
        self._nearest = np.full(num, np.inf)
        self._compared = np.zeros(num, np.int64)  # with so many of those taken

    def add(self, sample: int, counted: float) -> None:
        self.order[self.count], self.counted[self.count] = sample, counted
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
