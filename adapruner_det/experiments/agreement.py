"""What the selections of a comparison have in common, whatever is trained on them."""

from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ..pruning import Selection
from ..pruning.selection import ratio_label
from ..pruning.statistics import Statistics
from ..report.injected import OTHERS, InjectedErrors, injected_table
from .experiment import ADAPRUNER, DRAWN, Experiment, selection_run
from .table import select_seconds, without_empty

CAPTION = (
    "Means over seeds. as NAME: share of the images it keeps that NAME keeps with the same seed; rank as NAME: "
    "Spearman's correlation of their scores; between seeds: share that another seed keeps (by chance both shares would be "
    "the ratio); longest gap: most images in a row, in the order of the data set, of which none stays; kept of ...: share "
    "that stays of the boxes of the class with the fewest, of the fifth of the boxes with the smallest area, and of the "
    "images without boxes."
)
INJECTED_CAPTION = "Injected defects: how many times as often as other images they are pruned, seed by seed."
_KIND = "wrong labels: "  # what the columns of single kinds begin with
_KEPT_OF, _SMALL = "kept of ", 0.2
_COUNTS = ("images", "longest gap", "select s")


def compare_selections(
    experiment: Experiment, output: Path, injected: InjectedErrors | None = None, known: Statistics | None = None
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """All selections in numbers, a row each ratio, method and seed, and their means as text; see CAPTION for the columns.

    The runs have to be finished.

    Args:
        injected: the defects in the images, for how often they were pruned.
        known: the labels of the images, for what is kept of rare classes, small boxes and images without boxes.

    Raises:
        InjectedMismatchError: the injected defects are those of other images.
    """
    frame = pd.DataFrame(list(_rows(experiment, output, injected, known)))
    rows = []
    for (ratio, method), group in frame.groupby(["keep_ratio", "method"], sort=False):
        shown = [name for name in group if name not in ("keep_ratio", "method", "seed") and not name.startswith(_KIND)]
        cells = {name: _cell(name, group[name]) for name in shown}
        rows.append({"selected by": f"{method} {ratio_label(ratio)}", **cells, "seeds": len(group)})
    return frame, without_empty(pd.DataFrame(rows))


def _rows(
    experiment: Experiment, output: Path, injected: InjectedErrors | None, known: Statistics | None
) -> Iterator[dict[str, Any]]:
    methods = experiment.selecting_methods()
    bases = [experiment.base_method(method) for method in methods]
    # AdaPruner, else the first that is no draw: random tells nothing
    preferred = [*(b == ADAPRUNER for b in bases), *(b not in DRAWN for b in bases), True]
    reference = methods[preferred.index(True) % len(methods)]
    for ratio in dict.fromkeys(ratio for seed in experiment.all_seeds() for ratio in experiment.ratios_of(seed)):
        seeds = [seed for seed in experiment.all_seeds() if ratio in experiment.ratios_of(seed)]

        def load(method: str) -> list[Selection]:
            return [Selection.load(output / selection_run(method, ratio, seed) / "selection") for seed in seeds]  # noqa: B023

        rivals = load(reference)
        for method in methods:
            own = load(method)
            for seed, selection, rival in zip(seeds, own, rivals):
                alone = method == reference
                yield {
                    "method": method,
                    "keep_ratio": ratio,
                    "seed": seed,
                    "images": sum(selection.kept),
                    f"as {reference}": np.nan if alone else in_common(selection, rival),
                    f"rank as {reference}": np.nan if alone else rank_correlation(selection, rival),
                    "between seeds": _mean([in_common(selection, other) for other in own if other is not selection]),
                    "longest gap": longest_gap(selection.kept),
                    **({} if known is None else kept_of(selection, known)),
                    **({} if injected is None else _times_pruned(selection, injected)),
                    "select s": select_seconds(experiment, output, method, ratio, seed),
                }


def _cell(name: str, values: pd.Series) -> str:
    """Injected defects seed by seed, of all else the mean."""
    if name.startswith(("as ", "between ", _KEPT_OF)):
        return "" if values.isna().all() else f"{100 * values.mean():.0f}%"
    if name.startswith("rank "):
        return "" if values.isna().all() else f"{values.mean():.2f}"
    return f"{values.mean():.0f}" if name in _COUNTS else ", ".join(f"{value:.1f}" for value in values)


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values)) if len(values) else np.nan


def _times_pruned(selection: Selection, injected: InjectedErrors) -> dict[str, float]:
    table = injected_table(selection, injected).set_index("injected")["ratio"]
    return {name: ratio for name, ratio in table.items() if name != OTHERS}


def kept_of(selection: Selection, known: Statistics) -> dict[str, float]:
    """The share that stays of the boxes of the rarest class, of the smallest boxes and of images without boxes."""
    stays = dict(zip(selection.keys, selection.kept))
    kept = np.array([stays[image] for image in zip(known.datasets, known.ids)])
    counts, labels = known.counts, known.labels
    totals = np.bincount(counts.indices, counts.data, counts.shape[1])
    assert labels.crowds is not None  # Statistics sees to it
    amounts: dict[str, Any] = {"rarest class": counts[:, np.where(totals, totals, np.inf).argmin()].toarray()[:, 0]}
    if not known.classifies:
        areas = (labels.boxes[:, 2:] - labels.boxes[:, :2]).prod(axis=1)
        single = ~labels.crowds
        limit = np.quantile(areas[single], _SMALL, method="lower") if single.any() else 0.0
        small = np.flatnonzero(single & (areas <= limit))
        amounts["small boxes"] = np.bincount(labels.images[small], minlength=len(known))
        amounts["no boxes"] = np.diff(counts.indptr) == 0
    return {f"{_KEPT_OF}{name}": np.average(kept, weights=n) for name, n in amounts.items() if np.any(n)}


def in_common(selection: Selection, other: Selection) -> float:
    """Share of the images that `selection` keeps that `other` keeps too; those that did not compete do not count."""
    kept, others = (
        {key for key, stays, score in zip(one.keys, one.kept, one.scores) if stays and score is not None}
        for one in (selection, other)
    )
    return len(kept & others) / len(kept)


def longest_gap(kept: Sequence[bool]) -> int:
    """The most neighbours of which none is kept: what a selection leaves out of a video."""
    return max((len(list(run)) for verdict, run in groupby(kept) if not verdict), default=0)


def rank_correlation(selection: Selection, other: Selection) -> float:
    """Spearman's, of the scores of the images that both have scored; NaN if all of one are equal."""
    from scipy.stats import spearmanr  # here: it takes a second to import

    scores = [
        pd.Series(one.scores, index=pd.MultiIndex.from_arrays([one.datasets, one.ids])) for one in (selection, other)
    ]
    both = pd.concat(scores, axis=1).astype(float).dropna()
    return float(spearmanr(both[0], both[1]).statistic) if (both.nunique() > 1).all() else np.nan
