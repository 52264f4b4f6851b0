import numpy as np
from made_up import statistics

from adapruner_det.baselines.tfdp import tfdp
from adapruner_det.pruning.matching import Labels


def test_by_hand():
    """Of a class, a square and a box four times as long: 20 / 10 and 50 / 20, that is 2 and 2.5 of a sum of 4.5."""
    boxes = np.array([[0, 0, 10, 10], [5, 5, 15, 45], [0, 0, 3, 3], [0, 0, 9, 1]])
    labels = Labels(boxes, np.array([0, 0, 1, 1]), np.array([0, 1, 1, 1]), np.array([False, False, False, True]))
    np.testing.assert_allclose(tfdp(statistics(3, labels=labels), 0.5, 0), [2 / 4.5, 2.5 / 4.5 + 1, 0])


def test_all_boxes_of_a_class_weigh_as_much_as_all_of_another():
    labels = Labels(np.tile([0.0, 0, 1, 1], (101, 1)), np.r_[np.zeros(100, int), 1], np.arange(101))
    np.testing.assert_allclose(tfdp(statistics(101, labels=labels), 0.5, 0), [0.01] * 100 + [1])
