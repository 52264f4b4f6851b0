"""The picture of a comparison: the main metric against the share of images that stays."""

from pathlib import Path

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ..report.pictures import save_png
from .experiment import ADAPRUNER, ANY_BUDGET, FULL, RANDOM
from .table import metrics_of

# Okabe and Ito's palette, which colour-blind readers can tell apart, without yellow; black is the full set's.
COLOURS = "#E69F00 #0072B2 #009E73 #D55E00 #CC79A7 #56B4E9".split()
MARKERS, LINES = "osD^v<>PX", ("-", "--", ":")
APART = 0.002  # of the share kept, between the error bars of two methods
MARGIN = 0.05  # of the share kept, on both sides: so the methods of a lone ratio stay near it
PANEL = 4.2, 3.4  # inches
ENTRY, LETTER, SAMPLE = 0.22, 0.085, 0.75  # of the legend, inches: height, width of a letter, line and margins


def save_figure(frame: pd.DataFrame, path: "str | Path") -> None:
    """Writes `figure_of(frame)` as a PNG, whole or not at all."""
    save_png(figure_of(frame), path, dpi=150)


def figure_of(frame: pd.DataFrame) -> Figure:
    """A panel for each model (rows) and budget (columns), with a line for each method.

    Bars are one standard deviation over the seeds, where there are several; training on everything is a horizontal
    line. Random selection and AdaPruner are drawn thicker, above the others.

    Args:
        frame: see `table.collect`.
    """
    models, budgets, methods = (list(frame[name].unique()) for name in ("model", "budget", "method"))
    budgets = [budget for budget in budgets if budget != ANY_BUDGET] or [ANY_BUDGET]
    selected, metric = frame[frame["method"] != FULL], metrics_of(frame)[0]
    legend = SAMPLE + LETTER * max(map(len, [FULL, *methods])), ENTRY * (len(methods) + 2)  # width and height, whole
    size = PANEL[0] * len(budgets) + legend[0], max(PANEL[1] * len(models), legend[1])
    figure = Figure(size, layout="constrained")
    panels = figure.subplots(len(models), len(budgets), squeeze=False, sharex=True, sharey="row")
    for model, row in zip(models, panels):
        for budget, panel in zip(budgets, row):
            _draw_full(panel, frame[(frame["model"] == model) & (frame["method"] == FULL)][metric])
            own = selected[(selected["model"] == model) & (selected["budget"] == budget)]
            for number, method in enumerate(name for name in methods if name != FULL):
                _draw_method(panel, number, method, own[own["method"] == method].groupby("keep_ratio")[metric])
            title = model if budget == ANY_BUDGET else f"{model}, equal {budget}"
            panel.set_title(title, fontsize=10, parse_math=False)
            panel.grid(alpha=0.25)
            panel.spines[["top", "right"]].set_visible(False)
        row[0].set_ylabel(f"{metric} (%)")
    for panel in panels[-1]:
        ratios = sorted(selected["keep_ratio"].unique())
        panel.set_xticks(ratios, [f"{100 * ratio:g}" for ratio in ratios], fontsize=8)
        if ratios:
            panel.set_xlim(ratios[0] - MARGIN, ratios[-1] + APART * len(methods) + MARGIN)
        panel.set_xlabel("images kept (%)")
    names = figure.legend(*panels[0, 0].get_legend_handles_labels(), loc="outside right upper", frameon=False)
    for text in names.get_texts():
        text.set_parse_math(False)
    return figure


def _draw_full(panel: Axes, values: pd.Series) -> None:
    if values.empty:
        return
    mean, spread = values.mean(), values.std() if len(values) > 1 else 0.0
    panel.axhspan(mean - spread, mean + spread, color="black", alpha=0.1, linewidth=0)
    panel.axhline(mean, color="black", linestyle="--", linewidth=1, label=FULL)


def _draw_method(panel: Axes, number: int, method: str, by_ratio) -> None:
    mean, spread = by_ratio.mean(), by_ratio.std().fillna(0.0)
    panel.errorbar(
        mean.index + number * APART,  # beside each other, so that none hides another
        mean,
        spread,
        label=method,
        color=COLOURS[number % len(COLOURS)],
        linestyle=LINES[number // len(COLOURS) % len(LINES)],
        marker=MARKERS[number % len(MARKERS)],
        markersize=5,
        capsize=3,
        elinewidth=1,
        linewidth=2.5 if method in (RANDOM, ADAPRUNER) else 1.5,
        zorder=3 if method in (RANDOM, ADAPRUNER) else 2,
    )
