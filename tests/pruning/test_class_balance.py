import numpy as np
import pytest

from adapruner_det.pruning.class_balance import class_weights, image_key, rarest_class, weighted_draw

EQUAL = np.ones(500)
# Class 0 is in four images, class 1 in two, class 2 in one, class 3 in none.
COUNTS = np.array([[1, 0, 0, 0], [5, 1, 0, 0], [1, 9, 3, 0], [0, 0, 0, 0], [7, 0, 0, 0]])


def draw(seed=0, weights=EQUAL, dataset="data", ids=range(500)):
    return weighted_draw([image_key(dataset, i) for i in ids], seed, weights)


@pytest.mark.parametrize(
    "counts, expected",
    [
        (COUNTS, [0, 1, 2, 4, 0]),
        ([[90, 1], [0, 1], [0, 1]], [0, 1, 1]),  # images count, not objects
        ([[0, 1, 1], [1, 1, 1]], [1, 0]),  # of equally rare ones the first
        (np.zeros((3, 2), int), [2, 2, 2]),
    ],
)
def test_rarest_class(counts, expected):
    assert rarest_class(counts).tolist() == expected


def test_class_weights_by_hand():
    # Shares of the five images: class 0 0.8, class 1 0.4, class 2 0.2, none 0.2.
    assert class_weights(COUNTS, 1.0) == pytest.approx([1.25, 2.5, 5, 5, 1.25])
    assert class_weights(COUNTS, 0.5)[2] == pytest.approx(5**0.5)
    assert class_weights(COUNTS, 0.0).tolist() == [1, 1, 1, 1, 1]


def test_a_place_belongs_to_an_image_and_a_seed_wherever_it_stands():
    assert np.array_equal(draw(ids=range(499, -1, -1))[::-1], draw())
    for other in (draw(seed=1), draw(dataset="others")):
        assert abs(np.corrcoef(draw(), other)[0, 1]) < 0.2


def test_places_are_spread_evenly_and_only_the_ratios_of_weights_count():
    weights = np.linspace(1, 5, 500)
    assert np.sort(draw(3, weights)) == pytest.approx((np.arange(500) + 0.5) / 500)
    assert np.array_equal(draw(0, 8 * weights), draw(0, weights))


def test_weights_tilt_the_draw_and_the_first_one_goes_by_them():
    weights = np.where(np.arange(500) < 100, 3.0, 1.0)
    best = [int(draw(seed, weights).argmax()) for seed in range(300)]
    assert 0.33 < np.mean(np.array(best) < 100) < 0.53  # 300 / 700; four standard deviations are 0.11
    half = [(draw(seed, weights)[:100] > 0.5).mean() for seed in range(20)]
    # Each weight w is left with a chance of x^w; 0.2 x^3 + 0.8 x is 0.5 at x = 0.563.
    assert np.mean(half) == pytest.approx(1 - 0.563**3, abs=0.03)
