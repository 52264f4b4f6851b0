import math

import numpy as np
import pandas as pd
import pytest

from adapruner_det.comparison.overview import over_ratios, standard_error


def frame_of(cells):
    """cells: (method, budget, keep_ratio, AP by seed); AP50 is twice AP."""
    return pd.DataFrame(
        {"model": "M", "method": method, "budget": budget, "keep_ratio": ratio, "seed": seed,
         "AP50": 2 * value, "AP": value}
        for method, budget, ratio, values in cells
        for seed, value in enumerate(values)
    )  # fmt: skip


WORKED = [
    ("full", "any", 1.0, (50, 51)),
    ("random", "iterations", 0.8, (40, 41)),
    ("adapruner", "iterations", 0.8, (41, 44)),
    ("random", "iterations", 0.5, (30, 30, 31)),
    ("adapruner", "iterations", 0.5, (30, 30, 34)),
]


def test_mean_over_the_ratios_by_hand():
    table = over_ratios(frame_of(WORKED))
    assert table.to_dict("records") == [
        # +1 and +3: mean 2, variance 2 over 2 seeds; 0, 0 and +3: mean 1, variance 3 over 3 seeds
        {"model": "M", "method": "adapruner", "budget": "iterations", "ratios": 2,
         "AP50 - random": "+3.0 ± 1.41 *", "AP - random": "+1.5 ± 0.71 *", "pairs": 5}
    ]  # fmt: skip


def test_two_standard_errors_are_not_yet_enough():
    cells = [(method, "epochs", ratio, values) for ratio in (0.8, 0.5) for method, values in
             (("random", (40, 40)), ("adapruner", (40, 44)))]  # fmt: skip
    # at each ratio a mean of 2 and a variance of 8 over 2 seeds: an error of sqrt(8) / 2
    assert over_ratios(frame_of(cells))["AP - random"].tolist() == ["+2.0 ± 1.41"]


def test_what_differs_between_ratios_is_no_noise():
    steady = [np.array([1.0, 1.0]), np.array([9.0, 9.0])]
    assert standard_error(steady) == 0
    assert standard_error([*steady, np.array([0.0, 6.0])]) == pytest.approx(3 / 3)
    assert math.isnan(standard_error([*steady, np.array([1.0])]))


def test_a_ratio_with_one_seed_leaves_the_error_away():
    cells = WORKED[:3] + [(*cell[:3], cell[3][:1]) for cell in WORKED[3:]]
    assert over_ratios(frame_of(cells))["AP - random"].tolist() == ["+1.0"]


def test_nothing_is_averaged_over_one_ratio_or_without_random():
    assert over_ratios(frame_of(WORKED[:3])).empty
    assert over_ratios(frame_of([cell for cell in WORKED if cell[0] != "random"])).empty
    budgets = [(*WORKED[1][:1], "epochs", *WORKED[1][2:]), (*WORKED[2][:1], "epochs", *WORKED[2][2:])]
    assert over_ratios(frame_of(WORKED + budgets))["budget"].tolist() == ["iterations"]
