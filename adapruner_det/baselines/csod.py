"""CSOD: for each class in turn, the image whose objects of it are most like those not chosen, least like those chosen.

Lee, Kim, Lee, Yoo and Kwak, "Coreset Selection for Object Detection" (2024). The features of an image's objects of one
class are averaged to one vector; classes take turns, and each takes the image with the largest

    sum over those not chosen of k(i, j)  -  lambda sum over those chosen of k(i, j)

of the class's vectors, k being the cosine: what stands for the others, and is unlike what is there.

Left open, or otherwise here: lambda is 1 (the paper varies it); each object is scaled to length 1 before averaging. An image
that is chosen for one class counts for its others as well. Images without objects come last, in random order.

N images, M objects, F features, n images with a class.
"""

import numpy as np

from ..pruning.neighbors import unit_vectors
from ..pruning.statistics import Statistics
from .scores import scores_of_order

LAMBDA = 1.0


def csod(statistics: Statistics, keep_ratio: float, seed: int) -> np.ndarray:
    """Keeps the images whose objects stand for the others of their class. The score is their place in the order."""
    objects, classes, images = statistics.single_objects()
    pairs, where = np.unique(np.column_stack([classes, images]), axis=0, return_inverse=True)
    sums = np.zeros((len(pairs), objects.shape[1]))
    np.add.at(sums, where.ravel(), unit_vectors(objects)[:, : sums.shape[1]])
    return scores_of_order(by_turns(pairs[:, 0], pairs[:, 1], unit_vectors(sums), len(statistics), seed))


def by_turns(classes: np.ndarray, images: np.ndarray, units: np.ndarray, num: int, seed: int) -> np.ndarray:
    """The order (num,) of images, from pairs of class and image (P,), sorted, each with a vector (P, F) of length 1.

    Takes about 2/3 n^2 F multiplications for each class, and memory for 2 P F float64 numbers.
    """
    turn_of = np.cumsum(np.r_[0, np.diff(classes) > 0])  # which of the classes a pair is in
    by_image = np.argsort(images, kind="stable")
    pairs_of = np.split(by_image, np.searchsorted(images[by_image], np.arange(1, num)))
    if not len(classes):
        return np.random.default_rng(seed).permutation(num)
    members = [np.flatnonzero(classes == c) for c in np.unique(classes)]
    rows = [units[own].astype(np.float64) for own in members]
    # the sum of those not chosen, less lambda times that of the chosen
    asked = np.stack([own.sum(axis=0) for own in rows])
    free, order = np.ones(len(images), bool), []
    while free.any():
        for turn, own in enumerate(members):
            available = free[own]
            number = np.count_nonzero(available)
            if not number:
                continue
            if 2 * number <= len(own):  # half of the rows are done with
                own, available, rows[turn] = own[available], np.ones(number, bool), rows[turn][available]
                members[turn] = own
            gains = np.where(available, rows[turn] @ asked[turn], -np.inf)
            image = images[own[np.argmax(gains)]]
            order.append(image)
            free[pairs_of[image]] = False
            asked[turn_of[pairs_of[image]]] -= (1 + LAMBDA) * units[pairs_of[image]]
    without = np.setdiff1d(np.arange(num), images)
    return np.concatenate([np.array(order, np.int64), np.random.default_rng(seed).permutation(without)])
