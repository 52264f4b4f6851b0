from types import SimpleNamespace

import numpy as np
import pytest

from adapruner_det.baselines.dyn_unc import dyn_unc, windowed_deviation
from adapruner_det.pruning.statistics import Dynamics


def test_windows_by_hand():
    values = np.array([[0.2, 0.5], [0.4, 0.5], [0.4, 0.5], [np.nan, 0.9]])  # the last epoch was cut short
    # deviations of (0.2, 0.4) and (0.4, 0.4): 0.1 sqrt(2) and 0
    np.testing.assert_allclose(windowed_deviation(values, 2), [0.05 * 2**0.5, 0])


def test_probabilities_are_those_of_the_losses():
    losses = -np.log(np.float32([[0.2, 0.5], [0.6, 0.5]]))
    seen = SimpleNamespace(dynamics=Dynamics(losses, losses))
    np.testing.assert_allclose(dyn_unc(seen, 0.5, 0), [0.4 / 2**0.5, 0], atol=1e-6)
    with pytest.raises(ValueError, match="two epochs or more: raise SOLVER.MAX_ITER"):
        dyn_unc(SimpleNamespace(dynamics=Dynamics(losses[:1], losses[:1])), 0.5, 0)
