"""What evaluators have in common: the predictions of all processes, and the files they leave."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from detectron2.utils import comm

from ..files import write_text


def gather_predictions(own: Sequence[tuple[str, Any]]) -> dict[str, Any] | None:
    """The predictions of all processes by image id, on the first one; None on the others, which have to call it too.

    Raises:
        ValueError: an image was predicted twice.
    """
    gathered = comm.gather(own, dst=0)
    if not comm.is_main_process():
        return None
    times = Counter(image_id for of_rank in gathered for image_id, _ in of_rank)
    if max(times.values(), default=0) > 1:
        raise ValueError(
            f"image {times.most_common(1)[0][0]!r} was predicted twice: call reset() between two evaluations, "
            "and give each image to one process only"
        )
    return dict(chain.from_iterable(gathered))


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
