"""The picture of many methods: each less the strongest control, ratio by ratio."""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from ..report.pictures import save_png
from .controls import strongest
from .experiment import ADAPRUNER, ANY_BUDGET, CONTROLS
from .intervals import Estimate, against_control
from .table import Curves, curves_of, metrics_of

COLOUR, OWN, CONTROL = "#0072B2", "#D55E00", "#777777"  # of Okabe and Ito's palette: of methods, AdaPruner, controls
PANEL, LINE, LETTER, MARGIN = 2.6, 0.2, 0.085, 1.4  # inches: width, a method, a letter of its name, title, axis, legend
LEAST = 5.0  # inches wide, for the legend


class Panel(NamedTuple):
    """The methods of one model and budget at one ratio.

    Attributes:
        control: the one with the highest mean, which the others are less.
        differences: by method, of which `control` has 0.
        room: training on everything less the control; NaN where it was not run.
    """

    ratio: float
    control: str
    differences: dict[str, Estimate]
    room: float


def save_differences(frame: pd.DataFrame, path: "str | Path") -> None:
    """Writes `differences_of(frame)` as a PNG, whole or not at all; takes an older one away if there is none."""
    figure = differences_of(frame)
    if figure:
        save_png(figure, path, dpi=150)
    else:
        Path(path).unlink(missing_ok=True)


def differences_of(frame: pd.DataFrame) -> Figure | None:
    """A row of panels for each model and budget, one a ratio; in them a line a method, the best on top.

    A dot is the difference of the means of AP (accuracy) to the strongest control, a bar its 95% interval, which holds
    for all methods of the panel at once (`intervals.against_control`), but does not know that the control is the luckiest
    of several: a gain is one, a loss may be none. A dashed line is training on everything.

    Args:
        frame: see `table.collect`.

    Returns:
        None where no ratio has both a control and another method.
    """
    metric = metrics_of(frame)[-1]  # AP, or accuracy
    rows = [(curves, list(panels_of(curves))) for curves in curves_of(frame) if curves.metric == metric]
    rows = [(curves, panels) for curves, panels in rows if panels]
    if not rows:
        return None
    orders = [_order(panels) for _, panels in rows]
    columns = max(len(panels) for _, panels in rows)
    names = LETTER * max(len(name) for order in orders for name in order)
    heights = [MARGIN + LINE * len(order) for order in orders]
    figure = Figure((max(names + PANEL * columns, LEAST), sum(heights)), layout="constrained")
    axes = figure.subplots(
        len(rows), columns, squeeze=False, sharex="row", sharey="row", gridspec_kw={"height_ratios": heights}
    )
    for line, (curves, panels), order in zip(axes, rows, orders):
        for panel, ax in zip(panels, line):
            _draw(ax, panel, order)
            ax.set_title(f"{100 * panel.ratio:g}% kept,\nless {panel.control}", fontsize=9)
            ax.set_xlabel(f"{metric}, difference", fontsize=8)
        for ax in line[len(panels) :]:
            ax.remove()
        budget = "" if curves.budget == ANY_BUDGET else f"\nequal {curves.budget}"
        line[0].set_ylabel(f"{curves.model}{budget}", fontsize=9, parse_math=False)
    figure.legend(handles=_legend(), loc="outside lower center", ncols=4, frameon=False, fontsize=8)
    return figure


def panels_of(curves: Curves) -> Iterator[Panel]:
    """One for each ratio at which there is a control and another method, the highest first."""
    for ratio in sorted({ratio for values in curves.methods.values() for ratio in values}, reverse=True):
        run = {name: frame[ratio].dropna().to_numpy() for name, frame in curves.methods.items() if ratio in frame}
        samples = {name: values for name, values in run.items() if len(values)}
        control = strongest(curves, [ratio])
        if control and len(samples) > 1:
            level = samples.pop(control)
            found = dict(zip(samples, against_control(list(samples.values()), level)))
            room = pd.Series(curves.full).mean() - level.mean()
            yield Panel(ratio, control, {control: Estimate(0.0), **found}, float(room))


def _order(panels: list[Panel]) -> list[str]:
    """All methods, by their mean difference over the panels, the lowest first."""
    means = pd.DataFrame([{name: found.mean for name, found in panel.differences.items()} for panel in panels]).mean()
    return list(means.sort_values(kind="stable").index)


def _legend() -> list[Line2D]:
    dots = {"AdaPruner": OWN, "a method": COLOUR, "a control": CONTROL}
    handles = [Line2D([], [], color=colour, marker="o", markersize=4, label=name) for name, colour in dots.items()]
    return [*handles, Line2D([], [], color="black", linestyle="--", linewidth=1, label="everything")]


def _draw(ax: Axes, panel: Panel, order: list[str]) -> None:
    ax.axvline(0, color=CONTROL, linewidth=1)
    if not np.isnan(panel.room):
        ax.axvline(panel.room, color="black", linestyle="--", linewidth=1)
    for place, name in enumerate(order):
        found = panel.differences.get(name, Estimate(np.nan))
        colour = OWN if name == ADAPRUNER else CONTROL if name in CONTROLS else COLOUR
        ax.plot([found.low, found.high], [place, place], color=colour, linewidth=1.5)
        ax.plot(found.mean, place, "o", color=colour, markersize=4)
    ax.set_yticks(range(len(order)), order, fontsize=8, parse_math=False)
    ax.set_ylim(-0.7, len(order) - 0.3)
    ax.tick_params(axis="x", labelsize=8)
    ax.grid(axis="x", alpha=0.25)
    ax.spines[["top", "right"]].set_visible(False)
