"""The files an evaluation leaves."""

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from ..files import write_text


def write_results(folder: "str | Path", name: str, table: pd.DataFrame, summary: Mapping[str, object]) -> None:
    """Writes evaluation.json and a CSV of the classes into `folder`, which is made if need be.

    Args:
        name: of the CSV.
        table: its content, a row a class.
        summary: content of evaluation.json: facts, and the metrics as a mapping each; NaN becomes null.
    """
    write_text(Path(folder) / name, table.to_csv(index=False, na_rep="nan", lineterminator="\n"))
    known = {key: _nan_to_none(value) if isinstance(value, Mapping) else value for key, value in summary.items()}
    write_text(Path(folder) / "evaluation.json", json.dumps(known, indent=2) + "\n")


def _nan_to_none(metrics: Mapping[str, float]) -> dict[str, float | None]:
    return {key: None if np.isnan(value) else value for key, value in metrics.items()}
