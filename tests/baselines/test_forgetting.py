from types import SimpleNamespace

import numpy as np
import pytest

from adapruner_det.baselines.forgetting import forgetting, forgetting_counts
from adapruner_det.pruning.statistics import Dynamics

NAN = float("nan")


def _count(*visits):
    return forgetting_counts(np.array(visits, np.float32)[:, None])[0]


@pytest.mark.parametrize(
    "visits, count",
    [
        ((1, 1, 1, 1), 0),
        ((0, 0, 1, 1), 0),  # late, but never forgotten
        ((0, 1, 0, 0), 1),  # stays forgotten: a single event
        ((1, 0, 1, 0), 2),
        ((0, 1, 0, 1), 1),
        ((0, 0, 0, 0), 4),  # never learned: more than any other
        ((1, NAN, 0), 1),  # a fall between visits in a row, whatever lies between
        ((NAN, NAN, 1), 0),
        ((0, NAN, NAN), 3),
    ],
)
def test_falls_from_right_to_wrong_are_counted(visits, count):
    assert _count(*visits) == count


def test_a_share_of_boxes_counts_as_the_mean_over_its_boxes():
    boxes = np.array([[1, 0, 0, 0], [1, 1, 0, 0], [1, 0, 0, 0], [1, 1, 1, 0], [0, 0, 0, 0]], np.float32)
    per_box = forgetting_counts(boxes)
    np.testing.assert_array_equal(per_box, [1, 2, 1, 5])
    assert _count(*boxes.mean(axis=1)) == per_box.mean()


def test_equal_sums_of_shares_are_equal_counts():
    assert _count(1, 0.7, 1, 0.9) == _count(1, 0.9, 1, 0.7) == _count(1, 0.6)


def _scores(correct, losses=None, seed=0):
    losses = np.ones_like(correct) if losses is None else losses
    seen = SimpleNamespace(dynamics=Dynamics(np.float32(losses), np.float32(correct)))
    return forgetting(seen, keep_ratio=0.5, seed=seed)


def test_often_forgotten_images_come_first():
    correct = np.array([[1, 1, 1], [1, 0, 1], [0, 0, 0], [0, 0, 1]]).T
    scores = _scores(correct)
    assert scores.dtype == np.float64
    np.testing.assert_array_equal(scores.round(4), [0, 1, 3, 0])


def test_the_seed_draws_among_equal_counts_and_the_loss_has_no_say():
    correct = np.ones((3, 200))
    one, again, other = (_scores(correct, seed=seed) for seed in (0, 0, 1))
    np.testing.assert_array_equal(one, again)
    assert len(set(one)) == 200 and (np.argsort(one) != np.argsort(other)).any()
    np.testing.assert_array_equal(_scores(correct, np.tile(np.arange(200), (3, 1))), one)
    # Nor are they drawn as random selection with the same seed draws.
    assert abs(np.corrcoef(one, np.random.default_rng(0).random(200))[0, 1]) < 0.3


def test_no_draw_outweighs_a_difference_in_counts():
    shares = np.array([[1, 1], [1 - 2e-6, 1 - 1e-6]])
    assert all(scores[0] > scores[1] for scores in (_scores(shares, seed=seed) for seed in range(20)))
