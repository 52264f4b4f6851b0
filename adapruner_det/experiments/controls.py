"""A comparison against its controls: by ranges of ratio, and in images needed.

S seeds, R ratios.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

from .comparison import FULL
from .methods import CONTROLS, RANDOM
from .statistics import Estimate, bootstrap, columns, holm, images_needed, over_cells, share_saved
from .table import DECIMALS, metrics_of, shown

MILD = 0.8  # ratios from here up are what people use first; those below are averaged by themselves


class Grid(NamedTuple):
    """One metric of one model at one budget, its methods at the ratios each has.

    Attributes:
        full: (S,) of training on everything; NaN where a seed was not run, as below.
        methods: by name, a frame of S rows with a column for each of R ratios, the highest first.
    """

    model: str
    budget: str
    metric: str
    full: np.ndarray
    methods: dict[str, pd.DataFrame]

    def controls(self, ratios: Sequence[float] = ()) -> list[str]:
        """Those of CONTROLS that were run, at all of these ratios."""
        return [name for name in CONTROLS if name in self.methods and set(ratios) <= set(self.methods[name])]

    def at(self, method: str, ratios: Sequence[float]) -> np.ndarray:
        """(S, R)."""
        return self.methods[method][list(ratios)].to_numpy()

    def needed(self, method: str, seeds: np.ndarray) -> float:
        """Images needed, by these seeds alone."""
        values = self.methods[method]
        return images_needed(list(values), values.to_numpy()[seeds], self.full[seeds])


def grids_of(frame: pd.DataFrame) -> Iterator[Grid]:
    """One a model, budget and metric, in the order of the frame; see `table.collect`."""
    selected = frame[frame["method"] != FULL]
    for model, budget in selected[["model", "budget"]].drop_duplicates().itertuples(index=False):
        own = frame[frame["model"] == model]
        seeds = own["seed"].drop_duplicates().sort_values()
        for metric in metrics_of(frame):
            full = own[own["method"] == FULL].set_index("seed")[metric].reindex(seeds).to_numpy(dtype=float)
            rows = own[(own["budget"] == budget) & (own["method"] != FULL)]
            methods = {
                name: group.pivot(index="seed", columns="keep_ratio", values=metric).reindex(seeds).iloc[:, ::-1]
                for name, group in rows.groupby("method", sort=False)
            }
            yield Grid(model, budget, metric, full, methods)


def over_ranges(frame: pd.DataFrame) -> pd.DataFrame:
    """A row each model, budget, range of ratios and method, as text; see RANGES_CAPTION for the columns.

    Args:
        frame: see `table.collect`.
    """
    rows: dict[tuple, dict] = {}
    differences: list[tuple[dict, str, str, Estimate, str]] = []
    for grid, method, ratios in _range_cells(frame):
        key = grid.model, grid.budget, range_name(ratios), method
        row = rows.setdefault(key, {**dict(zip(_RANGE_KEYS, key)), "ratios": len(ratios)})
        for rival in (RANDOM, _STRONGEST):
            row[f"{grid.metric} - {rival}"] = ""  # the place it has, if it comes
        for column, rival in _rivals(grid, method, ratios).items():
            found = _difference(grid, method, rival, ratios)
            differences.append((row, column, grid.metric, found, f" {rival}" if column == _STRONGEST else ""))
        row[f"{grid.metric} saved"] = _saved(grid, method, ratios)
    corrected = holm([found.p for *_, found, _ in differences])
    for (row, column, metric, found, named), p in zip(differences, corrected):
        text = shown(found, p, DECIMALS[metric])
        row[f"{metric} - {column}"] = text and text + named
    table = pd.DataFrame(sorted(rows.values(), key=lambda row: row["images kept"] < f"{MILD:g}"))
    return table.loc[:, [column for column in table if (table[column] != "").any()]]


def _range_cells(frame: pd.DataFrame) -> Iterator[tuple[Grid, str, list[float]]]:
    """What has a row: a method other than random, with the ratios of one range."""
    for grid in grids_of(frame):
        for method in grid.methods:
            if grid.controls() and method != RANDOM:
                yield from ((grid, method, ratios) for ratios in ranges(list(grid.methods[method])))


_STRONGEST = "strongest control"
_RANGE_KEYS = ("model", "budget", "images kept", "method")
RANGES_CAPTION = (
    "By ranges of ratio, which are never averaged together. - random, - strongest control: mean over the ratios of "
    "the mean paired differences over seeds [95% interval, t with Satterthwaite's degrees of freedom, as if ratios "
    "were independent]; * p below 0.05 after Holm's correction for all differences of this table. Strongest control: "
    "the one with the highest mean over the range. saved: the share of random selection's loss that is not lost, "
    "(method - random) / (full - random) [interval by bootstrap over seeds]; - where full is not clearly above random."
)


def ranges(ratios: Sequence[float]) -> list[list[float]]:
    """From MILD up, and below; those that hold a ratio."""
    parts = [r for r in ratios if r >= MILD], [r for r in ratios if r < MILD]
    return [part for part in parts if part]


def range_name(ratios: Sequence[float]) -> str:
    """What a part of `ranges` is called in tables, such as 0.95-0.8 or 0.7 and below."""
    if len(ratios) == 1:
        return f"{ratios[0]:g}"
    return f"{max(ratios):g}-{min(ratios):g}" if min(ratios) >= MILD else f"{max(ratios):g} and below"


def _rivals(grid: Grid, method: str, ratios: Sequence[float]) -> dict[str, str]:
    """By column, what a method is compared with: random, and if there are more controls the strongest."""
    controls = [name for name in grid.controls(ratios) if name != method]
    rivals = {RANDOM: RANDOM} if RANDOM in controls else {}
    if method not in CONTROLS and len(controls) > 1:
        rivals[_STRONGEST] = strongest_on_average(grid, ratios)
    return rivals


def strongest_on_average(grid: Grid, ratios: Sequence[float]) -> str:
    """The control with the highest mean over these ratios."""
    return max(grid.controls(ratios), key=lambda name: np.nanmean(grid.at(name, ratios), axis=0).mean())


def _difference(grid: Grid, method: str, rival: str, ratios: Sequence[float]) -> Estimate:
    cells = columns(grid.at(method, ratios) - grid.at(rival, ratios))
    return over_cells(cells) if all(map(len, cells)) else Estimate(np.nan)


def _saved(grid: Grid, method: str, ratios: Sequence[float]) -> str:
    if RANDOM not in grid.controls(ratios) or np.isnan(grid.full).all():
        return ""
    found = share_saved(grid.at(method, ratios), grid.at(RANDOM, ratios), grid.full)
    return "-" if np.isnan(found.mean) else f"{100 * found.mean:.0f}%{_interval(100 * found.low, 100 * found.high, 0)}"


def _interval(low: float, high: float, decimals: int) -> str:
    return "" if np.isnan(low) else f" [{low:.{decimals}f}, {high:.{decimals}f}]"


def needed_table(frame: pd.DataFrame) -> pd.DataFrame:
    """A row each model, budget and method at several ratios, as text; see NEEDED_CAPTION for the columns.

    Args:
        frame: see `table.collect`.
    """
    rows: dict[tuple, dict] = {}
    for grid in grids_of(frame):
        for method in _with_curve(grid):
            key = grid.model, grid.budget, method
            row = rows.setdefault(key, dict(zip(("model", "budget", "method"), key)))
            row[f"{grid.metric}: images needed"] = _needed(grid, method)
            if method not in CONTROLS and (rival := strongest_by_images(grid)):
                row[f"{grid.metric}: of the strongest control's"] = f"{_of_control(grid, method, rival)} {rival}"
    return pd.DataFrame(list(rows.values())).fillna("")


NEEDED_CAPTION = (
    "Images needed: the smallest share of the images with which a metric is within one point of training on "
    "everything, on the curve of the means over seeds made monotone, linear between ratios [95% interval by bootstrap "
    "over seeds, which is too narrow for few]; ≤ where the smallest ratio that was run is enough. The strongest "
    "control is the one that needs the fewest."
)


def _with_curve(grid: Grid) -> list[str]:
    if np.isnan(grid.full).all():
        return []
    return [name for name, values in grid.methods.items() if values.shape[1] > 1]


def strongest_by_images(grid: Grid) -> str:
    """The control that needs the fewest images; empty if there is none with a curve."""
    controls = [name for name in grid.controls() if name in _with_curve(grid)]
    everyone = np.arange(len(grid.full))
    return min(controls, key=lambda name: grid.needed(name, everyone), default="")


def _needed(grid: Grid, method: str) -> str:
    share = grid.needed(method, np.arange(len(grid.full)))
    interval = bootstrap(lambda seeds: grid.needed(method, seeds), len(grid.full))
    at_most = "≤ " if share <= min(grid.methods[method]) else ""
    return f"{at_most}{share:.2f}{_interval(*interval, 2)}"


def _of_control(grid: Grid, method: str, control: str) -> str:
    def quotient(seeds: np.ndarray) -> float:
        return grid.needed(method, seeds) / grid.needed(control, seeds)

    everyone = np.arange(len(grid.full))
    return f"{quotient(everyone):.2f}{_interval(*bootstrap(quotient, len(everyone)), 2)}"


def strongest_controls(frame: pd.DataFrame) -> str:
    """A line each model and budget with several controls: which one is strongest where."""
    lines: dict[tuple, list[str]] = {}
    for grid in grids_of(frame):
        controls = grid.controls()
        if len(controls) < 2:
            continue
        places = [f"{strongest_on_average(grid, part)} at {range_name(part)}" for part in _shared_ranges(grid)]
        fewest = strongest_by_images(grid)
        places += [f"{fewest} in images needed"] if fewest else []
        lines.setdefault((grid.model, grid.budget), []).append(f"by {grid.metric} {', '.join(places)}")
    return "\n".join(
        f"Strongest control of {model}, equal {budget}: {'; '.join(parts)}." for (model, budget), parts in lines.items()
    )


def _shared_ranges(grid: Grid) -> list[list[float]]:
    ratios = [set(grid.methods[name]) for name in grid.controls()]
    return ranges(sorted(set.intersection(*ratios), reverse=True))
