import numpy as np
from made_up import statistics

from adapruner_det.baselines.ofds import chosen_images, ofds
from adapruner_det.pruning.matching import Labels

CLASSES, IMAGES, OBJECTS = np.array([0, 0, 0, 1]), np.array([0, 1, 2, 3]), np.array([[0.0], [1], [5], [3]])


def test_the_rarest_class_first_then_the_centre_of_the_other():
    # the mean of 0, 1 and 5 is 2, and 1 the nearest
    assert chosen_images(OBJECTS, CLASSES, IMAGES, 4, 0.5, 0) == [3, 1]


def test_places_left_over_go_to_further_objects_and_images_without_come_last():
    labels = Labels(np.ones((4, 4)), CLASSES, IMAGES)
    scores = ofds(statistics(6, labels=labels, objects=np.float32([[1, 0], [1, 0.1], [0, 1], [1, 1]])), 0.67, 0)
    assert set(np.argsort(-scores)[:4]) == {0, 1, 2, 3} and np.argmax(scores) == 3
