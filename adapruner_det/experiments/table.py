"""What a comparison found: a row a training, and a table of means."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ..pruning import Selection
from ..pruning.selection import ratio_label
from .budgets import EPOCHS
from .comparison import (
    FULL,
    Cell,
    Comparison,
    finetuning_run,
    selection_run,
    training_run,
)
from .methods import DRAWN, METHODS, RANDOM
from .plan import test_set
from .runs import seconds_of
from .statistics import Estimate, holm, student_t

METRICS = {"bbox": ("AP50", "AP"), "classification": ("accuracy",)}  # by task, the main one first
DECIMALS = {"AP50": 1, "AP": 1, "accuracy": 2}
SIGNIFICANT = 0.05
_KEYS = ["model", "budget", "method", "keep_ratio"]


def collect(comparison: Comparison, output: Path) -> pd.DataFrame:
    """One row a training: model, method, keep_ratio, budget, seed, images, metrics in percent, seconds.

    `train_seconds` is the training's, without a second stage (`finetune_seconds`); `select_seconds`:
    see the function of that name, 0 for everything.
    """
    rows: list[dict] = []
    for model in comparison.models():
        test = test_set(comparison, model)
        for cell in comparison.cells(model):
            seeds = comparison.seeds_of(model, cell)
            rows += [_row(comparison, output, model, test, cell, seed) for seed in seeds]
    frame = pd.DataFrame(rows)
    # The full set has no selection of its own: its size is that of any selection's data.
    frame["images"] = frame["images"].fillna(frame["of"].max()).astype("Int64")
    return frame.drop(columns="of")


def _row(comparison: Comparison, output: Path, model: str, test: str, cell: Cell, seed: int) -> dict:
    training = output / training_run(model, cell, seed)
    last = output / finetuning_run(model, cell, seed) if comparison.finetune else training
    finetune = {"finetune_seconds": seconds_of(last)} if comparison.finetune else {}
    return {
        "model": model,
        **cell._asdict(),
        "seed": seed,
        **_selection_facts(comparison, cell, seed, output),
        **_metrics(last / "inference" / test / "evaluation.json"),
        "train_seconds": seconds_of(training),
        **finetune,
    }


def _metrics(path: Path) -> dict[str, float]:
    evaluation = json.loads(path.read_text(encoding="utf-8"))
    for task, names in METRICS.items():
        if task in evaluation:
            return {name: evaluation[task][name] for name in names}
    raise ValueError(f"{path} holds results of {list(evaluation)}, none of {', '.join(METRICS)}")


def _selection_facts(comparison: Comparison, cell: Cell, seed: int, output: Path) -> dict:
    if cell.method == FULL:
        return {"images": None, "of": None, "select_seconds": 0.0}
    selection = Selection.load(output / selection_run(cell.method, cell.keep_ratio, seed) / "selection")
    seconds = select_seconds(comparison, output, cell.method, cell.keep_ratio, seed)
    return {"images": sum(selection.kept), "of": len(selection), "select_seconds": seconds}


def select_seconds(comparison: Comparison, output: Path, method: str, ratio: float, seed: int) -> float:
    """Wall-clock seconds of the run that made the scores of a selection; 0 for what is drawn (DRAWN).

    Where selections are cut from one, those of that one, for each of them. A method that looks at a proxy is charged
    as if it were the only one: with the proxy's training as far as it needs it, and with all that it asks of
    the networks, whichever method asked for it first.
    """
    if comparison.base_method(method) in DRAWN:
        return 0.0
    own = output / selection_run(method, comparison.source_ratio(method) or ratio, seed)
    seconds = seconds_of(own)
    if not METHODS[comparison.base_method(method)].needs_proxy:
        return seconds
    facts = Selection.load(own / "selection").provenance
    return seconds - facts["seconds_here"] + facts["seconds"]


def metrics_of(frame: pd.DataFrame) -> list[str]:
    """The metrics a frame of `collect` holds, the main one first."""
    return [name for names in METRICS.values() for name in names if name in frame]


def summarise(frame: pd.DataFrame) -> pd.DataFrame:
    """Means over seeds, one row a cell, as text; columns that say nothing are left away.

    Args:
        frame: see `collect`.
    """
    groups = [(dict(zip(_KEYS, key)), group) for key, group in frame.groupby(_KEYS, sort=False)]
    differences = _all_differences(frame, [cell for cell, _ in groups])
    rows = [_summary_row(frame, cell, group, found) for (cell, group), found in zip(groups, differences)]
    table = pd.DataFrame(rows)
    return table.loc[:, [column for column in table if (table[column] != "").any()]]


def _all_differences(frame: pd.DataFrame, cells: list[dict[str, Any]]) -> list[dict[str, str]]:
    """By metric, each cell's difference to random selection as text, with stars that know how many there are."""
    metrics = metrics_of(frame)
    found = [paired_differences(frame[frame["model"] == cell["model"]], cell, m) for cell in cells for m in metrics]
    estimates = [student_t(values) if len(values) else None for values in found]
    corrected = holm([math.nan if estimate is None else estimate.p for estimate in estimates])
    texts = [
        "" if estimate is None else shown(estimate, p, DECIMALS[m])
        for estimate, p, m in zip(estimates, corrected, metrics * len(cells))
    ]
    return [dict(zip(metrics, texts[i : i + len(metrics)])) for i in range(0, len(texts), len(metrics))]


def shown(found: Estimate, p: float, decimals: int) -> str:
    """A difference as text: mean, interval, and a star if the corrected p says so."""
    if math.isnan(found.mean):
        return ""
    mean = f"{found.mean:+.{decimals}f}"
    if math.isnan(found.low):
        return mean
    return f"{mean} [{found.low:+.{decimals}f}, {found.high:+.{decimals}f}]{' *' if p < SIGNIFICANT else ''}"


def _summary_row(
    frame: pd.DataFrame, cell: dict[str, Any], group: pd.DataFrame, differences: dict[str, str]
) -> dict[str, Any]:
    method, ratio = cell["method"], cell["keep_ratio"]
    own = frame[frame["model"] == cell["model"]]
    full = own[own["method"] == FULL]
    metrics = metrics_of(frame)
    return {
        "model": cell["model"],
        "trained on": method if method == FULL else f"{method} {ratio_label(ratio)}",
        "budget": "" if method == FULL else cell["budget"],
        "images": "all" if group["images"].isna().any() else f"{group['images'].mean():.0f}",
        **{name: _mean_and_spread(group[name], DECIMALS[name]) for name in metrics},
        **{f"{name} - random": differences[name] for name in metrics},
        "train s": f"{group['train_seconds'].mean():.0f}",
        "select s": f"{group['select_seconds'].mean():.0f}",
        "select / full training": _relative_cost(group, full),
        "pays after": _break_even(group, full, cell["budget"]),
        "finetune s": f"{group['finetune_seconds'].mean():.0f}" if "finetune_seconds" in group else "",
        "seeds": len(group),
    }


def _mean_and_spread(values: pd.Series, decimals: int) -> str:
    spread = f" ± {values.std():.{decimals}f}" if len(values) > 1 else ""
    return f"{values.mean():.{decimals}f}{spread}"


def paired_differences(own: pd.DataFrame, cell: dict[str, Any], metric: str) -> np.ndarray:
    """A cell's metric less that of random selection at the same ratio and budget, seed by seed.

    Args:
        own: the rows of the cell's model.
    """
    same = (own["budget"] == cell["budget"]) & (own["keep_ratio"] == cell["keep_ratio"])
    by_seed = own[same].pivot(index="seed", columns="method", values=metric)
    if RANDOM not in by_seed or cell["method"] in (RANDOM, FULL):
        return np.array([])
    return (by_seed[cell["method"]] - by_seed[RANDOM]).dropna().to_numpy()


def _relative_cost(group: pd.DataFrame, full: pd.DataFrame) -> str:
    if full.empty or group["method"].iloc[0] == FULL:
        return ""
    return f"{group['select_seconds'].mean() / full['train_seconds'].mean():.2f}"


def _break_even(group: pd.DataFrame, full: pd.DataFrame, budget: str) -> str:
    """After how many trainings on the selection selecting has paid for itself.

    What a training spares is taken from the images: seconds measured on another day or beside other work
    differ by more than a tenth, which is all that a ratio of 0.9 spares.
    """
    if full.empty or budget != EPOCHS:
        return ""  # only equal epochs make a training shorter
    spared = full["train_seconds"].mean() * (1 - group["images"].mean() / full["images"].mean())
    cost = group["select_seconds"].mean()
    if cost == 0:
        return "0"
    return "never" if spared <= 0 else str(math.ceil(cost / spared))


_EXPLAINED: tuple[tuple[str, str], ...] = (
    ("budget", "budget: what a training on a selection has in common with that on everything"),
    (
        " - random",
        "- random: mean of the differences to random selection of the same seed, ratio and budget [95% interval, "
        f"Student's t over the seeds]; * p below {SIGNIFICANT} after Holm's correction for all differences of the "
        "table",
    ),
    (
        "train s",
        "train s, select s: wall-clock seconds of a training and of the run that selects, means; one such run a seed "
        "serves all ratios of AdaPruner and of methods that do not look at the ratio, and each ratio has all of it",
    ),
    ("select / full training", "select / full training: select s over the train s of everything"),
    (
        "pays after",
        "pays after: trainings on the selection after which select s is won back, as each spares the share "
        "of the seconds of one on everything that its images are fewer",
    ),
)


def caption(summary: pd.DataFrame) -> str:
    """What the columns of `summarise` mean, as a paragraph."""
    spread = ["mean ± standard deviation over seeds"] if (summary["seeds"] > 1).any() else []
    columns = [text for name, text in _EXPLAINED if any(column.endswith(name) for column in summary)]
    text = "; ".join([*spread, *columns])
    return f"Metrics in percent; {text}."
