"""What a comparison found: a row a training, and a table of means."""
import json
from pathlib import Path
from typing import List

import pandas as pd

from ..pruning import Selection
from ..pruning.selection import ratio_label
from .plan import ADAPRUNER, FULL, Comparison, selection_run, test_set, training_run
from .runs import seconds_of

METRICS = ("AP50", "AP")


def collect(comparison: Comparison, output: Path) -> pd.DataFrame:
    """One row a training: detector, method, keep_ratio, seed, images, AP50, AP, seconds, ...

    `select_seconds` is what making the selection took, 0 for everything and for random.
    """
    rows: List[dict] = []
    for detector in comparison.train_configs:
        test = test_set(comparison, detector)
        for method, ratio in comparison.cells():
            for seed in comparison.seeds:
                folder = output / training_run(detector, method, ratio, seed)
                evaluation = folder / "inference" / test / "evaluation.json"
                metrics = json.loads(evaluation.read_text())["bbox"]
                rows.append(
                    {
                        "detector": detector,
                        "method": method,
                        "keep_ratio": ratio,
                        "seed": seed,
                        **_selection_facts(method, ratio, seed, output),
                        **{name: metrics[name] for name in METRICS},
                        "seconds": seconds_of(folder),
                    }
                )
    frame = pd.DataFrame(rows)
    # The full set has no selection of its own: its size is that of any selection's data.
    frame["images"] = frame["images"].fillna(frame["of"].max()).astype("Int64")
    return frame.drop(columns="of")


def _selection_facts(method: str, ratio: float, seed: int, output: Path) -> dict:
    if method == FULL:
        return {"images": None, "of": None, "select_seconds": 0.0}
    selection = Selection.load(output / selection_run(method, ratio, seed) / "selection")
    seconds = selection.provenance["seconds"] if method == ADAPRUNER else 0.0
    return {"images": sum(selection.kept), "of": len(selection), "select_seconds": seconds}


def summarise(frame: pd.DataFrame) -> pd.DataFrame:
    """Mean over seeds, with the standard deviation where there are several, one row a cell."""
    rows = []
    for (detector, method, ratio), group in frame.groupby(
        ["detector", "method", "keep_ratio"], sort=False
    ):
        rows.append(
            {
                "detector": detector,
                "trained on": method if method == FULL else f"{method} {ratio_label(ratio)}",
                "images": "all" if group["images"].isna().any() else f"{group['images'].mean():.0f}",
                **{name: _mean_and_spread(group[name]) for name in METRICS},
                "train s": f"{group['seconds'].mean():.0f}",
                "select s": f"{group['select_seconds'].mean():.0f}",
                "seeds": len(group),
            }
        )
    return pd.DataFrame(rows)


def _mean_and_spread(values: pd.Series) -> str:
    spread = f" ± {values.std():.1f}" if len(values) > 1 else ""
    return f"{values.mean():.1f}{spread}"
