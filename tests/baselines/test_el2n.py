from types import SimpleNamespace

import numpy as np
import pytest

from adapruner_det.baselines.el2n import el2n, prediction_errors
from adapruner_det.pruning.statistics import LastLayer


def norms(probabilities, labels):
    return np.linalg.norm(prediction_errors(np.array(probabilities, np.float32), np.array(labels)), axis=1)


def test_norm_of_prediction_minus_one_hot():
    found = norms([[0.2, 0.5, 0.3], [0, 0, 1], [0, 0, 1]], [1, 2, 0])
    np.testing.assert_allclose(found, [np.sqrt(0.04 + 0.25 + 0.09), 0, np.sqrt(2)], rtol=1e-6)


def test_sure_predictions_are_told_apart():
    """1 - 1e-9 is 1 in float32."""
    np.testing.assert_allclose(norms([[1, 1e-9, 0], [1, 2e-9, 0]], [0, 0]), [2**0.5 * 1e-9, 2**1.5 * 1e-9])
    errors = prediction_errors(np.array([[1, 1e-12, 0], [0, 1, 0]]), np.array([0, 0]))
    assert errors[:, 0] == pytest.approx([-1e-12, -1], rel=1e-6) and errors.sum(axis=1) == pytest.approx(0, abs=1e-15)


def test_mean_over_networks_of_the_norms_the_wrong_before_the_unsure_before_the_sure():
    early = [
        LastLayer(None, np.array(own, np.float32))
        for own in ([[0.9, 0.1], [0.5, 0.5], [0.1, 0.9]], [[0.9, 0.1], [0.5, 0.5], [0.3, 0.7]])
    ]
    scores = el2n(SimpleNamespace(classes=np.array([0, 0, 0]), early=early), keep_ratio=0.5, seed=0)
    assert scores.dtype == np.float64
    np.testing.assert_allclose(scores, np.sqrt(2) * np.array([0.1, 0.5, 0.8]), rtol=1e-6)
