from types import SimpleNamespace

import numpy as np
import pytest

from adapruner_det.baselines import bnsl as module
from adapruner_det.baselines.bnsl import bnsl, class_distances, cluster_distances, guarantee_classes


def seen(features, classes=None, num_classes=2):
    """Without classes: by a detector."""

    class Seen(SimpleNamespace):
        def __len__(self):
            return len(features)

    known = {"classes": np.array(classes), "classifies": classes is not None}
    return Seen(features=np.asarray(features, np.float32), class_names=["c"] * num_classes, **known)


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


def test_a_detector_of_one_class_has_several_prototypes():
    """Ten kinds of image, of which none is hard for being unlike the mean of all."""
    features = np.repeat(np.eye(11), [30] * 10 + [1], axis=0)
    features[-1, 10] = 0.2  # the odd one has the looks of two kinds
    features[-1, :2] = 1
    scores = bnsl(seen(features, num_classes=1), 0.5, 0, "hard")
    assert scores.argmax() == 300 and scores[:300].max() < 0.1


@pytest.mark.parametrize("images, side", [(200, "easy"), (201, "hard"), (400, "hard")])
def test_side_follows_the_images_a_class(monkeypatch, images, side):
    monkeypatch.setattr(module, "ABUNDANT_IMAGES_PER_CLASS", 100)
    features = np.random.default_rng(1).normal(size=(images, 3))
    given = seen(features, np.arange(images) % 2)
    np.testing.assert_array_equal(bnsl(given, 0.5, 0), bnsl(given, 0.5, 0, side))
    distances = class_distances(given.features, given.classes)
    supervised = bnsl(given, 0, 0, "supervised")
    assert np.sign(np.corrcoef(supervised, distances)[0, 1]) == (1 if side == "hard" else -1)


def test_guarantee_by_hand():
    scores = np.array([9, 8, 7, 6, 1, 2, 3, 0.5])
    labels = np.array([0, 0, 0, 0, 1, 1, 1, 1])
    guaranteed = guarantee_classes(scores, labels, 0.5, 0)
    assert list(np.argsort(-guaranteed)) == [0, 1, 6, 5, 2, 3, 4, 7]
    assert list(np.argsort(-guarantee_classes(scores, labels, 0.2, 0))) == [0, 1, 2, 3, 6, 5, 4, 7]


def test_no_class_keeps_less_than_half_its_share():
    rng = np.random.default_rng(2)
    tight = np.array([1, 0, 0]) + 0.01 * rng.normal(size=(100, 3))
    loose = np.array([0, 1, 0]) + 0.3 * rng.normal(size=(100, 3))
    features, labels = np.concatenate([tight, loose]), np.repeat([0, 1], 100)
    kept = np.argsort(-bnsl(seen(features, labels), 0.4, 0, "hard"))[:80]
    assert np.bincount(labels[kept]).tolist() == [20, 60]
    without_classes = bnsl(seen(features), 0.4, 0, "hard")
    assert (labels[np.argsort(-without_classes)[:80]] == 1).all()


@pytest.mark.parametrize("variant", ["auto", "hard", "supervised"])
def test_permuting_the_images_permutes_the_scores(variant):
    rng = np.random.default_rng(3)
    features, labels = rng.normal(size=(120, 5)), rng.integers(0, 2, 120)
    permutation = rng.permutation(120)
    scores = bnsl(seen(features, labels), 0.7, 0, variant)
    permuted = bnsl(seen(features[permutation], labels[permutation]), 0.7, 0, variant)
    np.testing.assert_allclose(permuted, scores[permutation], atol=1e-6)


@pytest.mark.filterwarnings("ignore:Number of distinct clusters")
def test_degenerate_input():
    same = np.ones((6, 3))
    np.testing.assert_allclose(cluster_distances(same, 2, 0), 0, atol=1e-6)
    np.testing.assert_allclose(cluster_distances(np.zeros((6, 3)), 2, 0), 1)
    assert cluster_distances(np.eye(3), 10, 0) == pytest.approx(0, abs=1e-6)
    assert class_distances(np.eye(3), np.arange(3)) == pytest.approx(0, abs=1e-6)
    guaranteed = guarantee_classes(np.zeros(6), np.zeros(6, dtype=int), 0.5, 0)
    assert sorted(guaranteed - guaranteed.min()) == [0, 0, 0, 1, 1, 1]
