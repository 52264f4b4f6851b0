import numpy as np
from made_up import statistics

from adapruner_det.baselines.csod import by_turns, csod
from adapruner_det.pruning.matching import Labels
from adapruner_det.pruning.neighbors import unit_vectors

X, Y = (1, 0), (0, 1)
CLASSES, IMAGES, UNITS = np.array([0, 0, 0, 1, 1]), np.array([0, 1, 2, 2, 3]), np.float32([X, X, Y, X, Y])


def test_turns_by_hand():
    """
    Class 0 has X, X, Y: X is nearest to their sum, image 0. Class 1 has X of image 2 and Y: equal, image 2, and with it
    Y of class 0 is taken. Then image 1, and 3; without objects comes last.
    """
    assert list(by_turns(CLASSES, IMAGES, UNITS, 5, 0)) == [0, 2, 1, 3, 4]


def test_objects_of_a_class_in_an_image_are_averaged():
    labels = Labels(np.ones((6, 4)), np.r_[CLASSES, 0], np.r_[IMAGES, 1])
    objects = np.float32([X, X, Y, X, Y, Y])  # image 1 has X and Y of class 0, which is nearest to the sum
    scores = csod(statistics(5, labels=labels._replace(images=np.sort(labels.images), classes=np.array(
        [0, 0, 0, 0, 1, 1])), objects=objects[[0, 1, 5, 2, 3, 4]]), 0.5, 0)  # fmt: skip
    assert np.argmax(scores) == 1 and np.argmin(scores) == 4


def test_every_choice_is_the_best_of_its_turn_among_many_images():
    random = np.random.default_rng(0)
    pairs = np.unique(random.integers([5, 90], size=(200, 2)), axis=0)
    units = unit_vectors(random.normal(size=(len(pairs), 8)).astype(np.float32))
    classes, images, left = *pairs.T, np.ones(len(pairs), bool)
    order = by_turns(classes, images, units, 95, 0)
    chosen = iter(order)
    while left.any():
        for cls in range(5):
            own, others = (np.flatnonzero((left == free) & (classes == cls)) for free in (True, False))
            if len(own):
                gains = units[own] @ (units[own].sum(axis=0) - units[others].sum(axis=0))
                image = next(chosen)
                assert gains[images[own] == image] >= gains.max() - 1e-5
                left[images == image] = False
    assert sorted(order) == list(range(95))


def test_what_is_unlike_those_chosen_is_not_left_to_the_end():
    """
    91 objects at 0 and 10 at an angle with the cosine 0.8. With n of the former chosen and none of the latter, the former
    have (91 - 2 n) + 8 and the latter 0.8 (91 - 2 n) + 10, which is more from n = 41 on.
    """
    units = np.float32([[1, 0]] * 91 + [[0.8, 0.6]] * 10)
    order = by_turns(np.zeros(101, int), np.arange(101), units, 101, 0)
    assert (order[:41] < 91).all() and order[41] >= 91


def test_objects_without_features_and_images_without_objects_are_ranked():
    labels = Labels(np.ones((4, 4)), np.array([0, 0, 1, 1]), np.arange(4))
    scores = csod(statistics(4, labels=labels, objects=np.float32([[1, 0], [0, 0], [0, 1], [1, 1]])), 0.5, 0)
    assert sorted(scores) == [0.25, 0.5, 0.75, 1] and scores[0] > scores[1]
    crowds = labels._replace(crowds=np.ones(4, bool))
    scores = csod(statistics(4, labels=crowds, objects=np.ones((4, 2), np.float32)), 0.5, 0)
    assert sorted(scores) == [0.25, 0.5, 0.75, 1]


def test_crowds_are_no_objects():
    labels = Labels(np.ones((3, 4)), np.zeros(3, int), np.arange(3), np.array([False, False, True]))
    scores = csod(statistics(3, labels=labels, objects=np.float32([X, Y, X])), 0.5, 0)
    assert scores[2] == scores.min()
