from types import SimpleNamespace

import numpy as np
import pytest

from adapruner_det.baselines import bnsl as module
from adapruner_det.baselines.bnsl import (
    bnsl,
    bnsl_easy,
    bnsl_hard,
    bnsl_supervised,
    class_distances,
    cluster_distances,
    guarantee_classes,
)
from adapruner_det.baselines.evidence import CLASSIFICATION, DETECTION
from adapruner_det.baselines.registry import METHODS


def evidence(features, labels, task=CLASSIFICATION, num_classes=2):
    return SimpleNamespace(
        task=task,
        labels=np.asarray(labels),
        num_classes=num_classes,
        features=lambda: np.asarray(features, dtype=np.float32),
    )


def at_angles(degrees):
    radians = np.radians(degrees)
    return np.stack([np.cos(radians), np.sin(radians)], axis=1)


# Two clusters, at 0 and at 90 degrees, each symmetric; one image of each sits 10 and 20 degrees off, twice.
ANGLES = np.array([0, 10, -10, 90, 110, 70])
OFF = np.array([0, 10, 10, 0, 20, 20])


@pytest.fixture
def two_clusters():
    # Lengths are of no account.
    return at_angles(ANGLES) * np.array([[1], [5], [0.2], [3], [1], [7]])


def test_distance_is_one_minus_cosine_to_the_nearest_centre(two_clusters):
    distances = cluster_distances(two_clusters, 2, 0)
    np.testing.assert_allclose(distances, 1 - np.cos(np.radians(OFF)), atol=1e-6)


def test_supervised_prototypes_are_the_means_of_the_classes(two_clusters):
    distances = class_distances(two_clusters, np.array([4, 4, 4, 9, 9, 9]))
    np.testing.assert_allclose(distances, 1 - np.cos(np.radians(OFF)), atol=1e-6)


def test_an_image_with_the_looks_of_another_class_is_hard_if_labels_are_known(two_clusters):
    features = np.concatenate([two_clusters, at_angles([90])])
    distances = class_distances(features, np.array([0, 0, 0, 1, 1, 1, 0]))
    assert distances.argmax() == 6
    assert cluster_distances(features, 2, 0)[6] < 0.01


def test_hard_keeps_outliers_and_easy_prunes_them():
    rng = np.random.default_rng(0)
    features = np.repeat(np.eye(10), 20, axis=0) + 0.05 * rng.normal(size=(200, 10))
    outliers = np.array([3, 77, 140])
    features[outliers] = np.eye(10)[[0, 2, 1]] + np.eye(10)[[1, 3, 8]]
    hard = bnsl_hard(evidence(features, np.arange(200) % 10, DETECTION, num_classes=10), 0.5, 0)
    easy = bnsl_easy(evidence(features, np.arange(200) % 10, DETECTION, num_classes=10), 0.5, 0)
    assert set(np.argsort(-hard)[:3]) == set(np.argsort(easy)[:3]) == set(outliers)


def test_a_detector_of_one_class_has_several_prototypes():
    """Ten kinds of image, of which none is hard for being unlike the mean of all."""
    features = np.repeat(np.eye(11), [30] * 10 + [1], axis=0)
    features[-1, 10] = 0.2  # the odd one has the looks of two kinds
    features[-1, :2] = 1
    scores = bnsl_hard(evidence(features, np.zeros(301), DETECTION, num_classes=1), 0.5, 0)
    assert scores.argmax() == 300 and scores[:300].max() < 0.1


@pytest.mark.parametrize("images, side", [(200, bnsl_easy), (201, bnsl_hard), (400, bnsl_hard)])
def test_side_follows_the_images_a_class(monkeypatch, images, side):
    monkeypatch.setattr(module, "ABUNDANT_IMAGES_PER_CLASS", 100)
    features = np.random.default_rng(1).normal(size=(images, 3))
    given = evidence(features, np.arange(images) % 2)
    np.testing.assert_array_equal(bnsl(given, 0.5, 0), side(given, 0.5, 0))


def test_cifar_10_is_abundant_and_a_fifth_of_it_is_not():
    assert module.is_abundant(evidence(None, np.zeros(50_000), num_classes=10))
    assert not module.is_abundant(evidence(None, np.zeros(10_000), num_classes=10))


def test_supervised_variant_takes_the_same_side(monkeypatch, two_clusters):
    given = evidence(two_clusters, [0, 0, 0, 1, 1, 1])
    distances = class_distances(two_clusters, given.labels)
    assert np.corrcoef(bnsl_supervised(given, 0, 0), distances)[0, 1] < -0.9
    monkeypatch.setattr(module, "ABUNDANT_IMAGES_PER_CLASS", 2)
    assert np.corrcoef(bnsl_supervised(given, 0, 0), distances)[0, 1] > 0.9


def test_guarantee_by_hand():
    scores = np.array([9, 8, 7, 6, 1, 2, 3, 0.5])
    labels = np.array([0, 0, 0, 0, 1, 1, 1, 1])
    guaranteed = guarantee_classes(scores, labels, 0.5, 0)
    assert list(np.argsort(-guaranteed)) == [0, 1, 6, 5, 2, 3, 4, 7]
    assert list(np.argsort(-guarantee_classes(scores, labels, 0.2, 0))) == [0, 1, 2, 3, 6, 5, 4, 7]


def test_the_share_a_class_is_guaranteed_is_that_of_the_ratio():
    """So scores made for one ratio are not those for another, as the registry says."""
    rng = np.random.default_rng(2)
    labels = np.repeat([0, 1], 100)
    near = np.eye(10)[rng.integers(0, 10, 100)]  # those of class 1 are their own prototypes
    features = np.concatenate([near + 0.3 * rng.normal(size=(100, 10)), near])
    of_class_1 = {
        ratio: (labels[np.argsort(-bnsl_hard(evidence(features, labels), ratio, 0))[:40]] == 1).sum()
        for ratio in (0.2, 1.0)
    }
    assert of_class_1 == {0.2: 10, 1.0: 0}
    assert all(METHODS[name].looks_at_ratio for name in METHODS if name.startswith("bnsl"))


def test_no_class_keeps_less_than_half_its_share():
    rng = np.random.default_rng(2)
    tight = np.array([1, 0, 0]) + 0.01 * rng.normal(size=(100, 3))
    loose = np.array([0, 1, 0]) + 0.3 * rng.normal(size=(100, 3))
    features, labels = np.concatenate([tight, loose]), np.repeat([0, 1], 100)
    kept = np.argsort(-bnsl_hard(evidence(features, labels), 0.4, 0))[:80]
    assert np.bincount(labels[kept]).tolist() == [20, 60]
    without_classes = bnsl_hard(evidence(features, labels, DETECTION), 0.4, 0)
    assert (labels[np.argsort(-without_classes)[:80]] == 1).all()


@pytest.mark.parametrize("method", [bnsl, bnsl_hard, bnsl_easy, bnsl_supervised])
def test_permuting_the_images_permutes_the_scores(method):
    rng = np.random.default_rng(3)
    features, labels = rng.normal(size=(120, 5)), rng.integers(0, 2, 120)
    permutation = rng.permutation(120)
    scores = method(evidence(features, labels), 0.7, 0)
    permuted = method(evidence(features[permutation], labels[permutation]), 0.7, 0)
    np.testing.assert_allclose(permuted, scores[permutation], atol=1e-6)


def test_the_seed_decides_where_k_means_starts():
    features = np.random.default_rng(4).normal(size=(150, 4))
    first, again, other = (cluster_distances(features, 5, seed) for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert not np.allclose(first, other)


@pytest.mark.filterwarnings("ignore:Number of distinct clusters")
def test_degenerate_input():
    same = np.ones((6, 3))
    np.testing.assert_allclose(cluster_distances(same, 2, 0), 0, atol=1e-6)
    np.testing.assert_allclose(cluster_distances(np.zeros((6, 3)), 2, 0), 1)
    assert cluster_distances(np.eye(3), 10, 0) == pytest.approx(0, abs=1e-6)
    assert class_distances(np.eye(3), np.arange(3)) == pytest.approx(0, abs=1e-6)
    guaranteed = guarantee_classes(np.zeros(6), np.zeros(6, dtype=int), 0.5, 0)
    assert sorted(guaranteed - guaranteed.min()) == [0, 0, 0, 1, 1, 1]
