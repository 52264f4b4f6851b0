"""What a comparison found: a row a training, and a table of means."""

import json
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from ..pruning import Selection
from ..pruning.selection import ratio_label
from .check import images_beside, test_set
from .experiment import DRAWN, EPOCHS, FULL, RANDOM, Cell, Experiment, finetuning_run, selection_run, training_run
from .intervals import Estimate, columns, holm, over_cells
from .runs import seconds_of

METRICS = {"bbox": ("AP50", "AP"), "classification": ("accuracy",)}  # by task, the main one first
DECIMALS = {"AP50": 1, "AP": 1, "accuracy": 2}
SIGNIFICANT = 0.05
_KEYS = ["model", "budget", "method", "keep_ratio"]
CAPTION = (
    "Metrics in percent, mean ± standard deviation over seeds. budget: what a training on a selection has in common with "
    "that on everything; - random: mean of the differences to random selection of the same seed, ratio and budget [95% "
    f"interval, Student's t over the seeds]; * p below {SIGNIFICANT} after Holm's correction for all differences of the "
    "table; train s, select s: wall-clock seconds of a training and of the run that selects, means; one such run a seed "
    "serves all ratios of AdaPruner and of methods that do not look at the ratio, and each ratio has all of it; select / "
    "full training: select s over the train s of everything; pays after: trainings on the selection after which select s "
    "is won back, as each spares the share of the seconds of one on everything that its images are fewer."
)


def collect(experiment: Experiment, output: Path) -> pd.DataFrame:
    """One row a training: model, method, keep_ratio, budget, seed, images, metrics in percent, seconds.

    `images` are those of all its data sets, pruned or not.
    `train_seconds` is the training's, without a second stage (`finetune_seconds`); `select_seconds`:
    see the function of that name, 0 for everything.
    """
    tests = {model: test_set(experiment, model) for model in experiment.models()}
    frame = pd.DataFrame([_row(experiment, output, cell, tests[cell.model]) for cell in experiment.cells()])
    # The full set has no selection of its own: its size is that of any selection's data, less what no training sees.
    frame["images"] = frame["images"].fillna(frame.groupby("model")["of"].transform("max")).astype("Int64")
    return frame.drop(columns="of")


def _row(experiment: Experiment, output: Path, cell: Cell, test: str) -> dict[str, Any]:
    row: dict[str, Any] = {**cell._asdict(), "images": None, "of": None, "select_seconds": 0.0}
    if cell.method != FULL:
        selection = Selection.load(output / selection_run(cell.method, cell.keep_ratio, cell.seed) / "selection")
        seen = sum(bool(kept) or score is not None for kept, score in zip(selection.kept, selection.scores))
        beside = images_beside(experiment.training_stage(cell.model), tuple(selection.dataset_names()))
        row.update(images=sum(selection.kept) + beside, of=seen + beside)
        row["select_seconds"] = select_seconds(experiment, output, cell.method, cell.keep_ratio, cell.seed)
    training = output / training_run(cell)
    last = output / finetuning_run(cell) if experiment.finetune else training
    row |= {**_metrics(last / "inference" / test / "evaluation.json"), "train_seconds": seconds_of(training)}
    return row | ({"finetune_seconds": seconds_of(last)} if experiment.finetune else {})


def _metrics(path: Path) -> dict[str, float]:
    evaluation = json.loads(path.read_text(encoding="utf-8"))
    for task, names in METRICS.items():
        if task in evaluation:
            return {name: evaluation[task][name] for name in names}
    raise ValueError(f"{path} holds results of {list(evaluation)}, none of {', '.join(METRICS)}")


def select_seconds(experiment: Experiment, output: Path, method: str, ratio: float, seed: int) -> float:
    """Wall-clock seconds of the run that made the scores of a selection; 0 for what is drawn (DRAWN).

    Where selections are cut from one, those of that one, for each of them. A method that looks at a proxy is charged
    as if it were the only one: with the proxy's training as far as it needs it, and with all that it asks of
    the networks, whichever method asked for it first.
    """
    if experiment.base_method(method) in DRAWN:
        return 0.0
    own = output / selection_run(method, experiment.source_ratio(method) or ratio, seed)
    if not experiment.needs_proxy(method):
        return seconds_of(own)
    facts = Selection.load(own / "selection").provenance
    return seconds_of(own) - facts["seconds_here"] + facts["seconds"]


def metrics_of(frame: pd.DataFrame) -> list[str]:
    """The metrics a frame of `collect` holds, the main one first."""
    return [name for names in METRICS.values() for name in names if name in frame]


class Curves(NamedTuple):
    """One metric of one model at one budget, its methods at the ratios each has. S seeds, R ratios.

    Attributes:
        full: (S,) of training on everything; NaN where a seed was not run, as below.
        methods: by name, a frame of S rows with a column for each of R ratios, the highest first.
    """

    model: str
    budget: str
    metric: str
    full: np.ndarray
    methods: dict[str, pd.DataFrame]

    def at(self, method: str, ratios: Sequence[float]) -> np.ndarray:
        """(S, R)."""
        return self.methods[method][list(ratios)].to_numpy()

    def difference(self, method: str, rival: str, ratios: Sequence[float]) -> Estimate:
        """The paired difference to another method over these ratios; NaN where it cannot be said."""
        if any(name not in self.methods or not set(ratios) <= set(self.methods[name]) for name in (method, rival)):
            return Estimate(math.nan)
        cells = columns(self.at(method, ratios) - self.at(rival, ratios))
        return over_cells(cells) if all(map(len, cells)) else Estimate(math.nan)


def curves_of(frame: pd.DataFrame) -> Iterator[Curves]:
    """One a model, budget and metric, in the order of a frame of `collect`."""
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
            yield Curves(model, budget, metric, full, methods)


def as_text(rows: list[dict[str, Any]]) -> pd.DataFrame:
    """A table of rows whose estimates become text; columns that say nothing are left away.

    An estimate is shown as its mean, its interval and, below SIGNIFICANT after Holm's correction for all of the table's,
    a star. Its column begins with the metric.
    """
    cells = [(row, column) for row in rows for column, value in row.items() if isinstance(value, Estimate)]
    for (row, column), p in zip(cells, holm([row[column].p for row, column in cells])):
        found, digits = row[column], DECIMALS[column.partition(" - ")[0]]
        text = "" if math.isnan(found.mean) else f"{found.mean:+.{digits}f}"
        if not math.isnan(found.low):
            text += f" [{found.low:+.{digits}f}, {found.high:+.{digits}f}]{' *' if p < SIGNIFICANT else ''}"
        row[column] = f"{text} {found.rival}" if text and found.rival else text
    return without_empty(pd.DataFrame(rows))


def without_empty(table: pd.DataFrame) -> pd.DataFrame:
    """Without the columns that say nothing."""
    return table.loc[:, [column for column in table if (table[column] != "").any()]]


def summarise(frame: pd.DataFrame) -> pd.DataFrame:
    """Means over seeds, one row a cell, as text; see CAPTION for the columns.

    Args:
        frame: see `collect`.
    """
    curves = {(one.model, one.budget, one.metric): one for one in curves_of(frame)}

    def difference(cell: tuple, metric: str) -> "Estimate | str":
        model, budget, method, ratio = cell
        return "" if method in (RANDOM, FULL) else curves[model, budget, metric].difference(method, RANDOM, [ratio])

    rows = []
    for cell, group in frame.groupby(_KEYS, sort=False):
        model, budget, method, ratio = cell
        full = frame[(frame["model"] == model) & (frame["method"] == FULL)]
        metrics, select = metrics_of(frame), group["select_seconds"].mean()
        compared = method != FULL and not full.empty
        rows.append({
            "model": model,
            "trained on": method if method == FULL else f"{method} {ratio_label(ratio)}",
            "budget": "" if method == FULL else budget,
            "images": "all" if group["images"].isna().any() else f"{group['images'].mean():.0f}",
            **{name: _mean_and_spread(group[name], DECIMALS[name]) for name in metrics},
            **{f"{name} - random": difference(cell, name) for name in metrics},
            "train s": f"{group['train_seconds'].mean():.0f}",
            "select s": f"{select:.0f}",
            "select / full training": f"{select / full['train_seconds'].mean():.2f}" if compared else "",
            "pays after": _break_even(group, full) if compared and budget == EPOCHS else "",
            "finetune s": f"{group['finetune_seconds'].mean():.0f}" if "finetune_seconds" in group else "",
            "seeds": len(group),
        })  # fmt: skip
    return as_text(rows)


def _mean_and_spread(values: pd.Series, decimals: int) -> str:
    spread = f" ± {values.std():.{decimals}f}" if len(values) > 1 else ""
    return f"{values.mean():.{decimals}f}{spread}"


def _break_even(group: pd.DataFrame, full: pd.DataFrame) -> str:
    """After how many trainings of equal epochs on the selection selecting has paid for itself.

    What a training spares is taken from the images: seconds measured on another day or beside other work
    differ by more than a tenth, which is all that a ratio of 0.9 spares.
    """
    spared = full["train_seconds"].mean() * (1 - group["images"].mean() / full["images"].mean())
    cost = group["select_seconds"].mean()
    if cost == 0:
        return "0"
    return "never" if spared <= 0 else str(math.ceil(cost / spared))
