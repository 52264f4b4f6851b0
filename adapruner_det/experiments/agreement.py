"""What the selections of a comparison have in common, whatever is trained on them."""

from collections.abc import Sequence
from itertools import combinations, groupby
from pathlib import Path

import numpy as np
import pandas as pd

from ..pruning import Selection
from ..pruning.selection import ratio_label
from ..report.injected import OTHERS, InjectedErrors, injected_table
from .experiment import RANDOM, Experiment, selection_run
from .table import select_seconds, without_empty

CAPTION = (
    "Means over seeds. as NAME: share of the images it keeps that NAME keeps with the same seed; between "
    "seeds: share that another seed keeps (by chance both would be the ratio); longest gap: most images in a "
    "row, in the order of the data set, of which none stays."
)
INJECTED_CAPTION = "Injected defects: how many times as often as other images they are pruned, seed by seed."
_KIND = "wrong labels: "  # what the rows of single kinds begin with


def compare_selections(experiment: Experiment, output: Path, injected: InjectedErrors | None = None) -> pd.DataFrame:
    """A row each ratio and method, as text; see CAPTION for the columns. The runs have to be finished.

    Args:
        injected: the defects in the images, for how often they were pruned.

    Raises:
        InjectedMismatchError: the injected defects are those of other images.
    """
    methods = experiment.selecting_methods()
    # random tells nothing
    reference = next((m for m in methods if experiment.base_method(m) != RANDOM), methods[0])
    rows = []
    for ratio in dict.fromkeys(ratio for seed in experiment.all_seeds() for ratio in experiment.ratios_of(seed)):
        seeds = [seed for seed in experiment.all_seeds() if ratio in experiment.ratios_of(seed)]
        folders = {method: [output / selection_run(method, ratio, seed) for seed in seeds] for method in methods}
        found = {method: [Selection.load(f / "selection") for f in own] for method, own in folders.items()}
        for method, own in found.items():
            rivals = zip(own, found[reference]) if method != reference else ()
            cost = np.mean([select_seconds(experiment, output, method, ratio, seed) for seed in seeds])
            rows.append({
                "selected by": f"{method} {ratio_label(ratio)}",
                "images": f"{np.mean([sum(selection.kept) for selection in own]):.0f}",
                f"as {reference}": _shown([in_common(*pair) for pair in rivals]),
                "between seeds": _shown([in_common(*pair) for pair in combinations(own, 2)]),
                "longest gap": f"{np.mean([longest_gap(selection.kept) for selection in own]):.0f}",
                **(_times_pruned(own, injected) if injected is not None else {}),
                "select s": f"{cost:.0f}",
                "seeds": len(seeds),
            })  # fmt: skip
    return without_empty(pd.DataFrame(rows))


def _times_pruned(selections: Sequence[Selection], injected: InjectedErrors) -> dict[str, str]:
    tables = [injected_table(selection, injected).set_index("injected")["ratio"] for selection in selections]
    names = [name for name in tables[0].index if name != OTHERS and not name.startswith(_KIND)]
    return {name: ", ".join(f"{table[name]:.1f}" for table in tables) for name in names}


def in_common(selection: Selection, other: Selection) -> float:
    """Share of the images that `selection` keeps that `other` keeps too."""
    kept, others = (
        {(dataset, sample) for dataset, sample, stays in zip(one.datasets, one.ids, one.kept) if stays}
        for one in (selection, other)
    )
    return len(kept & others) / len(kept)


def longest_gap(kept: Sequence[bool]) -> int:
    """The most neighbours of which none is kept: what a selection leaves out of a video."""
    return max((len(list(run)) for verdict, run in groupby(kept) if not verdict), default=0)


def _shown(shares: Sequence[float]) -> str:
    return f"{100 * np.mean(shares):.0f}%" if len(shares) else ""
