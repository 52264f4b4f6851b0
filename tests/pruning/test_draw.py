import numpy as np
import pytest

from adapruner_det.pruning.draw import drawn_lots

EQUAL = np.ones(500)


def names(dataset="data", ids=range(500)):
    return [f"{dataset}\n{image_id}" for image_id in ids]


def test_a_lot_belongs_to_a_name_and_a_seed():
    lots = drawn_lots(names(), 0, EQUAL)
    backwards = drawn_lots(names(ids=range(499, -1, -1)), 0, EQUAL)
    assert np.array_equal(backwards[::-1], lots)
    for others in (drawn_lots(names(), 1, EQUAL), drawn_lots(names("others"), 0, EQUAL)):
        assert abs(np.corrcoef(lots, others)[0, 1]) < 0.2


def test_lots_are_spread_evenly_between_0_and_1():
    for weights in (EQUAL, np.linspace(1, 5, 500)):
        assert np.sort(drawn_lots(names(), 3, weights)) == pytest.approx((np.arange(500) + 0.5) / 500)


def test_only_the_ratios_of_weights_count():
    weights = np.linspace(1, 5, 500)
    assert np.array_equal(drawn_lots(names(), 0, 8 * weights), drawn_lots(names(), 0, weights))
    assert np.array_equal(drawn_lots(names(), 0, 8 * EQUAL), drawn_lots(names(), 0, EQUAL))


def test_weights_tilt_the_draw_and_the_first_one_goes_by_them():
    weights = np.where(np.arange(500) < 100, 3.0, 1.0)
    best = [int(drawn_lots(names(), seed, weights).argmax()) for seed in range(300)]
    assert 0.33 < np.mean(np.array(best) < 100) < 0.53  # 300 / 700; four standard deviations are 0.11
    half = [(drawn_lots(names(), seed, weights)[:100] > 0.5).mean() for seed in range(20)]
    # Each weight w is left with a chance of x^w; 0.2 x^3 + 0.8 x is 0.5 at x = 0.563.
    assert np.mean(half) == pytest.approx(1 - 0.563**3, abs=0.03)
