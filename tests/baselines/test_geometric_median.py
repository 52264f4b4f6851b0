import numpy as np
import pytest
from made_up import statistics

from adapruner_det.baselines import geometric_median as geometric_median_module
from adapruner_det.baselines.geometric_median import geometric_median, median_of


def test_on_a_line_it_is_the_median():
    np.testing.assert_allclose(median_of(np.array([[0.0], [1.2], [2], [3], [100]])), [2], atol=1e-6)


@pytest.mark.parametrize(
    "points, median", [([100, 100, 100, 101, 104], 100), ([0, 0, 0, 1, 4], 0), ([5, 5], 5), ([7], 7)]
)
def test_a_point_that_the_mean_lies_on_does_not_hold_it(points, median):
    np.testing.assert_allclose(median_of(np.array(points, float)[:, None]), [median], atol=1e-6)


def test_a_step_from_a_point_and_none_from_one_that_holds_it_by_hand(monkeypatch):
    """
    The mean 101 is a point: the others pull by 3 - 1 = 2, of which it holds 1, so half of the step to (300 + 104 / 3) /
    (3 + 1 / 3) = 100.4 is made. From 0, which two hold against a pull of 2 - 1, there is none.
    """
    assert median_of(np.array([[-1.0], [-1], [0], [0], [2]])) == 0
    monkeypatch.setattr(geometric_median_module, "_STEPS", 1)
    np.testing.assert_allclose(median_of(np.array([[100.0], [100], [100], [101], [104]])), [100.7])


def test_corners_of_a_square_have_their_middle():
    np.testing.assert_allclose(median_of(np.array([[0.0, 0], [2, 0], [0, 2], [2, 2]])), [1, 1])


def test_what_is_far_off_comes_last_and_length_is_none():
    """Directions at 0, 10, 20, 30 and 170 degrees, of any length: around that at 20 comes it first, and 170 last."""
    angles, lengths = np.radians([0, 10, 20, 30, 170]), np.array([3, 1, 0.1, 7, 2])
    features = (lengths * [np.cos(angles), np.sin(angles)]).T.astype(np.float32)
    order = np.argsort(-geometric_median(statistics(5, features=features), 0.5, 0)).tolist()
    assert order[0] in (1, 2) and order[-1] == 4
    same = geometric_median(statistics(5, features=5 * features), 0.5, 0)
    assert np.argsort(-same).tolist() == order
