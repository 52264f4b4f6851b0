import math

import numpy as np
import pytest

from adapruner_det.experiments.intervals import (
    Estimate,
    against_control,
    bootstrap,
    holm,
    images_needed,
    over_cells,
    share_saved,
)

NAN = math.nan


def test_student_s_interval_and_p_by_hand():
    # mean 2, variance 7 over three: an error of sqrt(7 / 3), and 4.303 of it with two degrees of freedom
    found = over_cells([[4.0, -1.0, 3.0]])
    error = math.sqrt(7 / 3)
    assert found.mean == pytest.approx(2)
    assert (found.low, found.high) == pytest.approx((2 - 4.3027 * error, 2 + 4.3027 * error), rel=1e-4)
    t = 2 / error
    assert found.p == pytest.approx(1 - t / math.sqrt(2 + t * t))
    # one degree of freedom: p = 1 - 2 atan(t) / pi, t = 3, and 12.706 errors of 0.5
    found = over_cells([[1.0, 2.0]])
    assert found.p == pytest.approx(1 - 2 * math.atan(3) / math.pi)
    assert found.high == pytest.approx(1.5 + 12.7062 * 0.5, rel=1e-5)


def test_dunnett_s_intervals_hold_for_all_methods_at_once():
    # Four methods and a control of three seeds each, ten degrees of freedom: 2.89 in Dunnett's table for 95%
    control, *methods = (np.array([-1.0, 0, 1]) + level for level in (10, 11, 12, 9, 20))
    found = against_control(methods, control)
    assert [one.mean for one in found] == pytest.approx([1, 2, -1, 10])
    half = 2.89 * 1.0 * math.sqrt(2 / 3)
    for one in found:
        assert (one.mean - one.low, one.high - one.mean) == pytest.approx((half, half), rel=1e-3)


def test_dunnett_s_intervals_are_found_whatever_seeds_are_missing():
    """Three methods and four degrees of freedom: no |t| but one of twenty is beyond 3.6, as a simulation says."""
    rng = np.random.default_rng(0)
    for sizes in ([2, 2, 2, 2], [1, 3, 2, 2], [3, 3, 1, 1], [2, 3, 2, 2, 3], [1, 1, 3]):
        methods = [rng.normal(size=size) for size in sizes]
        freedom, shares = sum(sizes) - len(sizes), [np.sqrt(1 / size + 1 / sizes[-1]) for size in sizes[:-1]]
        error = math.sqrt(sum(np.square(own - own.mean()).sum() for own in methods) / freedom)
        limits = [
            (one.high - one.low) / 2 / error / share
            for one, share in zip(against_control(methods[:-1], methods[-1]), shares)
        ]
        draws = rng.normal(size=(40000, len(sizes))) / np.sqrt(sizes)
        t = np.abs(draws[:, :-1] - draws[:, -1:]) / np.sqrt(rng.chisquare(freedom, 40000) / freedom)[:, None] / shares
        assert (t > limits).any(axis=1).mean() == pytest.approx(0.05, abs=0.005), sizes


def test_one_method_against_a_control_is_student_s_test_of_two_samples():
    # variances 1 and 4 over three each: s^2 = 2.5, four degrees of freedom, 2.776
    (found,) = against_control([np.array([-2.0, 0, 2])], np.array([4.0, 5, 6]))
    half = 2.7764 * math.sqrt(2.5 * 2 / 3)
    assert (found.low, found.high) == pytest.approx((-5 - half, -5 + half), rel=1e-3)


def test_a_method_with_one_seed_has_an_interval_by_the_others_seeds():
    one, many = np.array([12.0]), np.array([9.0, 10, 11])
    short, long = against_control([one, many], np.array([9.0, 10, 11]))
    assert short.mean == 2 and short.high - short.low > long.high - long.low


def test_a_method_whose_seeds_agree_is_no_news(recwarn):
    (found,) = against_control([np.array([80.1, 80.1, 80.1])], np.array([78.0, 79.0, 80.0]))
    half = 2.7764 * math.sqrt(0.5 * 2 / 3)
    assert (found.low, found.high) == pytest.approx((1.1 - half, 1.1 + half), abs=0.01) and not recwarn.list


@pytest.mark.parametrize("values", [[[5.0], [6.0]], [[5.0, 5.0], [6.0, 6.0]], []])
def test_where_seeds_tell_nothing_there_are_no_intervals(values):
    found = against_control([np.array(one) for one in values], np.array([4.0]))
    assert [one.mean for one in found] == [1, 2][: len(values)]
    assert all(math.isnan(one.low) for one in found)


def test_differences_that_are_equal_but_for_rounding_have_no_interval():
    cell = np.array([91.2, 88.3]) - np.array([90.1, 87.2])
    assert 0 < np.ptp(cell) < 1e-13
    assert math.isnan(over_cells([cell]).p) and math.isnan(against_control([cell], cell + 1)[0].low)
    assert over_cells([cell, np.array([1.0, 3.0])]).mean == pytest.approx(1.55)


@pytest.mark.parametrize("values", [[1.0], [1.0, 1.0]])
def test_one_value_or_equal_ones_have_no_interval(values):
    assert str(over_cells([values])) == str(Estimate(1.0))


def test_over_cells_by_hand():
    # +1 and +3: 2 / 2 = 1; 0, 0 and +3: 3 / 3 = 1. Variance (1 + 1) / 4; df = 2^2 / (1 / 1 + 1 / 2) = 8/3
    found = over_cells([[1, 3], [0, 0, 3]])
    assert found.mean == pytest.approx(1.5)
    half = found.high - found.mean
    # t of 8/3 degrees of freedom: 3.4198 (between 4.303 of 2 and 3.182 of 3)
    assert half / math.sqrt(0.5) == pytest.approx(3.4198, rel=1e-4) and found.low == pytest.approx(1.5 - half)
    equal = over_cells([[1, 3, 2], [5, 7, 6]])  # two equal variances of two degrees each have four: 2.776
    assert (equal.high - equal.mean) / math.sqrt(1 / 6) == pytest.approx(2.7764, rel=1e-4)


def test_what_differs_between_ratios_is_no_noise():
    steady = [np.array([1.0, 1.0]), np.array([9.0, 9.0])]
    assert str(over_cells(steady)) == str(Estimate(5.0))
    some = over_cells([*steady, np.array([0.0, 6.0])])  # an error of 3 / 3, one degree of freedom
    assert some.high - some.mean == pytest.approx(12.7062, rel=1e-4)
    assert math.isnan(over_cells([*steady, np.array([1.0])]).low)


def test_holm_by_hand():
    # 0.01 * 4, 0.02 * 3, 0.03 * 2 (not below 0.06), 0.9 * 1
    np.testing.assert_allclose(holm([0.03, 0.9, NAN, 0.01, 0.02]), [0.06, 0.9, NAN, 0.04, 0.06])
    assert holm([0.5, 0.6]).tolist() == [1.0, 1.0] and holm([]).tolist() == []


def test_bootstrap_of_a_mean():
    values = np.arange(50.0)
    low, high = bootstrap(lambda seeds: values[seeds].mean(), 50)
    error = values.std() / math.sqrt(50)
    assert low == pytest.approx(values.mean() - 1.96 * error, abs=0.5 * error)
    assert high == pytest.approx(values.mean() + 1.96 * error, abs=0.5 * error)
    assert all(map(math.isnan, bootstrap(lambda seeds: 1.0, 1)))
    assert all(map(math.isnan, bootstrap(lambda seeds: NAN if seeds[0] else 1.0, 3)))


def test_share_saved_by_hand():
    full = np.array([50.0, 51.0, 52.0])
    random = np.array([[46.0, 40.0], [47.0, 41.0], [48.2, 42.2]])
    ours = random + [1.0, 5.0]
    found = share_saved(ours, random, full)
    # 1 and 5 of 3.93 and 9.93
    assert found.mean == pytest.approx(6 / (2 * 6.9333), rel=1e-3)
    assert found.low == pytest.approx(6 / 14) and found.high == pytest.approx(6 / 13.6)
    cell = share_saved(ours[:, :1], random[:, :1], full)
    assert cell.mean == pytest.approx(1 / 3.9333, rel=1e-3)


@pytest.mark.parametrize("random", [[49.0, 50.0, 53.0], [50.0, 51.0, 52.0], [49.0, NAN, NAN]])
def test_where_random_selection_hardly_loses_nothing_can_be_saved(random):
    full = np.array([50.0, 51.0, 52.0])
    found = share_saved(full[:, None], np.array(random)[:, None], full)
    assert np.isnan(found[:4]).all()


def test_ratios_of_a_seed_share_its_training_on_everything():
    """Seeds that lose 0.2, 1.0 and 2.4 at each of four ratios are three numbers, whose t is below 4.303, and not twelve."""
    full, lost = np.array([50.2, 51.0, 52.4]), np.array([[0.2] * 4, [1.0] * 4, [2.4] * 4])
    assert over_cells(list(lost.T)).low > 0
    assert np.isnan(share_saved(full[:, None] - lost / 2, full[:, None] - lost, full).mean)


def seeds_of(*curves):
    return np.array(curves, dtype=float)


def test_images_needed_by_hand():
    ratios = [0.9, 0.5, 0.3]
    # 49 of 50 lie between 0.5 (46) and 0.9 (49.5): 0.5 + 0.4 * 3 / 3.5
    found = images_needed(ratios, seeds_of([49.5, 46, 40]), np.array([50.0]))
    assert found == pytest.approx(0.5 + 0.4 * 3 / 3.5)
    # means over seeds, of those that were run; everything decides by its own
    two = seeds_of([50.5, 46, 40], [48.5, NAN, NAN])
    assert images_needed(ratios, two, np.array([49.0, 51.0])) == pytest.approx(found)
    assert images_needed(ratios, two, np.array([NAN, 50.0])) == pytest.approx(found)
    assert math.isnan(images_needed(ratios, two, np.array([NAN, NAN])))
    assert images_needed(ratios, seeds_of([49.5, 46, 40]), np.array([50.0]), within=5) == pytest.approx(
        0.3 + 0.2 * 5 / 6
    )


def test_the_curve_of_images_needed_is_monotone():
    # 48 at 0.9 and 50 at 0.5 are level at 49, which is enough: between 0.3 (40) and 0.5 by 9 / 9
    assert images_needed([0.9, 0.5, 0.3], seeds_of([48, 50, 40]), np.array([50.0])) == pytest.approx(0.5)
    # of two seeds where one was run: (48 + 2 * 50) / 3
    twice = seeds_of([48, 50, 40], [NAN, 50, 40])
    assert images_needed([0.9, 0.5, 0.3], twice, np.array([50.0, 50.0])) == pytest.approx(0.3 + 0.2 * 9 / (28 / 3))


def test_at_the_ends_of_the_curve():
    assert images_needed([0.9, 0.5], seeds_of([50, 49.2]), np.array([50.0])) == 0.5  # at most that
    assert images_needed([0.9, 0.5], seeds_of([40, 30]), np.array([50.0])) == pytest.approx(0.9 + 0.1 * 9 / 10)
