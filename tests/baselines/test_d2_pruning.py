import numpy as np

from adapruner_det.baselines.d2_pruning import message_order


def test_a_copy_waits_for_what_is_alone():
    """
    Of two copies and one at right angles, with one neighbour each: u = 1 + 0.9, 0.9 + 1, 0.8 + exp(-2). The first is
    chosen and takes 1.9 from its copy, so that the third comes second.
    """
    features = np.array([[1, 0], [2, 0], [0, 1]], np.float32)
    assert list(message_order(features, np.array([1.0, 0.9, 0.8]), neighbours=1)) == [0, 2, 1]


def test_alone_the_hardest_come_first():
    difficulty = np.array([0.3, 0.9, 0.1, 0.5])
    far = np.eye(4, dtype=np.float32)
    # all are equally far from each other: u_i = x_i + exp(-2) (1.8 - x_i) rises with x, and so does what is left
    assert list(message_order(far, difficulty)) == [1, 3, 0, 2]
