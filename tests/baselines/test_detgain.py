import numpy as np
from made_up import statistics

from adapruner_det.baselines.detgain import detgain, marginal_ap
from adapruner_det.pruning.matching import Detections, Labels


def average_precision(right, num_boxes):
    return (np.cumsum(right) / np.arange(1, len(right) + 1))[right].sum() / num_boxes


def test_by_hand():
    """Right, wrong, right, of two boxes: F behind the first is 1 of 3 squared, T behind the second 2 of 3 squared."""
    found = marginal_ap(np.array([True, False, True]), 2)
    np.testing.assert_allclose(found, [(1 + 1 / 9) / 2, -2 / 9 / 2, (2 / 3) / 2])


def test_it_is_the_ap_that_is_lost_without_the_detection_to_first_order():
    right = np.random.default_rng(0).random(400) < 0.6
    whole, found = average_precision(right, 300), marginal_ap(right, 300)
    for i in range(100, 400, 50):
        assert abs(whole - average_precision(np.delete(right, i), 300) - found[i]) < 1e-5


def test_right_and_wrong_are_told_at_ten_overlaps():
    """An IoU of 0.7 is right at 0.50, 0.55, 0.60, 0.65 and 0.70; at the others it is wrong, which costs nothing alone."""
    labels = Labels(np.array([[0.0, 0, 10, 10]]), np.array([0]), np.array([0]))
    found = Detections(np.array([[0.0, 0, 10, 7]]), np.array([0.9]), np.array([0]), np.array([0]))
    np.testing.assert_allclose(detgain(statistics(1, labels=labels, found=found), 0.5, 0), [0.5])


def test_images_have_the_sum_and_classes_count_alike():
    labels = Labels(np.tile([0, 0, 9, 9.0], (3, 1)), np.array([0, 1, 1]), np.arange(3))
    found = Detections(labels.boxes[:2], np.array([0.9, 0.8]), np.array([0, 1]), np.array([0, 1]))
    seen = statistics(3, labels=labels, found=found)
    np.testing.assert_allclose(detgain(seen, 0.5, 0), [1 / 2, 1 / 2 / 2, 0])
