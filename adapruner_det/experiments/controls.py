"""A comparison against its controls: by ranges of ratio, and in images needed."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from .experiment import CONTROLS, RANDOM
from .intervals import bootstrap, images_needed, share_saved
from .table import Curves, as_text, curves_of

MILD = 0.8  # ratios from here up are what people use first; those below are averaged by themselves
_STRONGEST = "strongest control"
RANGES_CAPTION = (
    "By ranges of ratio, which are never averaged together. - random, - strongest control: mean over the ratios of "
    "the mean paired differences over seeds [95% interval, t with Satterthwaite's degrees of freedom, as if ratios "
    "were independent]; * p below 0.05 after Holm's correction for all differences of this table. Strongest control: "
    "the one with the highest mean over the range, luck included, beside which others look worse than they are. saved: the share of random selection's loss that is not lost, "
    "(method - random) / (full - random) [interval by bootstrap over seeds]; - where full is not clearly above random."
)
NEEDED_CAPTION = (
    "Images needed: the smallest share of the images with which a metric is within one point of training on "
    "everything, on the curve of the means over seeds made monotone, linear between ratios [95% interval by bootstrap "
    "over seeds, which is too narrow for few]; ≤ where the smallest ratio that was run is enough. The strongest "
    "control is the one that needs the fewest, compared at the ratios that both have; ≥ where the smallest of them is enough "
    "for it, - where it is for both."
)


def over_ranges(frame: pd.DataFrame) -> pd.DataFrame:
    """A row each model, budget, range of ratios and method, as text; see RANGES_CAPTION for the columns.

    Args:
        frame: see `table.collect`.
    """
    rows: dict[tuple, dict[str, Any]] = {}
    for curves in curves_of(frame):
        methods = [name for name in curves.methods if name != RANDOM] if _controls(curves) else []
        for method, ratios in ((name, part) for name in methods for part in ranges(list(curves.methods[name]))):
            key = curves.model, curves.budget, range_name(ratios), method
            row = rows.setdefault(key, dict(zip(("model", "budget", "images kept", "method"), key)))
            controls, metric = [name for name in _controls(curves, ratios) if name != method], curves.metric
            row["ratios"] = len(ratios)
            row[f"{metric} - {RANDOM}"] = curves.difference(method, RANDOM, ratios) if RANDOM in controls else ""
            row[f"{metric} - {_STRONGEST}"] = ""
            if method not in CONTROLS and set(controls) - {RANDOM}:
                rival = strongest(curves, ratios)
                row[f"{metric} - {_STRONGEST}"] = curves.difference(method, rival, ratios)._replace(rival=rival)
            row[f"{metric} saved"] = _saved(curves, method, ratios)
    return as_text(sorted(rows.values(), key=lambda row: row["images kept"] < f"{MILD:g}"))


def strongest(curves: Curves, ratios: Sequence[float]) -> str:
    """The control with the highest mean over the ratios; nothing where none has a value at all of them."""
    controls = [name for name in _controls(curves, ratios) if not np.isnan(curves.at(name, ratios)).all(axis=0).any()]
    return max(controls, key=lambda name: np.nanmean(curves.at(name, ratios), axis=0).mean(), default="")


def _controls(curves: Curves, ratios: Sequence[float] = ()) -> list[str]:
    """Those of CONTROLS that were run, at all of these ratios."""
    return [name for name in CONTROLS if name in curves.methods and set(ratios) <= set(curves.methods[name])]


def ranges(ratios: Sequence[float]) -> list[list[float]]:
    """From MILD up, and below; those that hold a ratio."""
    parts = [r for r in ratios if r >= MILD], [r for r in ratios if r < MILD]
    return [part for part in parts if part]


def range_name(ratios: Sequence[float]) -> str:
    """What a part of `ranges` is called in tables, such as 0.95-0.8 or 0.7 and below."""
    if len(ratios) == 1:
        return f"{ratios[0]:g}"
    return f"{max(ratios):g}-{min(ratios):g}" if min(ratios) >= MILD else f"{max(ratios):g} and below"


def _saved(curves: Curves, method: str, ratios: Sequence[float]) -> str:
    if RANDOM not in _controls(curves, ratios) or np.isnan(curves.full).all():
        return ""
    found = share_saved(curves.at(method, ratios), curves.at(RANDOM, ratios), curves.full)
    return "-" if np.isnan(found.mean) else f"{100 * found.mean:.0f}%{_interval(100 * found.low, 100 * found.high, 0)}"


def _interval(low: float, high: float, decimals: int) -> str:
    return "" if np.isnan(low) else f" [{low:.{decimals}f}, {high:.{decimals}f}]"


def needed_table(frame: pd.DataFrame) -> pd.DataFrame:
    """A row each model, budget and method at several ratios, as text; see NEEDED_CAPTION for the columns.

    Args:
        frame: see `table.collect`.
    """
    rows: dict[tuple, dict[str, str]] = {}
    for curves in curves_of(frame):
        if np.isnan(curves.full).all():
            continue
        seeds = np.arange(len(curves.full))
        methods = [name for name, values in curves.methods.items() if values.shape[1] > 1]
        controls = [name for name in CONTROLS if name in methods]
        for method in methods:
            rivals = [name for name in controls if len(_common(curves, method, name)) > 1]
            strongest = min(rivals, key=lambda name: _needed(curves, name, seeds), default="")
            key = curves.model, curves.budget, method
            row = rows.setdefault(key, dict(zip(("model", "budget", "method"), key)))
            row[f"{curves.metric}: images needed"] = _needed_text(curves, method)
            if method not in CONTROLS and strongest:
                row[f"{curves.metric}: of the strongest control's"] = _quotient_text(curves, method, strongest)
    return pd.DataFrame(list(rows.values())).fillna("")


def _common(curves: Curves, method: str, control: str) -> list[float]:
    """The ratios that both were run at."""
    return [ratio for ratio in curves.methods[method] if ratio in curves.methods[control]]


def _needed(curves: Curves, method: str, seeds: np.ndarray, ratios: Sequence[float] = ()) -> float:
    """Images needed, by these seeds alone, and by these ratios if there are any."""
    values = curves.methods[method][list(ratios or curves.methods[method])]
    return images_needed(list(values), values.to_numpy()[seeds], curves.full[seeds])


def _needed_text(curves: Curves, method: str) -> str:
    seeds = np.arange(len(curves.full))
    share = _needed(curves, method, seeds)
    at_most = "≤ " if share <= min(curves.methods[method]) else ""
    return f"{at_most}{share:.2f}{_interval(*bootstrap(lambda drawn: _needed(curves, method, drawn), len(seeds)), 2)}"


def _quotient_text(curves: Curves, method: str, control: str) -> str:
    """Images needed by those that a control needs."""
    ratios = _common(curves, method, control)

    def statistic(seeds: np.ndarray) -> float:
        return _needed(curves, method, seeds, ratios) / _needed(curves, control, seeds, ratios)

    seeds = np.arange(len(curves.full))
    own, its = (_needed(curves, name, seeds, ratios) <= min(ratios) for name in (method, control))
    if own and its:
        return f"- {control}"
    bound = "≤ " if own else "≥ " if its else ""
    return f"{bound}{statistic(seeds):.2f}{_interval(*bootstrap(statistic, len(seeds)), 2)} {control}"
