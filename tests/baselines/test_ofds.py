import numpy as np
from made_up import statistics

from adapruner_det.baselines.ofds import chosen_images, ofds
from adapruner_det.pruning.matching import Labels

CLASSES, IMAGES, OBJECTS = np.array([0, 0, 0, 1]), np.array([0, 1, 2, 3]), np.array([[0.0], [1], [5], [3]])


def test_the_rarest_class_first_then_the_centre_of_the_other():
    # the mean of 0, 1 and 5 is 2, and 1 the nearest
    assert chosen_images(OBJECTS, CLASSES, IMAGES, 4, 0.5, 0) == [3, 1]


def test_objects_that_came_along_count():
    """The first six images have a rare object and five common ones: two of them cover the common class for all four."""
    classes = np.r_[np.tile([0, 1, 1, 1, 1, 1], 6), np.ones(20, int)]
    images = np.r_[np.repeat(np.arange(6), 6), np.arange(6, 26)]
    objects = np.r_[np.zeros(36), np.full(10, 100.0), np.full(10, -100.0)][:, None]  # others are what clusters are of
    assert set(chosen_images(objects, classes, images, 26, 4 / 26, 0)) < set(range(6))


def test_crowds_are_no_objects():
    labels = Labels(np.ones((4, 4)), CLASSES, IMAGES, np.array([False, False, True, True]))
    scores = ofds(statistics(4, labels=labels, objects=np.float32([[1, 0], [1, 0.1], [0, 1], [1, 1]])), 0.5, 0)
    assert set(np.argsort(-scores)[:2]) == {0, 1}


def test_places_left_over_go_to_further_objects_and_images_without_come_last():
    labels = Labels(np.ones((4, 4)), CLASSES, IMAGES)
    scores = ofds(statistics(6, labels=labels, objects=np.float32([[1, 0], [1, 0.1], [0, 1], [1, 1]])), 0.67, 0)
    assert set(np.argsort(-scores)[:4]) == {0, 1, 2, 3} and np.argmax(scores) == 3
