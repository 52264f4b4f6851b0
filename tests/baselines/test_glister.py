from types import SimpleNamespace

import numpy as np
import pytest
import torch

from adapruner_det.baselines.glister import glister, greedy_order, split
from adapruner_det.pruning.statistics import LastLayer

RATE = 0.2


def random_layer(num_images, num_features=4, num_classes=3, seed=0):
    """Images seen by a random last layer; also that layer, (C, F + 1)."""
    rng = np.random.default_rng(seed)
    weight = np.random.default_rng(99).standard_normal((num_classes, num_features + 1))
    features = rng.standard_normal((num_images, num_features)).astype(np.float32)
    logits = features @ weight[:, :-1].T + weight[:, -1]
    probabilities = torch.from_numpy(logits).softmax(1).numpy().astype(np.float32)
    labels = rng.integers(num_classes, size=num_images)
    return LastLayer(features, probabilities), labels, weight


def image_gradients(weight, features, labels):
    """Gradients of each image's cross-entropy on the last layer, by autograd: (N, C * (F + 1))."""
    inputs = torch.nn.functional.pad(torch.as_tensor(features, dtype=torch.float64), (0, 1), value=1)
    gradients = []
    for row, label in zip(inputs, torch.as_tensor(labels)):
        leaf = torch.tensor(weight, dtype=torch.float64, requires_grad=True)
        torch.nn.functional.cross_entropy((leaf @ row)[None], label[None]).backward()
        gradients.append(leaf.grad.flatten().numpy())
    return np.array(gradients)


def test_first_choice_has_the_largest_gain():
    """And all others follow in the order of g_i . grad L_V, if they are chosen at once."""
    layer, labels, weight = random_layer(20)
    held_out, held_out_labels, _ = random_layer(9, seed=1)
    gradients = image_gradients(weight, layer.features, labels)
    gains = gradients @ image_gradients(weight, held_out.features, held_out_labels).mean(axis=0)
    at_once = greedy_order(layer, labels, held_out, held_out_labels, RATE, rounds=1)
    assert at_once.tolist() == np.argsort(-gains).tolist()
    assert greedy_order(layer, labels, held_out, held_out_labels, RATE)[0] == at_once[0]


def test_one_by_one_is_the_greedy_of_the_definition():
    """L_V's gradient is computed anew, at theta - eta sum g_i, after each choice."""
    layer, labels, weight = random_layer(14)
    held_out, held_out_labels, _ = random_layer(9, seed=1)
    gradients = image_gradients(weight, layer.features, labels)
    expected, moved = [], weight.astype(float)
    while len(expected) < 14:
        gains = gradients @ image_gradients(moved, held_out.features, held_out_labels).mean(axis=0)
        gains[expected] = -np.inf
        expected.append(int(np.argmax(gains)))
        moved = moved - RATE * gradients[expected[-1]].reshape(weight.shape)
    order = greedy_order(layer, labels, held_out, held_out_labels, RATE, rounds=14)
    assert order.tolist() == expected
    # The gains do move: the order differs from the one without recomputation.
    assert order.tolist() != greedy_order(layer, labels, held_out, held_out_labels, RATE, rounds=1).tolist()


def test_no_class_is_left_for_last_by_a_step_of_an_epoch():
    """At first one class pulls hardest on the held-out loss; it must not be used up before others begin."""
    rng = np.random.default_rng(0)
    labels = np.arange(3000) % 3
    features = 2 * (np.eye(3)[labels] + 0.5 * rng.standard_normal((3000, 3))).astype(np.float32)
    logits = torch.from_numpy(features * [1, 1, 2] + np.float32([0, 0, 1]))  # class 2 is overrated
    layer = LastLayer(features, logits.softmax(1).numpy().astype(np.float32))

    def shares(rate):
        kept = glister(seen_by(layer, labels, rate), 0.5, seed=0) > 0.5
        return np.bincount(labels[kept], minlength=3) / 1000

    assert shares(1e-9).min() < 0.05 and shares(0.01).min() > 0.2


def seen_by(layer, labels, rate=0.01):
    return SimpleNamespace(last_layer=layer, classes=labels, image_learning_rate=rate)


def seen(num_images, **kwargs):
    layer, labels, _ = random_layer(num_images, **kwargs)
    return seen_by(layer, labels)


@pytest.mark.parametrize("num_images", [2, 3, 57])
def test_every_image_has_a_rank_of_its_own(num_images):
    scores = glister(seen(num_images), 0.5, seed=0)
    assert sorted(scores) == pytest.approx((np.arange(num_images) + 1) / num_images)
    assert scores.dtype == np.float64


def test_held_out_images_are_ranked_by_the_others():
    given = seen(200)
    layer, labels = given.last_layer, given.classes
    held_out, candidates = split(labels, seed=3)
    scores = glister(given, 0.5, seed=3)
    for part, other in ((held_out, candidates), (candidates, held_out)):
        order = greedy_order(
            LastLayer(layer.features[part], layer.probabilities[part]),
            labels[part],
            LastLayer(layer.features[other], layer.probabilities[other]),
            labels[other],
            given.image_learning_rate * len(labels) / len(part),
        )
        assert part[order].tolist() == part[np.argsort(-scores[part])].tolist()


def test_split_is_stratified():
    labels = np.random.default_rng(0).permutation(np.repeat([0, 1, 2, 3], [500, 96, 44, 3]))
    for seed in range(20):
        held_out, others = split(labels, seed)
        assert sorted(np.concatenate([held_out, others])) == list(range(643))
        counts = np.bincount(labels[held_out], minlength=4)
        assert counts.sum() == 64
        assert np.abs(counts - [50, 9.6, 4.4, 0.3]).max() < 1.1


def test_one_image_cannot_be_split():
    with pytest.raises(ValueError, match="needs two at least, not 1"):
        split(np.array([0]), 0)


@pytest.mark.filterwarnings("error")  # such as the logarithm of 0
def test_probabilities_rounded_to_one_and_zero():
    layer = LastLayer(np.ones((3, 2), np.float32), np.array([[1, 1e-12, 0], [1, 1e-9, 0], [0, 1, 0]], np.float32))
    assert sorted(greedy_order(layer, np.zeros(3, int), layer, np.zeros(3, int), RATE)) == [0, 1, 2]
