"""The files a comparison leaves of its trainings, and how those of several comparisons become one."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from ..files import write_text
from .controls import NEEDED_CAPTION, RANGES_CAPTION, needed_table, over_ranges
from .differences import save_differences
from .experiment import FULL
from .figure import save_figure
from .table import CAPTION, metrics_of, summarise

_NAMES = dict.fromkeys(("model", "method", "budget"), str)  # which may be 18, None or NA
CELL = ["model", "method", "keep_ratio", "budget", "seed"]  # what a row is known by

# Before pandas 3 the default may change a number's last digit; since then it does not, and the option is deprecated.
_EXACT: dict[str, Any] = {"float_precision": "round_trip"} if int(pd.__version__.partition(".")[0]) < 3 else {}


def write_tables(results: pd.DataFrame, output: Path) -> str:
    """Writes results.csv and table.md; returns the table of means as Markdown.

    Args:
        results: see `table.collect`.
    """
    write_text(output / "results.csv", results.to_csv(index=False, lineterminator="\n"))
    tables = [
        (summarise(results), CAPTION),
        (over_ranges(results), RANGES_CAPTION),
        (needed_table(results), NEEDED_CAPTION),
    ]
    parts = [part for table, explained in tables if len(table) for part in (markdown(table), explained)]
    write_text(output / "table.md", "\n\n".join(parts) + "\n")
    return parts[0]


def draw(results: pd.DataFrame, output: Path) -> None:
    """Writes figure.png and differences.png, which take seconds for many methods at many ratios."""
    save_figure(results, output / "figure.png")
    save_differences(results, output / "differences.png")


def markdown(table: pd.DataFrame) -> str:
    """As it is, without numbers being guessed in its texts."""
    return table.to_markdown(index=False, disable_numparse=True)


def read_results(paths: "Sequence[str | Path]") -> pd.DataFrame:
    """The rows of several results.csv, as of one comparison: trainings on everything first, then by ratio.

    A row that is in two files, such as a training on everything, counts once.

    Raises:
        OSError: a file cannot be read.
        ValueError: a file is no results.csv, the files have different metrics, or the same training has
            another result in another file; names the files.
    """
    frames = [_read(path) for path in paths]
    for path, frame in zip(paths, frames):
        if list(frame) != list(frames[0]):
            raise ValueError(f"{path} has the columns {', '.join(frame)}, {paths[0]} {', '.join(frames[0])}")
    merged = pd.concat([frame.assign(file=str(path)) for path, frame in zip(paths, frames)], ignore_index=True)
    for cell, rows in merged[merged.duplicated(CELL, keep=False)].groupby(CELL, sort=False):
        if len(rows[["images", *metrics_of(merged)]].drop_duplicates()) > 1:  # seconds may differ
            named = ", ".join(f"{name} {value}" for name, value in zip(CELL, cell))
            raise ValueError(
                f"{' and '.join(dict.fromkeys(rows['file']))} have other results for {named}: they are not "
                "of one comparison"
            )
    once = merged.drop(columns="file").drop_duplicates(CELL)
    model = once["model"].map({name: place for place, name in enumerate(once["model"].unique())})
    places = once.assign(model=model, selected=once["method"] != FULL)
    by = {"model": True, "selected": True, "budget": False, "keep_ratio": False}
    order = places.sort_values(list(by), ascending=list(by.values()), kind="stable").index
    return once.loc[order].reset_index(drop=True)


def _read(path: "str | Path") -> pd.DataFrame:
    try:
        frame = pd.read_csv(path, dtype=_NAMES, keep_default_na=False, na_values=[""], **_EXACT)
    except (UnicodeDecodeError, pd.errors.ParserError, pd.errors.EmptyDataError) as error:
        raise ValueError(f"{path} is no results.csv of a comparison: {error}") from error
    missing = [name for name in (*CELL, "images", "train_seconds", "select_seconds") if name not in frame]
    if missing or not metrics_of(frame):
        raise ValueError(f"{path} is no results.csv of a comparison: it has no {' or '.join(missing) or 'metric'}")
    return frame.astype({"images": "Int64"})
