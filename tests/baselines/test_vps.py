import numpy as np
import pytest
from made_up import statistics

from adapruner_det.baselines.vps import vps
from adapruner_det.pruning.matching import Labels
from adapruner_det.pruning.statistics import Dynamics

AGREEMENT = np.float32([[0.2, 0.5, 0.0], [0.6, 0.5, 1.0]])  # variances 0.04, 0, 0.25


@pytest.mark.parametrize("crowd, expected", [(False, [0.04, 0, 0.25]), (True, [0.04, 0, 0])])
def test_by_hand(crowd, expected):
    labels = Labels(np.ones((3, 4)), np.array([0, 1, 1]), np.array([0, 0, 2]), np.array([False, False, crowd]))
    seen = statistics(3, labels=labels, dynamics=Dynamics(AGREEMENT, AGREEMENT, AGREEMENT))
    np.testing.assert_allclose(vps(seen, 0.5, 0), expected, atol=1e-7)


def test_an_image_with_one_class_is_one_box():
    losses = -np.log(np.maximum(AGREEMENT, 1e-12))
    labels = Labels(np.tile([0, 0, 1, 1], (3, 1)), np.array([0, 1, 1]), np.arange(3))
    seen = statistics(3, labels=labels, dynamics=Dynamics(losses, losses))
    np.testing.assert_allclose(vps(seen, 0.5, 0), [0.04, 0, 0.25], atol=1e-6)


def test_a_proxy_of_before_is_named():
    with pytest.raises(ValueError, match="train it anew"):
        vps(statistics(3), 0.5, 0)


def test_one_measurement_says_nothing():
    dynamics = Dynamics(AGREEMENT[:1], AGREEMENT[:1], AGREEMENT[:1])
    with pytest.raises(ValueError, match="two measurements or more: raise SCORING.SNAPSHOTS"):
        vps(statistics(3, dynamics=dynamics), 0.5, 0)
