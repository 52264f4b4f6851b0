from types import SimpleNamespace

import numpy as np
import pytest

from adapruner_det.baselines.mean_loss import mean_loss
from adapruner_det.pruning.statistics import Dynamics

NAN = float("nan")


def of(losses):
    return SimpleNamespace(dynamics=Dynamics(np.array(losses, np.float32), correct=None))


def test_visits_left_out_do_not_count_and_either_side_can_stay():
    seen = of([[4, 1, NAN], [2, NAN, 0.5]])
    np.testing.assert_array_equal(mean_loss(seen, 0.5, 0), [3, 1, 0.5])
    np.testing.assert_array_equal(mean_loss(seen, 0.5, 0, "low"), [-3, -1, -0.5])


def test_an_image_never_visited_is_named():
    with pytest.raises(ValueError, match=r"1 of 3 images.*\[1\]"):
        mean_loss(of([[1, NAN, 2], [1, NAN, NAN]]), 0.5, 0)


def test_many_epochs_are_summed_in_double_precision():
    assert mean_loss(of(np.full((2000, 1), 0.1)), 0.5, 0)[0] == pytest.approx(float(np.float32(0.1)), rel=1e-12)
