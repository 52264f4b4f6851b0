import math
from statistics import median

import numpy as np
import pytest

from adapruner_det.neighbours import nearest_neighbours, unit_vectors
from adapruner_det.pruning.redundancy import Comparison, discounted_order, discounted_scores, outlyingness, whitened


def taking_order(scores, features, comparison, keep_ratio=1.0, *, lots):
    return discounted_order(scores, features, comparison, keep_ratio, lots)[0]


def at_angles(degrees):
    radians = np.radians(degrees)
    return np.stack([np.cos(radians), np.sin(radians)], axis=1)


def written_out(scores, features, comparison, keep_ratio=1, lots=None):
    """The definition, word by word, in float64, for features without ties."""
    units = features / np.linalg.norm(features, axis=1, keepdims=True)
    distances = 1 - units @ units.T
    np.fill_diagonal(distances, np.inf)
    place = min(round(1 / keep_ratio), comparison.num_neighbours)
    width = np.median(np.sort(distances, axis=1)[:, place - 1])
    z = z_written_out(scores, distances.argsort(axis=1)[:, : min(comparison.num_neighbours, 10)].tolist())
    left = comparison.chance * lots
    if comparison.outlier_z:
        left = left - np.maximum(z / comparison.outlier_z - 1, 0)
    order = []
    while len(order) < len(scores):
        discount = np.exp(-((2 * distances[:, order] / width) ** 2)).max(axis=1, initial=0)
        now = left - comparison.strength * discount
        now[order] = -np.inf
        order.append(int(now.argmax()))
    return order


def z_written_out(scores, lists):
    """In the standard library's words."""
    lacking = [max(scores) - score for score in scores]
    cost = [math.log(e + median(lacking)) for e in lacking]
    likes = [median(cost[n] for n in near) for near in lists]
    spread = [1.4826 * median(abs(cost[n] - own) for n in near) for near, own in zip(lists, likes)]
    difference = [own - other for own, other in zip(cost, likes)]
    difference = [d - median(difference) for d in difference]
    overall = 1.4826 * median(map(abs, difference))
    return np.array([d / max(overall, own) for d, own in zip(difference, spread)])


def planted(copies=12, others=60, seed=0):
    """Images of which the first `copies` are one; scores and lots without ties, the copies' all over the place."""
    rng, num = np.random.default_rng(seed), copies + others
    features = rng.normal(size=(num, 6)).astype(np.float32)
    features[:copies] = features[0]
    return rng.permutation(num).astype(float), features, rng.permutation(num) / num


@pytest.mark.parametrize("copies, neighbours", [(2, 32), (12, 32), (100, 32), (100, 1)])
def test_of_copies_all_but_the_best_sink_below_everything_else(copies, neighbours):
    scores, features, lots = planted(copies)
    order = taking_order(scores, features, Comparison(100.0, 0.0, 1.0, neighbours), lots=lots)
    sunk = order[-(copies - 1) :]
    assert set(sunk) == set(range(copies)) - {int(lots[:copies].argmax())}
    assert sorted(order) == list(range(len(scores)))


def test_by_lots_alone_where_neither_score_nor_likeness_counts():
    scores, features, lots = planted()
    order, counted = discounted_order(scores, features, Comparison(0.0, chance=0.2), 1.0, lots)
    assert order.tolist() == np.argsort(-lots).tolist() and np.allclose(counted, 0.2 * lots[order])


def test_on_a_circle_by_hand():
    # Nearest neighbours 10, 10, 40, 60 and 60 degrees away. 1 - cos 40 is 0.234, half of it 0.117: number 1, 10
    # away (0.0152), has a kernel of 0.983; 40 degrees, exp(-4) = 0.018; 50 degrees (0.357), 0.0001.
    features, lots = at_angles([0, 10, 50, 110, 170]), np.array([1.0, 0.75, 0.5, 0.25, 0.0])
    # With strength 0.5 number 1 falls to 0.258, number 2 stays at 0.5 and number 3 at 0.25; with 0.6 number 1 falls
    # to 0.160, with 0.2 to 0.553, and where lots count half, 0.4 has it at -0.018, 0.3 at 0.080 in front of none.
    for strength, chance, order in (
        (0.5, 1, [0, 2, 1, 3, 4]), (0.6, 1, [0, 2, 3, 1, 4]), (0.2, 1, [0, 1, 2, 3, 4]),
        (0.4, 0.5, [0, 2, 3, 4, 1]), (0.3, 0.5, [0, 2, 3, 1, 4]),
    ):  # fmt: skip
        assert taking_order(lots, features, Comparison(strength, 0, chance), lots=lots).tolist() == order
    _, counted = discounted_order(lots, features, Comparison(0.5, 0, 1), 1.0, lots)
    assert counted == pytest.approx([1, 0.5, 0.258, 0.25, 0], abs=5e-4)


def test_how_far_a_score_is_below_its_likes_by_hand():
    # Lacking 0, 1, 1, 3, 7: plus their median 1, 2, 2, 4, 8, whose logarithms are 0, 1, 1, 2, 3 times that of 2. The
    # median of the two nearest is 1, 0.5, 1, 2 and 1.5: differences -1, 0.5, 0, 0, 1.5, absolute ones' median 0.5. The two
    # nearest of number 3 are 1 from their median, of number 4 0.5, of number 1 0.5, the others' alike.
    scores, lists = np.array([7.0, 6.0, 6.0, 4.0, 0.0]), np.array([[1, 2], [0, 2], [1, 2], [2, 4], [2, 3]])
    assert outlyingness(scores, lists) * 1.4826 == pytest.approx([-2, 1, 0, 0, 3])
    assert outlyingness(9 * scores - 5, lists) == pytest.approx(outlyingness(scores, lists))
    wider = np.array([[1, 2], [0, 2], [1, 2], [2, 4], [0, 3]])  # those of number 4 are 1 from their median
    assert outlyingness(scores, wider)[4] * 1.4826 == pytest.approx(2)


def test_where_more_than_half_are_alike_the_mean_deviation_is_the_measure():
    lists = np.array([[(i + k) % 20 for k in range(1, 12)] for i in range(20)])
    one = outlyingness(np.where(np.arange(20) == 3, -1.0, 0.0), lists)
    # Lacking 1 for one of 20, 0.05 in the mean; log(1.05 / 0.05) for it alone.
    assert one[3] == pytest.approx(20 / 1.2533) and not one[np.arange(20) != 3].any()
    assert not outlyingness(np.ones(20), lists).any()
    assert np.isfinite(outlyingness(np.float32([3, 3, 3, 1]), np.array([[1], [0], [0], [0]]))).all()


def test_among_hard_neighbours_an_image_is_not_hard():
    # A stretch of 20 frames that cost this and that, 80 others that are easy, but for one of them.
    rng = np.random.default_rng(0)
    features = np.repeat([[1.0, 0.0], [0.0, 1.0]], [20, 80], axis=0) + 0.05 * rng.normal(size=(100, 2))
    scores = -np.exp(np.repeat([2.0, -1.0], [20, 80]) + np.repeat([0.5, 0.3], [20, 80]) * rng.normal(size=100))
    scores[30] = scores[:20].max() + 0.1  # it costs less than each of those that are all hard
    z = outlyingness(scores, nearest_neighbours(unit_vectors(features), 10)[0])
    assert z.argmax() == 30 and z[30] > 3 and -0.5 < np.median(z[:20]) < 0.5
    order = taking_order(scores, features, Comparison(1e-3, z[30] - 0.1, 0.01), lots=rng.permutation(100) / 100)
    assert order[-1] == 30 and 30 < np.argsort(order)[:20].mean() < 70


def test_between_those_that_nothing_speaks_against_lots_decide():
    rng = np.random.default_rng(0)
    features, scores = rng.normal(size=(400, 50)), -np.exp(0.5 * rng.normal(size=400))
    scores[:8] = -30
    features[40:60] = features[380:]  # copies
    comparison, lots = Comparison(0.7, outlier_z=1.75, chance=0.2), rng.uniform(size=(2, 400))
    taken = [taking_order(scores, features, comparison, lots=own)[:200] for own in lots]
    assert 60 < len(set(taken[0]) & set(taken[1])) < 150  # of 200; by chance alone 100
    for order, own in zip(taken, lots):
        assert order.min() >= 8
        assert 0.35 < (scores[order] > np.median(scores)).mean() < 0.65  # the better half is not preferred
        assert own[order].mean() > 0.7
        assert len({i + 340 if 40 <= i < 60 else i for i in order}) == 200  # of two copies one


def test_a_lot_is_its_image_s_in_whatever_place_and_group():
    rng = np.random.default_rng(1)
    features, scores, lots = rng.normal(size=(60, 5)), rng.normal(size=60), rng.permutation(60) / 60
    groups, permutation = np.arange(60) % 2, rng.permutation(60)
    arguments = (scores, 40, features, Comparison(0.7, outlier_z=1, chance=0.3), groups, lots)
    discounted = discounted_scores(*arguments)
    permuted = discounted_scores(*(a[permutation] if isinstance(a, np.ndarray) else a for a in arguments))
    assert np.array_equal(permuted, discounted[permutation])
    others = discounted_scores(*arguments[:-1], lots[permutation])
    assert not np.array_equal(others, discounted)


def test_what_counts_as_near_grows_as_fewer_stay():
    # A third stays: third neighbours are 110, 100, 60, 100 and 160 degrees away. 1 - cos 100 is 1.174, half of it 0.587:
    # number 2, 50 degrees from number 0 (0.357), has a kernel of 0.691 and falls from 0.5 to 0.155. Number 1 falls to
    # 0.2503, number 3, 110 degrees from number 0 (1.342), to 0.2473, and lower still, by number 1, to 0.241.
    features, lots = at_angles([0, 10, 50, 110, 170]), np.array([1.0, 0.75, 0.5, 0.25, 0.0])
    order = taking_order(lots, features, Comparison(0.5, 0, 1), keep_ratio=1 / 3, lots=lots)
    assert order.tolist() == [0, 1, 3, 2, 4]


@pytest.mark.parametrize("keep_ratio, neighbours", [(1.0, 1), (0.8, 5), (0.2, 5), (0.3, 39)])
@pytest.mark.parametrize("strength, outlier_z, chance", [
    (0.1, 0, 1), (0.5, 0, 1), (2.0, 0, 1), (0.5, 0.5, 0.2), (0.5, 1.5, 0.2), (0.1, 1, 0.01),
])  # fmt: skip
def test_as_written_out_however_short_the_lists(strength, outlier_z, chance, keep_ratio, neighbours):
    rng = np.random.default_rng(1)
    features, scores, lots = rng.normal(size=(40, 3)), -np.exp(rng.normal(size=40)), rng.permutation(40) / 40
    comparison = Comparison(strength, outlier_z, chance, neighbours)
    order = taking_order(scores, features.astype(np.float32), comparison, keep_ratio, lots=lots)
    assert order.tolist() == written_out(scores, features, comparison, keep_ratio, lots)


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
    comparison, lots = Comparison(0.7, 0.5, 0.2), rng.permutation(50) / 50
    order = taking_order(scores, features, comparison, lots=lots)
    scaled = taking_order(16 * scores, features * rng.uniform(0.1, 10, (50, 1)), comparison, lots=lots)
    assert order.tolist() == scaled.tolist()


def test_permuting_the_images_permutes_the_order():
    rng = np.random.default_rng(3)
    features, scores, lots = rng.normal(size=(50, 5)), rng.normal(size=50), rng.uniform(size=50)
    permutation, comparison = rng.permutation(50), Comparison(0.7, 0.5, 0.2)
    order = taking_order(scores, features, comparison, lots=lots)
    permuted = taking_order(scores[permutation], features[permutation], comparison, lots=lots[permutation])
    assert permutation[permuted].tolist() == order.tolist()


@pytest.mark.parametrize("num", [1, 2, 3])
def test_hardly_any_images(num):
    assert sorted(taking_order(np.arange(num), np.ones((num, 2)), Comparison(1.0, 1.75, 0.2), lots=np.arange(num) / num)) == list(range(num))


def test_scores_keep_as_many_and_their_order_is_that_of_taking():
    scores, features, lots = planted()
    comparison = Comparison(0.5, 0.5, 0.2)
    discounted = discounted_scores(scores, 52, features, comparison, None, lots)
    order = taking_order(scores, whitened(features), comparison, 52 / 72, lots=lots)
    assert np.argsort(-discounted).tolist() == order.tolist()
    assert (discounted > 0).sum() == 52 and set(order[:52]) != set(np.argsort(-lots)[:52])
    assert len(set(discounted)) == len(scores) and np.abs(discounted).max() < 1


def test_groups_do_not_look_at_each_other():
    scores, features, lots = planted(copies=30, others=30)
    groups = np.arange(60) % 3
    discounted = discounted_scores(scores, 40, features, Comparison(100.0, 0.0, 1.0), groups, lots)
    assert (discounted > 0).sum() == 40
    for group in range(3):
        own = groups == group
        best = int(discounted[own][:10].argmax())
        assert lots[own][best] == lots[own][:10].max()
        assert (discounted[own][:10] >= discounted[own][10:].min()).sum() == 1


def test_lots_say_how_many_of_a_group_stay_but_none_goes_as_a_whole():
    rng = np.random.default_rng(8)
    features, scores, groups = rng.normal(size=(200, 30)), -np.exp(rng.normal(size=200)), np.arange(200) % 4
    lots = (np.argsort(np.argsort(rng.uniform(size=200) + np.array([0.0, 0.3, 0.6, -2.0])[groups])) + 0.5) / 200
    discounted = discounted_scores(scores, 100, features, Comparison(0.7, 0.0, 0.2), groups, lots)
    hoped = np.bincount(groups[lots > 0.5], minlength=4)
    staying = np.bincount(groups[discounted > 0], minlength=4)
    assert hoped[3] == 0 and staying[3] == 1 and np.abs(staying - hoped).max() <= 6
    assert discounted[groups == 3].argmax() == lots[groups == 3].argmax()


def test_an_outlier_of_a_rare_group_goes_before_what_nothing_speaks_against():
    rng = np.random.default_rng(9)
    features, scores, groups = rng.normal(size=(110, 30)), -np.exp(0.3 * rng.normal(size=110)), np.arange(110) >= 100
    scores[105], lots = -50, np.where(groups, 2.0, 0) + rng.uniform(size=110)
    lots = (np.argsort(np.argsort(lots)) + 0.5) / 110
    discounted = discounted_scores(scores, 60, features, Comparison(0.7, 1.75, 0.2), groups.astype(int), lots)
    assert discounted[105] < 0 and (np.delete(discounted[100:], 5) > 0).all()


def test_copies_stay_copies_where_features_vary_in_few_directions():
    rng = np.random.default_rng(6)
    features = np.maximum(rng.normal(size=(400, 64)), 0)
    features[:, 40:] = 0  # channels that are always off
    features[200:220] = features[:20]
    white = whitened(features.astype(np.float32))
    np.testing.assert_allclose(white[200:220], white[:20], atol=1e-4)


@pytest.mark.parametrize("num_to_keep", [0, 1, 20])
def test_none_one_or_all(num_to_keep):
    features, groups = np.random.default_rng(7).normal(size=(20, 3)), np.arange(20) % 3
    discounted = discounted_scores(np.arange(20.0), num_to_keep, features, Comparison(0.7, 1.75, 0.2), groups, np.arange(20) / 20)
    assert (discounted > 0).sum() == num_to_keep
