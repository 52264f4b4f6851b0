"""CSOD: for each class in turn, the image whose objects of it stand best for those that are not chosen.

Lee, Kim, Lee, Yoo and Kwak, "Coreset Selection for Object Detection" (2024). The features of an image's objects of one
class are averaged to one vector; classes take turns, and each takes the image with the largest gain of a submodular
function of cosine similarities, which asks for likeness to all and unlikeness to what is chosen. Here the graph cut

    f(S) = sum_{v in V} sum_{s in S} k(v, s) - lambda sum_{s, s' in S} k(s, s'),   lambda = 1/2,

whose gain is the similarity to those of V that are not chosen. An image that is chosen for one class counts for its
others as well. Images without objects come last, in random order.

N images, M objects, F features, n images with a class.
"""

import numpy as np

from ..pruning.neighbors import unit_vectors
from ..pruning.statistics import Statistics
from .scores import scores_of_order


def csod(statistics: Statistics, keep_ratio: float, seed: int) -> np.ndarray:
    """Keeps the images whose objects stand for the others of their class. The score is their place in the order."""
    labels = statistics.labels
    pairs, where = np.unique(np.column_stack([labels.classes, labels.images]), axis=0, return_inverse=True)
    sums = np.zeros((len(pairs), statistics.objects.shape[1]))
    np.add.at(sums, where.ravel(), unit_vectors(statistics.objects)[:, : sums.shape[1]])
    return scores_of_order(by_turns(pairs[:, 0], pairs[:, 1], unit_vectors(sums), len(statistics), seed))


def by_turns(classes: np.ndarray, images: np.ndarray, units: np.ndarray, num: int, seed: int) -> np.ndarray:
    """The order (num,) of images, from pairs of class and image (P,), sorted, each with a vector (P, F) of length 1."""
    members = [np.flatnonzero(classes == c) for c in np.unique(classes)]
    pairs_of = [np.flatnonzero(images == i) for i in range(num)]
    place = np.cumsum(np.r_[0, np.diff(classes) > 0])  # which of `members` a pair is in
    left = np.stack([units[own].sum(axis=0, dtype=np.float64) for own in members])
    free, order = np.ones(len(images), bool), []
    while free.any():
        for turn, own in enumerate(members):
            own = own[free[own]]
            if not len(own):
                continue
            image = images[own[np.argmax(units[own] @ left[turn])]]
            order.append(image)
            free[pairs_of[image]] = False
            left[place[pairs_of[image]]] -= units[pairs_of[image]]
    without = np.setdiff1d(np.arange(num), images)
    return np.concatenate([np.array(order, np.int64), np.random.default_rng(seed).permutation(without)])
