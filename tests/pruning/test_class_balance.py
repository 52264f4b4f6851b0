import numpy as np
import pytest

from adapruner_det.pruning.class_balance import class_weights, rarest_class, weighted_draw

EQUAL = np.ones(500)


def names(dataset="data", ids=range(500)):
    return [f"{dataset}\n{image_id}" for image_id in ids]


def test_a_lot_belongs_to_a_name_and_a_seed():
    draw = weighted_draw(names(), 0, EQUAL)
    backwards = weighted_draw(names(ids=range(499, -1, -1)), 0, EQUAL)
    assert np.array_equal(backwards[::-1], draw)
    for others in (weighted_draw(names(), 1, EQUAL), weighted_draw(names("others"), 0, EQUAL)):
        assert abs(np.corrcoef(draw, others)[0, 1]) < 0.2


def test_lots_are_spread_evenly_between_0_and_1():
    for weights in (EQUAL, np.linspace(1, 5, 500)):
        assert np.sort(weighted_draw(names(), 3, weights)) == pytest.approx((np.arange(500) + 0.5) / 500)


def test_only_the_ratios_of_weights_count():
    weights = np.linspace(1, 5, 500)
    assert np.array_equal(weighted_draw(names(), 0, 8 * weights), weighted_draw(names(), 0, weights))
    assert np.array_equal(weighted_draw(names(), 0, 8 * EQUAL), weighted_draw(names(), 0, EQUAL))


def test_weights_tilt_the_draw_and_the_first_one_goes_by_them():
    weights = np.where(np.arange(500) < 100, 3.0, 1.0)
    best = [int(weighted_draw(names(), seed, weights).argmax()) for seed in range(300)]
    assert 0.33 < np.mean(np.array(best) < 100) < 0.53  # 300 / 700; four standard deviations are 0.11
    half = [(weighted_draw(names(), seed, weights)[:100] > 0.5).mean() for seed in range(20)]
    # Each weight w is left with a chance of x^w; 0.2 x^3 + 0.8 x is 0.5 at x = 0.563.
    assert np.mean(half) == pytest.approx(1 - 0.563**3, abs=0.03)


def test_by_hand():
    # Class 0 is in four images, class 1 in two, class 2 in one, class 3 in none.
    counts = np.array([[1, 0, 0, 0], [5, 1, 0, 0], [1, 9, 3, 0], [0, 0, 0, 0], [7, 0, 0, 0]])
    assert rarest_class(counts).tolist() == [0, 1, 2, 4, 0]


def test_how_many_objects_an_image_holds_does_not_count():
    counts = np.array([[90, 1], [0, 1], [0, 1]])
    assert rarest_class(counts).tolist() == [0, 1, 1]


def test_equally_rare():
    assert rarest_class(np.array([[0, 1, 1], [1, 1, 1]])).tolist() == [1, 0]
    assert rarest_class(np.array([[1, 0], [0, 1], [1, 1]])).tolist() == [0, 1, 0]


def test_no_image_has_an_object():
    assert rarest_class(np.zeros((3, 2), int)).tolist() == [2, 2, 2]


def test_rarity_by_hand():
    # Shares of the five images: class 0 0.8, class 1 0.4, class 2 0.2, none 0.2.
    counts = np.array([[1, 0, 0, 0], [5, 1, 0, 0], [1, 9, 3, 0], [0, 0, 0, 0], [7, 0, 0, 0]])
    assert class_weights(counts, 1.0) == pytest.approx([1.25, 2.5, 5, 5, 1.25])
    assert class_weights(counts, 0.5)[2] == pytest.approx(5**0.5)
    assert class_weights(counts, 0.0).tolist() == [1, 1, 1, 1, 1]
    assert class_weights(np.zeros((3, 2), int), 1.0).tolist() == [1, 1, 1]
