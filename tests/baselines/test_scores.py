import numpy as np
import pytest

from adapruner_det.baselines.scores import class_by_class, divided, interleave, scores_of_order, scores_of_quotas


def test_the_first_scores_highest():
    np.testing.assert_allclose(scores_of_order(np.array([2, 0, 1])), [2 / 3, 1 / 3, 1])


def test_interleave_by_hand():
    assert list(interleave([np.array([5, 6, 7, 8]), np.array([1, 2])])) == [5, 1, 6, 7, 2, 8]


def test_each_class_keeps_its_own_order_and_its_share():
    labels = np.random.default_rng(0).integers(0, 3, 100)
    values = np.random.default_rng(1).random(100)
    order = class_by_class(labels, lambda of_class: np.argsort(values[of_class]), seed=0)
    assert sorted(order) == list(range(100))
    for label in range(3):
        assert (np.diff(values[[i for i in order if labels[i] == label]]) > 0).all()
        assert abs((labels[order[:50]] == label).sum() - (labels == label).sum() / 2) <= 1


def test_the_seed_says_which_classes_stay_where_few_images_do():
    orders = [class_by_class(np.arange(20), lambda of_class: np.arange(len(of_class)), seed) for seed in range(10)]
    assert len({tuple(sorted(order[:5])) for order in orders}) > 5


@pytest.mark.parametrize(
    "total, weights, quotas",
    [
        (6, [1, 1, 4], [1.5, 1.5, 3]),  # 1, 1 and 4, of which 1 is divided again
        (11, [1, 1, 1], [4, 4, 3]),
        (5, [0, 0, 9], [1, 1, 3]),  # what nobody wants is divided evenly
    ],
)
def test_places_are_divided_by_weight_up_to_the_size(total, weights, quotas):
    np.testing.assert_allclose(divided(total, np.array(weights, float), np.array([4, 4, 3])), quotas)


def test_a_cut_keeps_the_quotas_and_the_best():
    groups, scores = np.array([0, 0, 0, 1, 1, 1]), np.array([1.0, 3, 2, 5, 6, 4])
    found = scores_of_quotas(groups, np.array([1.0, 2.0]), scores)
    assert set(np.argsort(-found)[:3]) == {1, 3, 4}
