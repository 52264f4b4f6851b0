from itertools import combinations
from types import SimpleNamespace

import numpy as np
import pytest
from scipy.optimize import root
from scipy.special import softmax

from adapruner_det.baselines import dataset_pruning as pruning
from adapruner_det.baselines.dataset_pruning import (
    dataset_pruning,
    exact_influences,
    kronecker_influences,
    last_layer_influences,
    random_change,
)
from adapruner_det.baselines.dataset_pruning_solver import Influences, largest_removable, smallest_sum
from adapruner_det.pruning.statistics import LastLayer

DAMPING = 0.02


def toy(count, num_features=3, num_classes=3):
    """Classes that overlap."""
    rng = np.random.default_rng(0)
    labels = np.arange(count) % num_classes
    features = rng.normal(size=(num_classes, num_features))[labels] + rng.normal(size=(count, num_features))
    return features.astype(np.float32), labels


def fit(features, labels, weights, start=None):
    """Softmax regression: minimises sum_i weights_i L_i / N + DAMPING / 2 ||theta||^2; theta (P, C)."""
    inputs = np.concatenate([features, np.ones((len(features), 1))], axis=1)
    target = np.eye(labels.max() + 1)[labels]
    shape = inputs.shape[1], target.shape[1]

    def gradient(flat):
        theta = flat.reshape(shape)
        residual = (softmax(inputs @ theta, axis=1) - target) * weights[:, None]
        return (inputs.T @ residual / len(inputs) + DAMPING * theta).ravel()

    solution = root(gradient, np.zeros(shape) if start is None else start, tol=1e-13)
    assert np.abs(gradient(solution.x)).max() < 1e-10
    return solution.x.reshape(shape)


def trained(count):
    features, labels = toy(count)
    theta = fit(features, labels, np.ones(count))
    inputs = np.concatenate([features, np.ones((count, 1))], axis=1)
    probabilities = softmax(inputs @ theta, axis=1).astype(np.float32)
    return LastLayer(features, probabilities), labels, theta


def change_without(last_layer, labels, theta, index, weight=0.0):
    weights = np.ones(len(labels))
    weights[index] = weight
    return fit(last_layer.features, labels, weights, theta) - theta


@pytest.fixture(scope="module")
def seen():
    last_layer, labels, _ = trained(90)
    return SimpleNamespace(classes=labels, last_layer=last_layer)


def test_influence_is_the_change_when_an_image_is_left_out():
    last_layer, labels, theta = trained(300)
    influences = exact_influences(last_layer, labels, DAMPING)
    for image in range(20):
        change = change_without(last_layer, labels, theta, image)
        error = np.linalg.norm(change - influences.left[image].reshape(theta.shape))
        assert error < 0.06 * np.linalg.norm(change)


def test_without_the_images_found_the_parameters_stay_closest():
    last_layer, labels, theta = trained(150)
    influences = exact_influences(last_layer, labels, DAMPING)
    norms = influences.squared_norms()
    found = smallest_sum(influences, 45, seed=0)
    sets = [found.order[:45], np.argsort(norms)[:45], np.random.default_rng(0).permutation(150)[:45]]
    ours, shortest, random = (np.linalg.norm(change_without(last_layer, labels, theta, index)) for index in sets)
    assert ours < 0.5 * shortest and ours < 0.5 * random


def test_kronecker_factors_are_exact_where_all_predictions_are_alike():
    features, labels = toy(40)
    last_layer = LastLayer(features, np.tile(np.float32([0.5, 0.25, 0.25]), (40, 1)))
    exact = exact_influences(last_layer, labels, 1e-10).left
    factors = kronecker_influences(last_layer, labels, 1e-10)
    products = np.einsum("np,nc->npc", factors.left, factors.right).reshape(40, -1)
    np.testing.assert_allclose(products, exact, atol=1e-3 * np.abs(exact).max())


def test_kronecker_factors_point_where_the_exact_influences_do():
    last_layer, labels, _ = trained(300)
    exact = exact_influences(last_layer, labels, DAMPING).left
    factors = kronecker_influences(last_layer, labels, DAMPING)
    products = np.einsum("np,nc->npc", factors.left, factors.right).reshape(300, -1)
    cosines = (products * exact).sum(1) / np.linalg.norm(products, axis=1) / np.linalg.norm(exact, axis=1)
    assert np.median(cosines) > 0.8
    assert 0.3 < np.median(np.linalg.norm(products, axis=1) / np.linalg.norm(exact, axis=1)) < 1.5


def test_certain_predictions_have_finite_influences():
    features, labels = toy(30)
    last_layer = LastLayer(features, np.eye(3, dtype=np.float32)[labels])
    for method in (exact_influences, kronecker_influences):
        assert not method(last_layer, labels, DAMPING).squared_norms().any()
    wrong = (labels + 1) % 3
    for method in (exact_influences, kronecker_influences):
        assert np.isfinite(method(last_layer, wrong, DAMPING).squared_norms()).all()


def test_large_layers_are_factored(monkeypatch):
    last_layer, labels, _ = trained(30)
    assert last_layer_influences(last_layer, labels).left.shape == (30, 12)
    monkeypatch.setattr(pruning, "MAX_EXACT", 11)
    influences = last_layer_influences(last_layer, labels)
    assert (influences.left.shape, influences.right.shape) == ((30, 4), (30, 3))


def test_random_change_is_the_root_mean_square_over_all_sets():
    vectors = np.random.default_rng(0).normal(size=(8, 3))
    squares = [np.sum(vectors[list(s)].sum(axis=0) ** 2) for s in combinations(range(8), 3)]
    assert random_change(Influences.of_vectors(vectors), 3) == pytest.approx(np.sqrt(np.mean(squares)))


@pytest.mark.parametrize("keep_ratio", (0.9, 0.7, 0.3))
def test_the_cut_removes_the_set_found_for_the_ratio(seen, keep_ratio):
    scores = dataset_pruning(seen, keep_ratio, seed=0)
    count = 90 - round(keep_ratio * 90)
    influences = last_layer_influences(seen.last_layer, seen.classes)
    found = smallest_sum(influences, count, seed=0)
    assert scores.shape == (90,) and scores.dtype == np.float64 and len(set(scores)) == 90
    assert set(np.argsort(scores)[:count]) == set(found.order[:count])


@pytest.mark.parametrize("variant", ("cardinality", "generalization"))
@pytest.mark.parametrize("keep_ratio", (1.0, 0.001))
def test_extreme_ratios_rank_all_images(seen, variant, keep_ratio):
    scores = dataset_pruning(seen, keep_ratio, 0, variant)
    assert np.isfinite(scores).all() and len(set(scores)) == 90


def test_what_can_go_has_no_positive_score(seen):
    scores = dataset_pruning(seen, 0.8, 0, "generalization")
    influences = last_layer_influences(seen.last_layer, seen.classes)
    epsilon = random_change(influences, 18)
    found = largest_removable(influences, epsilon, seed=0)
    assert set(np.flatnonzero(scores <= 0)) == set(found.order[: found.size])
    assert np.linalg.norm(influences.sum(np.flatnonzero(scores <= 0))) <= epsilon
    assert found.size > 18 and len(set(scores)) == 90
