import numpy as np
import pytest

from adapruner_det.pruning.redundancy import Comparison, discounted_order, discounted_scores, ranks, whitened


def at_angles(degrees):
    radians = np.radians(degrees)
    return np.stack([np.cos(radians), np.sin(radians)], axis=1)


def written_out(scores, features, strength, keep_ratio, power=1, baseline=0, neighbours=10):
    """The definition, word by word, in float64, for scores and features without ties."""
    units = features / np.linalg.norm(features, axis=1, keepdims=True)
    distances = 1 - units @ units.T
    np.fill_diagonal(distances, np.inf)
    width = np.median(np.sort(distances, axis=1)[:, round(1 / keep_ratio) - 1])
    nearest = distances.argsort(axis=1)[:, : min(neighbours, 10)]
    own = scores - baseline * np.median(scores[nearest], axis=1)
    base = 1 - (1 - own.argsort().argsort() / (len(scores) - 1)) ** power
    order = []
    while len(order) < len(scores):
        discount = np.exp(-((2 * distances[:, order] / width) ** 2)).max(axis=1, initial=0)
        left = base - strength * discount
        left[order] = -np.inf
        order.append(int(left.argmax()))
    return order


def planted(copies=12, others=60, seed=0):
    """Images of which the first `copies` are one; scores without ties, the copies' all over the place."""
    rng = np.random.default_rng(seed)
    features = rng.normal(size=(copies + others, 6)).astype(np.float32)
    features[:copies] = features[0]
    return rng.permutation(copies + others).astype(float), features, copies


@pytest.mark.parametrize("copies, neighbours", [(2, 32), (12, 32), (100, 32), (100, 1)])
def test_of_copies_all_but_the_best_sink_below_everything_else(copies, neighbours):
    scores, features, _ = planted(copies)
    order = discounted_order(scores, features, Comparison(100.0, num_neighbours=neighbours))
    sunk = order[-(copies - 1) :]
    assert set(sunk) == set(range(copies)) - {int(scores[:copies].argmax())}
    assert sorted(order) == list(range(len(scores)))


def test_strength_zero_changes_nothing_whatever_the_rest_is():
    scores, features, _ = planted()
    comparison = Comparison(0.0, power=3, baseline=0.5, chance=9)
    assert discounted_order(scores, features, comparison).tolist() == np.argsort(-scores).tolist()


def test_on_a_circle_by_hand():
    # Nearest neighbours 10, 10, 40, 60 and 60 degrees away. 1 - cos 40 is 0.234, half of it 0.117: number 1, 10
    # away (0.0152), has a kernel of 0.983; 40 degrees, exp(-4) = 0.018; 50 degrees (0.357), 0.0001.
    features, scores = at_angles([0, 10, 50, 110, 170]), np.array([5.0, 4.0, 3.0, 2.0, 1.0])
    # Ranks 1, 0.75, 0.5, 0.25, 0. With strength 0.5 number 1 falls to 0.258, number 2 stays at 0.5 and number 3
    # at 0.25; with 0.6 number 1 falls to 0.160, with 0.2 to 0.553.
    assert discounted_order(scores, features, Comparison(0.5)).tolist() == [0, 2, 1, 3, 4]
    assert discounted_order(scores, features, Comparison(0.6)).tolist() == [0, 2, 3, 1, 4]
    assert discounted_order(scores, features, Comparison(0.2)).tolist() == [0, 1, 2, 3, 4]


def test_a_power_of_the_ranks_by_hand():
    # The same images. With power 2 they count 1, 0.9375, 0.75, 0.4375 and 0: number 1 falls to 0.741 with strength 0.2,
    # to 0.839 with 0.1. With power 3 they count 1, 0.984, 0.875, 0.578 and 0: 0.886 with 0.1, 0.591 with 0.4, 0.542 with 0.45.
    features, scores = at_angles([0, 10, 50, 110, 170]), np.array([5.0, 4.0, 3.0, 2.0, 1.0])
    assert discounted_order(scores, features, Comparison(0.2, power=2)).tolist() == [0, 2, 1, 3, 4]
    assert discounted_order(scores, features, Comparison(0.1, power=2)).tolist() == [0, 1, 2, 3, 4]
    assert discounted_order(scores, features, Comparison(0.1, power=3)).tolist() == [0, 1, 2, 3, 4]
    assert discounted_order(scores, features, Comparison(0.4, power=3)).tolist() == [0, 2, 1, 3, 4]
    assert discounted_order(scores, features, Comparison(0.45, power=3)).tolist() == [0, 2, 3, 1, 4]


def test_of_the_worst_only_their_score_counts_and_of_the_best_only_what_they_have_in_common():
    # Ten pairs of copies, a worst image that is like none, and a copy of the best one that is nearly as good.
    features = np.repeat(np.eye(11), 2, axis=0)[:-1]
    scores = np.arange(21.0)[::-1]  # the last one is the one like none
    taken_last = discounted_order(scores, features, Comparison(0.7, power=16))[-11:]
    assert set(taken_last) == {20} | set(range(1, 20, 2))
    assert taken_last[-1] == 19  # which is a copy and nearly the worst
    assert discounted_order(scores, features, Comparison(0.7, power=1))[-1] == 19


def test_among_hard_neighbours_an_image_is_not_hard():
    # A stretch of 20 frames that are all hard, one of them harder; others that are easy, but for one of them.
    rng = np.random.default_rng(0)
    features = np.repeat([[1.0, 0.0], [0.0, 1.0]], 20, axis=0) + 0.05 * rng.normal(size=(40, 2))
    scores = np.repeat([-5.0, 1.0], 20) + 0.1 * rng.normal(size=40)
    scores[[3, 30]] -= 3
    assert set(discounted_order(scores, features, Comparison(1e-3, baseline=1.0))[-2:]) == {3, 30}
    assert set(discounted_order(scores, features, Comparison(1e-3))[-20:]) == set(range(20))


def test_the_score_of_the_neighbours_by_hand():
    # The nearest ones are 1, 0, 1, 2 and 3; without half their scores 4, 1, 2, 3, 4.8 are 3.5, -1, 1.5, 2 and 3.3.
    features, scores = at_angles([0, 10, 50, 110, 180]), np.array([4.0, 1.0, 2.0, 3.0, 4.8])
    for baseline, order in ((0.5, [0, 4, 3, 2, 1]), (0, [4, 0, 3, 2, 1])):
        comparison = Comparison(1e-9, num_neighbours=1, baseline=baseline)
        assert discounted_order(scores, features, comparison).tolist() == order


def test_between_the_good_ones_lots_decide():
    rng = np.random.default_rng(0)
    features, scores = rng.normal(size=(400, 50)), np.arange(400.0)
    features[40:60] = features[380:]  # copies of the best
    comparison, lots = Comparison(0.7, power=16, chance=0.2), rng.uniform(size=(2, 400))
    taken = [discounted_order(scores, features, comparison, lots=own)[:200] for own in lots]
    assert 60 < len(set(taken[0]) & set(taken[1])) < 170  # of 200; by chance alone 100
    for order in taken:
        assert order.min() >= 8  # 0.98^16, 0.72, is more than chance and what there is in common
        good = order[order >= 60]
        assert 0.4 < (good < 230).mean() < 0.6  # the upper half of the others is not preferred
        assert len({i if i >= 60 else i + 340 for i in order}) == 200  # of two copies one


def test_a_lot_is_its_image_s_in_whatever_place_and_group():
    rng = np.random.default_rng(1)
    features, scores, lots = rng.normal(size=(60, 5)), rng.normal(size=60), rng.uniform(size=60)
    groups, kept, permutation = np.arange(60) % 2, np.arange(60) % 3 > 0, rng.permutation(60)
    comparison = Comparison(0.7, power=16, baseline=0.75, chance=0.3)
    discounted = discounted_scores(scores, kept, features, comparison, groups, lots)
    arguments = (scores, kept, features, comparison, groups, lots)
    permuted = discounted_scores(*(a[permutation] if isinstance(a, np.ndarray) else a for a in arguments))
    assert np.array_equal(permuted, discounted[permutation])
    others = discounted_scores(scores, kept, features, comparison, groups, lots[permutation])
    assert not np.array_equal(others, discounted)


def test_the_best_differ_by_more_than_rounding():
    # At these ranks 1 - (1 - r)^16 is 1 for all.
    scores, features = np.arange(2000.0), np.random.default_rng(2).normal(size=(2000, 8))
    assert discounted_order(scores, features, Comparison(1e-200, power=16)).tolist() == list(range(1999, -1, -1))


def test_what_counts_as_near_grows_as_fewer_stay():
    # A third stays: third neighbours are 110, 100, 60, 100 and 160 degrees away. 1 - cos 100 is 1.174, half of it 0.587:
    # number 2, 50 degrees from number 0 (0.357), has a kernel of 0.691 and falls from 0.5 to 0.155. Number 1 falls to
    # 0.2503, number 3, 110 degrees from number 0 (1.342), to 0.2473, and lower still, by number 1, to 0.241.
    features, scores = at_angles([0, 10, 50, 110, 170]), np.array([5.0, 4.0, 3.0, 2.0, 1.0])
    order = discounted_order(scores, features, Comparison(0.5), keep_ratio=1 / 3)
    assert order.tolist() == [0, 1, 3, 2, 4]


@pytest.mark.parametrize("keep_ratio, neighbours", [(1.0, 1), (0.8, 5), (0.2, 5), (0.3, 39)])
@pytest.mark.parametrize("strength, power, baseline", [
    (0.1, 1, 0), (0.5, 1, 0), (2.0, 1, 0), (0.5, 5, 0), (0.5, 5, 0.7), (0.1, 1, 0.93),
])  # fmt: skip
def test_as_written_out_however_short_the_lists(strength, power, baseline, keep_ratio, neighbours):
    rng = np.random.default_rng(1)
    features, scores = rng.normal(size=(40, 3)), rng.permutation(40).astype(float)
    comparison = Comparison(strength, power, baseline, num_neighbours=neighbours)
    order = discounted_order(scores, features.astype(np.float32), comparison, keep_ratio)
    assert order.tolist() == written_out(scores, features, strength, keep_ratio, power, baseline, neighbours)


def test_further_neighbours_than_there_are_in_the_lists_are_not_asked():
    rng = np.random.default_rng(1)
    features, scores = rng.normal(size=(40, 3)), rng.permutation(40).astype(float)
    few = discounted_order(scores, features, Comparison(1.0, num_neighbours=5), keep_ratio=0.01)
    assert few.tolist() == written_out(scores, features, 1.0, 1 / 5)


def test_whitened_features_vary_alike_in_every_direction():
    rng = np.random.default_rng(4)
    features = rng.normal(size=(400, 10)) * np.logspace(0, 3, 10) + 50
    white = whitened(features)
    assert white.shape == (400, 10) and white.dtype == np.float32
    np.testing.assert_allclose(np.cov(white.T), np.eye(10), atol=1e-4)


@pytest.mark.parametrize("num, size, components", [(2000, 256, 128), (80, 256, 10), (80, 4, 4)])
def test_as_many_components_as_the_samples_can_tell(num, size, components):
    features = np.random.default_rng(5).normal(size=(num, size))
    assert whitened(features).shape == (num, components)


@pytest.mark.parametrize("features", [np.ones((100, 5)), np.arange(20.0).reshape(10, 2)])
def test_features_that_cannot_be_whitened_stay(features):
    assert np.array_equal(whitened(features), features)


def test_neither_the_scale_of_scores_nor_the_length_of_features_counts():
    rng = np.random.default_rng(2)
    features, scores = rng.normal(size=(50, 5)), rng.normal(size=50)
    order = discounted_order(scores, features, Comparison(0.7))
    scaled = discounted_order(np.exp(9 * scores), features * rng.uniform(0.1, 10, (50, 1)), Comparison(0.7))
    assert order.tolist() == scaled.tolist()


def test_permuting_the_images_permutes_the_order():
    rng = np.random.default_rng(3)
    features, scores, permutation = rng.normal(size=(50, 5)), rng.normal(size=50), rng.permutation(50)
    order = discounted_order(scores, features, Comparison(0.7))
    permuted = discounted_order(scores[permutation], features[permutation], Comparison(0.7))
    assert permutation[permuted].tolist() == order.tolist()


@pytest.mark.parametrize("num", [1, 2, 3])
def test_hardly_any_images(num):
    assert sorted(discounted_order(np.arange(num), np.ones((num, 2)), Comparison(1.0))) == list(range(num))


def test_ranks_by_hand():
    assert ranks(np.array([7.0, -1.0, 7.0, 9.0, 0.0])).tolist() == [0.625, 0.0, 0.625, 1.0, 0.25]
    assert ranks(np.array([3.0])).tolist() == [0.0]


def test_scores_keep_as_many_and_their_order_is_that_of_taking():
    scores, features, _ = planted()
    kept = scores >= 20
    discounted = discounted_scores(scores, kept, features, Comparison(0.5))
    order = discounted_order(scores, whitened(features), Comparison(0.5), kept.mean())
    assert np.argsort(-discounted).tolist() == order.tolist()
    assert (discounted > 0).sum() == kept.sum() and ((discounted > 0) != kept).any()
    assert len(set(discounted)) == len(scores) and np.abs(discounted).max() < 1


def test_groups_keep_their_number_and_do_not_look_at_each_other():
    scores, features, copies = planted(copies=30, others=30)
    groups = np.arange(60) % 3
    kept = np.where(groups == 0, scores >= 30, scores >= 10)
    discounted = discounted_scores(scores, kept, features, Comparison(100.0), groups)
    for group in range(3):
        own = groups == group
        assert (discounted[own] > 0).sum() == kept[own].sum()
        best = int(discounted[own][: copies // 3].argmax())
        assert scores[own][best] == scores[own][: copies // 3].max()
        assert (discounted[own][: copies // 3] >= discounted[own][copies // 3 :].min()).sum() == 1


def test_copies_stay_copies_where_features_vary_in_few_directions():
    rng = np.random.default_rng(6)
    features = np.maximum(rng.normal(size=(400, 64)), 0)
    features[:, 40:] = 0  # channels that are always off
    features[200:220] = features[:20]
    white = whitened(features.astype(np.float32))
    np.testing.assert_allclose(white[200:220], white[:20], atol=1e-4)


def test_a_group_that_keeps_nothing():
    features, nothing = np.random.default_rng(7).normal(size=(20, 3)), np.zeros(20, bool)
    assert (discounted_scores(np.arange(20.0), nothing, features, Comparison(0.7)) <= 0).all()
