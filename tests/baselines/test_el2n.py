from types import SimpleNamespace

import numpy as np
import pytest

from adapruner_det.baselines.el2n import el2n, error_norms
from adapruner_det.baselines.evidence import LastLayer


def _layer(probabilities):
    probabilities = np.array(probabilities, np.float32)
    return LastLayer(np.zeros((len(probabilities), 2), np.float32), probabilities)


def test_norm_of_prediction_minus_one_hot():
    layer = _layer([[0.2, 0.5, 0.3], [0, 0, 1], [0, 0, 1]])
    before = layer.probabilities.copy()
    norms = error_norms(layer, np.array([1, 2, 0]))
    np.testing.assert_allclose(norms, [np.sqrt(0.04 + 0.25 + 0.09), 0, np.sqrt(2)], rtol=1e-6)
    np.testing.assert_array_equal(layer.probabilities, before)


def test_sure_predictions_are_told_apart():
    layer = _layer([[1, 1e-9, 0], [1, 2e-9, 0]])  # 1 - 1e-9 is 1 in float32
    np.testing.assert_allclose(error_norms(layer, np.array([0, 0])), [2**0.5 * 1e-9, 2**1.5 * 1e-9])


def test_mean_over_networks_of_the_norms_not_norm_of_the_mean():
    evidence = SimpleNamespace(
        labels=np.array([0, 1]),
        early=lambda: [_layer([[1, 0], [0.5, 0.5]]), _layer([[0, 1], [0.5, 0.5]])],
    )
    scores = el2n(evidence, keep_ratio=0.5, seed=0)
    assert scores.dtype == np.float64
    np.testing.assert_allclose(scores, [np.sqrt(2) / 2, np.sqrt(0.5)], rtol=1e-6)


def test_the_wrong_are_kept_before_the_unsure_before_the_sure():
    evidence = SimpleNamespace(labels=np.array([0, 0, 0]), early=lambda: [_layer([[0.9, 0.1], [0.5, 0.5], [0.1, 0.9]])])
    sure, unsure, wrong = el2n(evidence, keep_ratio=0.5, seed=0)
    assert wrong > unsure > sure == pytest.approx(np.sqrt(0.02))
