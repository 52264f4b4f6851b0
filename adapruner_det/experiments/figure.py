"""The picture of a comparison: the main metric against the share of images that stays."""

import io
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ..files import write_bytes
from .experiment import ANY_BUDGET, FULL
from .methods import ADAPRUNER, RANDOM
from .table import metrics_of

# Okabe and Ito's palette, which colour-blind readers can tell apart, without yellow; black is the full set's.
COLOURS = "#E69F00 #0072B2 #009E73 #D55E00 #CC79A7 #56B4E9".split()
MARKERS, LINES = "osD^v<>PX", ("-", "--", ":")
SIDE_BY_SIDE = 0.01  # of the share kept, between methods of which each has one point
PANEL = 4.2, 3.4  # inches
ENTRY, LETTER, SAMPLE = 0.22, 0.085, 0.75  # of the legend, inches: height, width of a letter, line and margins
DPI = 150


def save_figure(frame: pd.DataFrame, path: "str | Path") -> None:
    """Writes `figure_of(frame)` as a PNG, whole or not at all."""
    picture = io.BytesIO()
    figure_of(frame).savefig(picture, format="png", dpi=DPI)
    write_bytes(path, picture.getvalue())


def figure_of(frame: pd.DataFrame) -> Figure:
    """A panel for each model (rows) and budget (columns), with a line for each method.

    Bands and bars are one standard deviation over the seeds, where there are several; training on
    everything is a horizontal line. Random selection and AdaPruner are drawn thicker, above the others.

    Args:
        frame: see `table.collect`.
    """
    models, methods = (list(dict.fromkeys(frame[name])) for name in ("model", "method"))
    budgets = [budget for budget in dict.fromkeys(frame["budget"]) if budget != ANY_BUDGET] or [ANY_BUDGET]
    names = [name for name in methods if name != FULL]
    metric = metrics_of(frame)[0]
    ratios = sorted(frame[frame["method"] != FULL]["keep_ratio"].unique())
    legend = SAMPLE + LETTER * max(map(len, [FULL, *names])), ENTRY * (len(names) + 2)  # width and height, shown whole
    size = PANEL[0] * len(budgets) + legend[0], max(PANEL[1] * len(models), legend[1])
    figure = Figure(size, layout="constrained")
    panels = figure.subplots(len(models), len(budgets), squeeze=False, sharex=True, sharey="row")
    for model, row in zip(models, panels):
        own = frame[frame["model"] == model]
        for budget, panel in zip(budgets, row):
            _draw_full(panel, own[own["method"] == FULL][metric])
            for number, method in enumerate(names):
                cell = own[(own["budget"] == budget) & (own["method"] == method)]
                _draw_method(panel, number, len(names), method, cell.groupby("keep_ratio")[metric])
            panel.set_title(model if budget == ANY_BUDGET else f"{model}, equal {budget}", fontsize=10)
            panel.grid(alpha=0.25)
            panel.spines[["top", "right"]].set_visible(False)
        row[0].set_ylabel(f"{metric} (%)")
    for panel in panels[-1]:
        if len(ratios) == 1:  # room around the points: at the edges they seem far apart
            room = len(names) * SIDE_BY_SIDE
            panel.set_xlim(ratios[0] - room, ratios[0] + room)
        panel.set_xticks(ratios, [f"{100 * ratio:g}" for ratio in ratios], fontsize=8)
        panel.set_xlabel("images kept (%)")
    figure.legend(*panels[0, 0].get_legend_handles_labels(), loc="outside right upper", frameon=False)
    return figure


def _draw_full(panel: Axes, values: pd.Series) -> None:
    if values.empty:
        return
    mean, spread = values.mean(), values.std() if len(values) > 1 else 0.0
    panel.axhspan(mean - spread, mean + spread, color="black", alpha=0.1, linewidth=0)
    panel.axhline(mean, color="black", linestyle="--", linewidth=1, label=FULL)


def _draw_method(panel: Axes, number: int, count: int, method: str, by_ratio) -> None:
    mean, spread = by_ratio.mean(), by_ratio.std().fillna(0.0)
    if len(mean) == 1:  # a band has no width there; side by side, so that none hides another
        mean.index = spread.index = mean.index + (number - (count - 1) / 2) * SIDE_BY_SIDE
    colour = COLOURS[number % len(COLOURS)]
    look: dict[str, Any] = {
        "linestyle": LINES[number // len(COLOURS) % len(LINES)],
        "marker": MARKERS[number % len(MARKERS)],
    }
    thick: dict[str, Any] = {"linewidth": 2.5, "zorder": 3} if method in (RANDOM, ADAPRUNER) else {}
    panel.fill_between(mean.index, mean - spread, mean + spread, color=colour, alpha=0.15, linewidth=0)
    panel.plot(mean.index, mean, label=method, color=colour, markersize=5, **look, **thick)
    if len(mean) == 1:
        panel.errorbar(mean.index, mean, spread, color=colour, capsize=3, linestyle="none")
