from types import SimpleNamespace

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from adapruner_det.baselines.grand import grand, last_layer_gradient_norms
from adapruner_det.pruning.statistics import LastLayer


def test_of_the_last_layer_is_that_of_a_linear_head():
    torch.manual_seed(0)
    head, features, labels = nn.Linear(6, 3), torch.randn(5, 6), torch.arange(5) % 3
    expected = []
    for image, label in zip(features, labels):
        gradients = torch.autograd.grad(F.cross_entropy(head(image[None]), label[None]), head.parameters())
        expected.append(torch.cat([own.flatten() for own in gradients]).norm().item())
    layer = LastLayer(features.numpy(), head(features).softmax(1).detach().numpy())
    norms = last_layer_gradient_norms(layer, labels.numpy())
    assert norms.dtype == np.float32
    np.testing.assert_allclose(norms, expected, rtol=1e-5)


def test_mean_over_networks():
    seen = SimpleNamespace(gradient_norms=np.array([[1, 2, 3], [3, 0, 3]], np.float32))
    scores = grand(seen, keep_ratio=0.5, seed=0)
    assert scores.dtype == np.float64
    np.testing.assert_array_equal(scores, [2, 1, 3])
