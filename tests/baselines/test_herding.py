from types import SimpleNamespace

import numpy as np
import pytest

from adapruner_det.baselines.herding import herding, herding_order


def seen(features, classes=None):
    """Without classes: by a detector."""
    return SimpleNamespace(features=np.float32(features), classes=np.array(classes), classifies=classes is not None)


def order_of(scores):
    assert len(np.unique(scores)) == len(scores)
    return list(np.argsort(-scores))


def written_out(features, farthest):
    """The definition, word by word, in float64."""
    features = features.astype(np.float64)
    mean, chosen = features.mean(axis=0), []
    while len(chosen) < len(features):
        distances = {}
        for i in set(range(len(features))) - set(chosen):
            distances[i] = np.linalg.norm(mean - features[chosen + [i]].mean(axis=0))
        chosen.append((max if farthest else min)(distances, key=distances.get))
    return chosen


# The mean is 3.2: 3; then (3 + 2) / 2; (5 + 1) / 3 = 2, nearer than (5 + 10) / 3; (6 + 10) / 4; 0 is left.
# Farthest: 10; then 3 since (10 + 3) / 2 is farther off than with any smaller; and so on down.
@pytest.mark.parametrize("variant, expected", [("nearest", [3, 2, 1, 10, 0]), ("farthest", [10, 3, 2, 1, 0])])
def test_on_a_line_by_hand(variant, expected):
    values = np.array([0, 1, 2, 3, 10])
    order = order_of(herding(seen(values[:, None]), 0.5, 0, variant))
    assert list(values[order]) == expected


@pytest.mark.parametrize("farthest", [False, True])
def test_order_is_that_of_the_definition(farthest):
    features = np.random.default_rng(0).normal(5, 1, (60, 7)).astype(np.float32)
    assert list(herding_order(features, farthest)) == written_out(features, farthest)


def test_far_from_the_origin_nothing_is_lost():
    features = np.random.default_rng(2).integers(-50, 50, (300, 3)).astype(np.float32)
    features = np.unique(features, axis=0)
    assert list(herding_order(features + 4096)[:50]) == list(herding_order(features)[:50])


def test_each_class_follows_its_own_mean():
    values = np.array([0, 100, 1, 101, 2, 110, 9])
    labels = [0, 1, 0, 1, 0, 1, 0]
    order = order_of(herding(seen(values[:, None], labels), 0.5, 0))
    # Means 3 and 103.67: of 0, 1, 2, 9 first 2, then 1, 9, 0; of 100, 101, 110 first 101, then 110.
    assert [values[i] for i in order if labels[i] == 0] == [2, 1, 9, 0]
    assert [values[i] for i in order if labels[i] == 1] == [101, 110, 100]


def test_every_cut_keeps_the_share_of_each_class():
    labels = np.repeat([0, 1, 2], [500, 60, 7])
    scores = herding(seen(np.random.default_rng(4).normal(size=(567, 3)), labels), 0.5, 0)
    ordered = labels[order_of(scores)]
    for kept in (20, 57, 142, 283, 500):
        counts = np.bincount(ordered[:kept], minlength=3)
        assert np.abs(counts - np.array([500, 60, 7]) * kept / 567).max() <= 1


@pytest.mark.parametrize("variant", ["nearest", "farthest"])
def test_permuting_the_images_permutes_the_scores(variant):
    rng = np.random.default_rng(5)
    features, labels = rng.normal(size=(90, 6)), rng.integers(0, 3, 90)
    permutation = rng.permutation(90)
    scores = herding(seen(features, labels), 0.5, 0, variant)
    permuted = herding(seen(features[permutation], labels[permutation]), 0.5, 7, variant)
    np.testing.assert_array_equal(permuted, scores[permutation])


def test_equal_images_are_ordered_by_the_seed():
    same = np.ones((50, 4))
    orders = [order_of(herding(seen(same), 0.5, seed)) for seed in (0, 0, 1)]
    assert sorted(orders[0]) == list(range(50))
    assert orders[0] == orders[1] != orders[2]
    assert orders[0] != list(range(50))


def test_one_image_a_class_and_zero_vectors():
    scores = herding(seen(np.zeros((3, 2)), [0, 1, 2]), 0.5, 0)
    assert sorted(scores) == pytest.approx([1 / 3, 2 / 3, 1])
