from types import SimpleNamespace

import numpy as np
import pytest

from adapruner_det.baselines.moso import agreement_of_gradients, moso
from adapruner_det.pruning.statistics import LastLayer


def test_by_hand():
    """Errors are (-.5, .5) twice and (.5, -.5), inputs (1, 1): products 1 within the pair, -1 across."""
    layer = LastLayer(np.ones((3, 1), np.float32), np.full((3, 2), 0.5, np.float32))
    assert agreement_of_gradients(layer, np.array([0, 0, 1])).tolist() == [0, 0, -1]


def test_the_early_states_count_alike():
    labels = np.array([0, 0, 1])
    ones, twos = (LastLayer(np.full((3, 1), x, np.float32), np.full((3, 2), 0.5, np.float32)) for x in (1, 2))
    seen = SimpleNamespace(early=(ones, twos), classes=labels)
    expected = [
        (agreement_of_gradients(ones, labels)[i] + agreement_of_gradients(twos, labels)[i]) / 2 for i in range(3)
    ]
    assert moso(seen, 0.5, 0).tolist() == expected and expected[2] < 0


def test_it_is_the_product_with_the_gradient_of_the_others():
    rng = np.random.default_rng(0)
    probabilities = rng.dirichlet(np.ones(3), 20).astype(np.float32)
    layer, labels = LastLayer(rng.normal(size=(20, 4)).astype(np.float32), probabilities), rng.integers(0, 3, 20)
    gradients = np.einsum("nc,nf->ncf", probabilities - np.eye(3)[labels], np.c_[layer.features, np.ones(20)])
    for i, score in enumerate(agreement_of_gradients(layer, labels)):
        assert score == pytest.approx((np.delete(gradients, i, 0).mean(0) * gradients[i]).sum(), abs=1e-6)
