import numpy as np
import pandas as pd
import pytest

from adapruner_det.experiments.controls import (
    needed_table,
    over_ranges,
    range_name,
    ranges,
)
from adapruner_det.experiments.table import curves_of


def frame_of(cells):
    """cells: (method, budget, keep_ratio, AP by seed); AP50 is twice AP."""
    return pd.DataFrame(
        {"model": "M", "method": method, "budget": budget, "keep_ratio": ratio, "seed": seed,
         "AP50": 2 * value, "AP": value}
        for method, budget, ratio, values in cells
        for seed, value in enumerate(values)
    )  # fmt: skip


def of(method, *by_ratio):
    """Cells of a method at equal iterations: (keep_ratio, AP by seed)."""
    return [(method, "iterations", *cell) for cell in by_ratio]


FULL = ("full", "any", 1.0, (50, 51, 52))
WORKED = [
    FULL,
    *of("random", (0.9, (48, 49, 50)), (0.5, (40, 41, 42.3)), (0.3, (30, 31, 31.6))),
    *of("random_class_weighted", (0.9, (47, 48, 49)), (0.5, (43, 44, 45.1)), (0.3, (33, 35, 34.3))),
    *of("adapruner", (0.9, (49, 50.5, 51)), (0.5, (45, 46, 47)), (0.3, (38, 37, 39))),
]


@pytest.mark.parametrize(
    "ratios, named",
    [
        ([0.95, 0.9, 0.8, 0.7, 0.5], ["0.95-0.8", "0.7 and below"]),
        ([0.9, 0.5], ["0.9", "0.5"]),
        ([0.75, 0.6], ["0.75 and below"]),
        ([0.8], ["0.8"]),
    ],
)
def test_mild_ratios_are_never_averaged_with_low_ones(ratios, named):
    assert [range_name(part) for part in ranges(ratios)] == named
    assert sorted(sum(ranges(ratios), [])) == sorted(ratios)


def test_ranges_by_hand():
    table = over_ranges(frame_of(WORKED)).set_index(["images kept", "method"])
    assert list(table.index) == [
        ("0.9", "random_class_weighted"), ("0.9", "adapruner"),
        ("0.5 and below", "random_class_weighted"), ("0.5 and below", "adapruner"),
    ]  # fmt: skip
    assert table["ratios"].tolist() == [1, 1, 2, 2]
    mild, low = table.loc[("0.9", "adapruner")], table.loc[("0.5 and below", "adapruner")]
    # +1, +1.5, +1: mean 1.17, an error of 1/6, 4.303 of it
    assert mild["AP - random"] == "+1.2 [+0.4, +1.9]"
    assert mild["AP - strongest control"] == "+1.2 [+0.4, +1.9] random"
    # (5 + 5 + 4.7) / 3 and (8 + 6 + 7.4) / 3; to the other control 2 + 2 + 1.9 and 5 + 2 + 4.7
    assert low["AP - random"].startswith("+6.0 [") and low["AP50 - random"].startswith("+12.0 [")
    assert low["AP - strongest control"].startswith("+2.9 [")
    assert low["AP - strongest control"].endswith("random_class_weighted")
    # full less random: 10, 10, 9.7 and 20, 20, 20.4
    assert low["AP saved"].startswith("40% [")
    weighted = table.loc[("0.5 and below", "random_class_weighted")]
    assert weighted["AP - strongest control"] == "" and weighted["AP - random"].startswith("+3.1 [")
    # the same difference with every seed: nothing to test
    assert table.loc[("0.9", "random_class_weighted"), "AP - random"] == "-1.0"


def test_without_controls_or_a_selection_there_is_nothing_to_say():
    table = over_ranges(frame_of([cell for cell in WORKED if cell[0] != "random_class_weighted"]))
    assert not any("strongest" in column for column in table) and table["method"].tolist() == ["adapruner"] * 2
    for cells in ([FULL], [FULL, *of("adapruner", (0.9, (1, 2)))]):
        assert over_ranges(frame_of(cells)).empty
    assert needed_table(frame_of([FULL])).empty
    assert needed_table(frame_of([cell for cell in WORKED if cell[0] != "full"])).empty


def test_a_dash_where_random_selection_hardly_loses_anything():
    cells = [FULL, *of("random", (0.9, (50, 50, 53))), *of("adapruner", (0.9, (51, 51, 53)))]
    assert over_ranges(frame_of(cells))["AP saved"].tolist() == ["-"]
    assert "AP saved" not in over_ranges(frame_of(cells[1:]))  # without everything


def test_seeds_pair_where_cells_have_different_ones():
    cells = [FULL, *of("random", (0.5, (40, 41, 43)), (0.3, (30,))), *of("adapruner", (0.5, (41, 43)), (0.3, (33,)))]
    assert over_ranges(frame_of(cells))["AP - random"].tolist() == ["+2.2"]  # 1, 2; 3
    (grid, *_) = curves_of(frame_of(cells))
    assert np.isnan(grid.at("adapruner", [0.5, 0.3])[2]).all() and list(grid.methods["random"]) == [0.5, 0.3]
    # seeds that no rival has leave the difference away
    cells = [FULL, *of("random", (0.5, (40, 41))), *of("random_class_weighted", (0.5, (42, 43)))]
    late = frame_of(of("adapruner", (0.5, (44, 45)))).assign(seed=[7, 8])
    table = over_ranges(pd.concat([frame_of(cells), late])).set_index("method")
    assert table.loc["adapruner", "AP - random"] == "" and "AP - strongest control" not in table


def test_images_needed_by_hand():
    table = needed_table(frame_of(WORKED)).set_index("method")
    # AP: everything has 51 in the mean. Random: 49 at 0.9, and 50 halfway to 1. The other control 48: 2/3 of the way.
    needed = table["AP: images needed"]
    assert needed["random"].startswith("0.95 [") and needed["random_class_weighted"].startswith("0.97 [")
    # 46 at 0.5 and 50.17 at 0.9: 0.4 * 4 / 4.17
    assert needed["adapruner"].startswith("0.88 [")
    quotient = table["AP: of the strongest control's"]
    assert quotient["adapruner"].startswith("0.93 [") and quotient["adapruner"].endswith("] random")
    assert quotient["random"] == quotient["random_class_weighted"] == ""


def test_images_needed_at_most_and_without_an_interval():
    cells = [("full", "any", 1.0, (50,)), *of("random", (0.9, (49.5,)), (0.5, (49.2,))), *of("a", (0.9, (49,)))]
    table = needed_table(frame_of([(*cell[:3], (cell[3][0],)) for cell in cells]))
    assert table["AP: images needed"].tolist() == ["≤ 0.50"] and table["method"].tolist() == ["random"]


def test_bounds_of_the_images_needed_are_compared_as_bounds():
    """Everything has 50. What a control needs below the smallest of its ratios is not known, and no quotient of it either."""
    cells = [
        ("full", "any", 1.0, (50,)),
        *of("random", (0.9, (50,)), (0.8, (50,))),
        *of("few", (0.9, (50,)), (0.8, (50,)), (0.3, (40,))),
        *of("many", (0.9, (49,)), (0.8, (47,))),
    ]
    quotient = needed_table(frame_of(cells)).set_index("method")["AP: of the strongest control's"]
    assert quotient.to_dict() == {"random": "", "few": "- random", "many": "≥ 1.12 random"}
    cells[1:3] = of("random", (0.9, (49,)), (0.8, (47,)))
    quotient = needed_table(frame_of(cells)).set_index("method")["AP: of the strongest control's"]
    assert quotient.to_dict() == {"random": "", "few": "≤ 0.89 random", "many": "1.00 random"}


def test_a_control_at_other_ratios_leaves_the_quotient_to_one_that_shares_them():
    cells = [FULL, *WORKED[1:4], *of("random_class_weighted", (0.8, (50, 51, 52)), (0.7, (50, 51, 52))), *WORKED[7:]]
    quotient = needed_table(frame_of(cells)).set_index("method")["AP: of the strongest control's"]
    assert quotient["adapruner"].endswith("] random")


def test_one_control_that_is_not_random_is_the_strongest():
    cells = [FULL, *of("near_duplicates", (0.9, (47, 48, 49))), *of("el2n", (0.9, (49, 50.5, 51)))]
    assert over_ranges(frame_of(cells))["AP - strongest control"].tolist()[-1].endswith("near_duplicates")


def test_models_and_budgets_are_not_mixed():
    epochs = [(cell[0], "epochs", cell[2], tuple(np.array(cell[3]) - 5)) for cell in WORKED[1:]]
    both = frame_of(WORKED + epochs)
    other = pd.concat([both, both.assign(model="N", AP=both["AP"] + 7)])
    grids = [(grid.model, grid.budget, grid.metric) for grid in curves_of(other)]
    assert grids == [(m, b, x) for m in "MN" for b in ("iterations", "epochs") for x in ("AP50", "AP")]
    for grid in curves_of(other):
        if grid.metric == "AP":
            expected = 49 + 7 * (grid.model == "N") - 5 * (grid.budget == "epochs")
            assert grid.at("random", [0.9]).mean() == expected and grid.full.mean() == 51 + 7 * (grid.model == "N")
