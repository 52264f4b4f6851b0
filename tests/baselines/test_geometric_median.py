import numpy as np
from made_up import statistics

from adapruner_det.baselines.geometric_median import geometric_median, median_of


def test_on_a_line_it_is_the_median():
    np.testing.assert_allclose(median_of(np.array([[0.0], [1.2], [2], [3], [100]])), [2], atol=1e-6)


def test_corners_of_a_square_have_their_middle():
    np.testing.assert_allclose(median_of(np.array([[0.0, 0], [2, 0], [0, 2], [2, 2]])), [1, 1])


def test_what_is_far_off_comes_last():
    """Around 2: 2 itself, then 1.2 (-0.8), 3 (-0.8 + 1), 0 (0.2 - 2), and 100. Herding, around 21.2, begins with 3."""
    features = np.float32([[0], [1.2], [2], [3], [100]])
    seen = statistics(5, features=features)
    assert list(features[np.argsort(-geometric_median(seen, 0.5, 0)), 0]) == list(np.float32([2, 1.2, 3, 0, 100]))
