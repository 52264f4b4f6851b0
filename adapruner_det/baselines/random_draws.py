"""Selections by chance: the baselines that every method has to beat.

N images, S strata.
"""

import numpy as np

from ..pruning.class_balance import class_weights, image_key, weighted_draw
from ..pruning.statistics import Statistics

SIZES = (32**2, 96**2)  # pixels at which COCO's medium and large boxes begin


def random(statistics: Statistics, keep_ratio: float, seed: int) -> np.ndarray:
    """Keeps the images that are drawn uniformly.

    Returns:
        (N,) float64. Cut at several ratios they give nested subsets.
    """
    return np.random.default_rng(seed).random(len(statistics))


def random_class_weighted(statistics: Statistics, keep_ratio: float, seed: int) -> np.ndarray:
    """Keeps the images of a draw that is weighted by the rarity of their rarest class.

    By the same seed AdaPruner's default for detection draws so between images that nothing speaks against.
    """
    names = list(map(image_key, statistics.datasets, statistics.ids))
    return weighted_draw(names, seed, class_weights(statistics.counts, power=1))


def random_stratified(statistics: Statistics, keep_ratio: float, seed: int) -> np.ndarray:
    """Keeps the images of a draw with quotas by class and size of the objects.

    Strata are class x size (COCO's small, medium, large) for detection, classes for classification; images without
    objects are one more. Iterative stratification (Sechidis, Tsoumakas and Vlahavas, "On the Stratification of
    Multi-Label Data", 2011) into what stays and what goes: the stratum with the fewest objects left is divided first.
    Images come in random order, and the limit between staying and going is drawn, so that a stratum with a single image
    does not go at every ratio below a half.
    """
    strata = objects_by_size(statistics).reshape(len(statistics), -1)
    rng = np.random.default_rng(seed)
    return stratified_choice(strata, keep_ratio, rng) + rng.random(len(strata))


def objects_by_size(statistics: Statistics) -> np.ndarray:
    """How many objects of each class are small, medium and large, (N, C, 3) int64. Crowds do not count."""
    labels = statistics.labels
    assert labels.crowds is not None  # Statistics sees to it
    widths, heights = (labels.boxes[:, 2:] - labels.boxes[:, :2]).T
    place = np.column_stack([labels.images, labels.classes, np.digitize(widths * heights, SIZES)])[
        np.logical_not(labels.crowds)
    ]
    counts = np.zeros((len(statistics), len(statistics.class_names), len(SIZES) + 1), np.int64)
    np.add.at(counts, tuple(place.T), 1)
    return counts


def stratified_choice(strata: np.ndarray, keep_ratio: float, rng: np.random.Generator) -> np.ndarray:
    """Which images stay, (N,) bool, round(keep_ratio N) of them True.

    An image stays if that leaves its strata, relative to their sizes, nearer to their quotas than if it goes. How much
    nearer is drawn for each stratum: of one with a single image it stays with the probability keep_ratio.

    Args:
        strata: (N, S) objects of each stratum in each image; images without any are a stratum as well.
    """
    # The last column, of images, is held to the ratio all the way: without it room would run out at the end.
    held = np.column_stack([strata, ~np.any(strata, axis=1), np.ones(len(strata))])
    size = held.sum(axis=0).clip(1)
    places = round(keep_ratio * len(held))
    room = [len(held) - places, places]  # for going, staying
    left, short = held.sum(axis=0), np.zeros(held.shape[1])  # not decided yet; kept too few of what is
    stays, undecided = np.zeros(len(held), dtype=bool), rng.permutation(len(held))
    while len(undecided):
        stratum = np.where(left > 0, left, np.inf).argmin()
        its_own = held[undecided, stratum] > 0
        limit = rng.random()
        for image in undecided[its_own]:
            wanted = (short + (keep_ratio - limit) * held[image]) @ (held[image] / size) > 0
            stays[image] = wanted if room[int(wanted)] else not wanted
            room[int(stays[image])] -= 1
            short += (keep_ratio - stays[image]) * held[image]
            left -= held[image]
        undecided = undecided[~its_own]
    return stays
