from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from adapruner_det.baselines import grand as module
from adapruner_det.baselines.evidence import LastLayer
from adapruner_det.baselines.grand import full_gradient_norms, grand, last_layer_gradient_norms
from adapruner_det.modeling.image_classifier import ImageClassifier
from adapruner_det.modeling.small_resnet import SmallResNet

NUM, CLASSES = 5, 3


def _images(size=8):
    generator = torch.Generator().manual_seed(1)
    return torch.rand(NUM, 3, size, size, generator=generator), torch.arange(NUM) % CLASSES


def _trained(model):
    """With BatchNorm as it is after some training: statistics and scales of all sizes."""
    generator = torch.Generator().manual_seed(0)
    for norm in model.modules():
        if isinstance(norm, nn.modules.batchnorm._BatchNorm) and norm.track_running_stats:
            norm.running_mean.normal_(generator=generator)
            norm.running_var.uniform_(0.5, 2, generator=generator)
        if isinstance(norm, nn.modules.batchnorm._BatchNorm) and norm.affine:
            nn.init.uniform_(norm.weight, 0.5, 2)
            nn.init.normal_(norm.bias)
    return model


def _by_plain_autograd(model, images, labels, wrap=lambda images: images):
    was_training = model.training
    model.eval()
    norms = []
    for image, label in zip(images, labels):
        model.zero_grad()
        F.cross_entropy(model(wrap(image[None])), label[None]).backward()
        squared = [p.grad.square().sum() for p in model.parameters() if p.grad is not None]
        norms.append(sum(squared).sqrt().item())
    model.zero_grad()
    model.train(was_training)
    return np.array(norms)


def _never(*_):
    raise AssertionError("not the way expected")


class _TwoPaths(nn.Module):
    """A BatchNorm's output overwritten in place, and an image used twice."""

    def __init__(self):
        super().__init__()
        self.conv, self.norm, self.relu = nn.Conv2d(3, 3, 3, padding=1), nn.BatchNorm2d(3), nn.ReLU(True)
        self.head = nn.Linear(3, CLASSES)

    def forward(self, x):
        return self.head((x + self.relu(self.norm(self.conv(x)))).mean((2, 3)))


class _SquareOfOne(nn.Module):
    """The same layer, called twice."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(3, 3)

    def forward(self, x):
        return self.layer(self.layer(x.mean((2, 3))))


class _Pixels(nn.Module):
    """A layer that is given pixels as if they were images."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(3, CLASSES)

    def forward(self, x):
        return self.layer(x.flatten(2).mT.flatten(0, 1)).tanh().view(len(x), -1, CLASSES).mean(1)


def _tied():
    first, second = nn.Linear(3, 3), nn.Linear(3, 3)
    second.weight = first.weight
    return _pooled(first, nn.Tanh(), second)


def _pooled(*layers):
    return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), *layers)


def _with_head(*layers, features):
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(features, CLASSES))


def _conv(outputs, *args, features=None, inputs=3, **options):
    first = [] if inputs == 3 else [nn.Conv2d(3, inputs, 1, bias=False), nn.Tanh()]
    return _with_head(*first, nn.Conv2d(inputs, outputs, *args, **options), nn.Tanh(), features=features)


LAYERED = {
    "vectors": lambda: _with_head(features=192),
    "tokens": lambda: _with_head(nn.Flatten(2), nn.Linear(64, 7), nn.Tanh(), features=21),
    "many places": lambda: _conv(2, 3, padding=1, features=128),
    "few places": lambda: _conv(20, 3, 4, 1, features=80),
    "all options": lambda: _conv(4, (3, 1), (1, 2), (2, 0), (2, 1), bias=False, features=128),
    "groups, many places": lambda: _conv(6, 3, inputs=4, groups=2, features=216),
    "groups, few places": lambda: _conv(24, 3, 4, inputs=8, groups=2, features=96),
    "BatchNorm": lambda: _with_head(nn.BatchNorm2d(3), nn.Flatten(), nn.BatchNorm1d(192), features=192),
    "in place, two paths": _TwoPaths,
    "small_resnet": lambda: nn.Sequential(SmallResNet(), nn.Linear(128, CLASSES)),
}
OTHERS = {
    "a layer of another kind": lambda: _with_head(nn.GroupNorm(1, 3), features=192),
    "convolution that pads otherwise": lambda: _conv(2, 3, padding=1, padding_mode="reflect", features=128),
    "convolution that pads by name": lambda: _conv(2, 3, padding="same", features=128),
    "BatchNorm without statistics": lambda: _with_head(
        nn.BatchNorm2d(3, affine=False, track_running_stats=False), features=192
    ),
    "reparametrised": lambda: _pooled(nn.utils.parametrizations.weight_norm(nn.Linear(3, CLASSES))),
    "shared weight": _tied,
    "called twice": _SquareOfOne,
    "other first dimension": _Pixels,
}


@pytest.mark.parametrize("name", LAYERED)
def test_layer_by_layer_is_plain_autograd(monkeypatch, name):
    monkeypatch.setattr(module, "_norms_by_image", _never)
    torch.manual_seed(0)
    model, (images, labels) = _trained(LAYERED[name]()), _images()
    norms = full_gradient_norms(model, images, labels, chunk_size=3)
    assert norms.dtype == np.float32
    np.testing.assert_allclose(norms, _by_plain_autograd(model, images, labels), rtol=1e-5)


@pytest.mark.parametrize("name", OTHERS)
def test_what_only_autograd_knows_is_done_image_by_image(name):
    torch.manual_seed(0)
    model, (images, labels) = _trained(OTHERS[name]()), _images()
    norms = full_gradient_norms(model, images, labels, chunk_size=3)
    np.testing.assert_allclose(norms, _by_plain_autograd(model, images, labels), rtol=1e-5)


@pytest.mark.parametrize("places", [10, 1000], ids=["Gram matrices", "whole gradient"])
def test_products_by_either_way(places):
    generator = torch.Generator().manual_seed(0)
    seen = torch.rand(2, 3, places, 15, generator=generator)
    gradient = torch.rand(2, 3, places, 25, generator=generator)
    by_hand = torch.einsum("ngpd,ngpo->ngdo", seen, gradient).square().sum((1, 2, 3))
    found = module._squared_norms_of_products(seen, gradient)
    torch.testing.assert_close(found, by_hand, rtol=1e-4, atol=0)


@pytest.mark.parametrize("frozen", ["0.weight", "1.weight", "1.bias", "3.bias"])
def test_frozen_parameters_are_left_out(monkeypatch, frozen):
    monkeypatch.setattr(module, "_norms_by_image", _never)
    torch.manual_seed(0)
    model = _trained(nn.Sequential(nn.Conv2d(3, 2, 3), nn.BatchNorm2d(2), nn.Flatten(), nn.Linear(72, 3)))
    model.get_parameter(frozen).requires_grad = False
    images, labels = _images()
    norms = full_gradient_norms(model, images, labels)
    np.testing.assert_allclose(norms, _by_plain_autograd(model, images, labels), rtol=1e-5)


def test_a_model_that_trains_nothing_is_refused():
    model = nn.Linear(3, CLASSES).requires_grad_(False)
    with pytest.raises(ValueError, match="requires_grad"):
        full_gradient_norms(model, *_images())


@pytest.mark.parametrize("compiled", [False, True])
def test_an_image_classifier(monkeypatch, compiled):
    monkeypatch.setattr(module, "_norms_by_image", _never)
    torch.manual_seed(0)
    model = ImageClassifier(SmallResNet(), 128, CLASSES, image_size=16)
    _trained(model)
    images, labels = (255 * _images(16)[0]).to(torch.uint8), _images(16)[1]
    expected = _by_plain_autograd(model, images, labels, lambda images: {"images": images})
    if compiled:
        model.network.compile(backend=_never)
    with torch.no_grad():  # as whoever goes through a data set may have it
        norms = full_gradient_norms(model, images, labels, lambda images: {"images": images})
    np.testing.assert_allclose(norms, expected, rtol=1e-5)


@pytest.mark.parametrize("training", [False, True])
def test_the_model_is_left_as_it_was(training):
    model, (images, labels) = _TwoPaths().train(training), _images()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    full_gradient_norms(model, images, labels)
    assert model.training == model.norm.training == training
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert all(p.grad is None for p in model.parameters())
    assert not any(layer._forward_hooks for layer in model.modules())


def test_in_bfloat16_nearly_the_same():
    torch.manual_seed(0)
    model, (images, labels) = _trained(LAYERED["small_resnet"]()), _images(16)
    exact = full_gradient_norms(model, images, labels)
    with torch.autocast("cpu", torch.bfloat16):
        norms = full_gradient_norms(model, images, labels)
    assert norms.dtype == np.float32 and (norms != exact).any()
    np.testing.assert_allclose(norms, exact, rtol=0.05)


def test_of_the_last_layer_is_that_of_a_linear_head():
    torch.manual_seed(0)
    head, features = nn.Linear(6, CLASSES), torch.randn(NUM, 6)
    labels = torch.arange(NUM) % CLASSES
    layer = LastLayer(features.numpy(), head(features).softmax(1).detach().numpy())
    norms = last_layer_gradient_norms(layer, labels.numpy())
    assert norms.dtype == np.float32
    np.testing.assert_allclose(norms, _by_plain_autograd(head, features, labels), rtol=1e-5)


def test_mean_over_networks():
    evidence = SimpleNamespace(gradient_norms=lambda: np.array([[1, 2, 3], [3, 0, 3]], np.float32))
    scores = grand(evidence, keep_ratio=0.5, seed=0)
    assert scores.dtype == np.float64
    np.testing.assert_array_equal(scores, [2, 1, 3])
