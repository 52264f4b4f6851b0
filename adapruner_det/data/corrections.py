"""A person's choices against a selection's: the file the page of a selection saves, `dataset,id,kept`."""

import csv
import io
from dataclasses import replace
from pathlib import Path

from ..pruning import Selection
from ..pruning.names import first_few, from_cell

CORRECTED_COLUMN = "corrected"  # "keep" or "prune" where a person has chosen, else ""
_COLUMNS = ("dataset", "id", "kept")


def read_corrections(path: "str | Path") -> dict[tuple[str, str], bool]:
    """(data set, id) -> whether a person wants the image kept.

    Raises:
        FileNotFoundError: no such file.
        ValueError: it is no such CSV, or says two things of an image; names the lines.
    """
    try:
        text = Path(path).read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is no file of corrections: {error}") from error
    with io.StringIO(text, newline="") as file:
        reader = csv.DictReader(file)
        missing = [name for name in _COLUMNS if name not in (reader.fieldnames or [])]
        if missing:
            raise ValueError(f"{path} is no file of corrections: its first line is to be {','.join(_COLUMNS)}")
        rows = [(reader.line_num, (row["dataset"], row["id"]), (row["kept"] or "").strip()) for row in reader]
    bad = [f"line {number}: kept is {kept!r}" for number, _, kept in rows if kept not in ("0", "1")]
    chosen = {key: kept for _, key, kept in rows}
    bad += [f"line {number}: {key[1]} is both kept and pruned" for number, key, kept in rows if chosen[key] != kept]
    if bad:
        raise ValueError(f"{path}: kept is 0 or 1, once an image; {first_few(bad)}")
    return {key: kept == "1" for key, kept in chosen.items()}


def correct(selection: Selection, path: "str | Path | None") -> Selection:
    """A selection with a person's choices in place of its own, and the column that says which those are.

    Choices that were made before, in that column, hold on unless the file says otherwise: a cut does not undo them.

    Args:
        path: of the file; None for none.

    Raises:
        FileNotFoundError, ValueError: see `read_corrections`; images that are not in the selection.
    """
    keys = list(zip(selection.datasets, selection.ids))
    words = selection.columns.get(CORRECTED_COLUMN, [""] * len(keys))
    chosen = {key: word == "keep" for key, word in zip(keys, words) if word}
    if path is not None:
        chosen.update(read_corrections(path))
    known = set(keys)
    chosen = {key if key in known else (from_cell(key[0]), from_cell(key[1])): kept for key, kept in chosen.items()}
    unknown = [f"{name} of {dataset}" for dataset, name in sorted(chosen.keys() - known)]
    if unknown:
        raise ValueError(f"{path} names images that are not in the selection: {first_few(unknown)}")
    if not chosen:
        return selection
    kept = [chosen.get(key, bool(own)) for key, own in zip(keys, selection.kept)]
    if not any(kept):
        raise ValueError(f"{path}: with these corrections no image is kept")
    words = [("keep" if chosen[key] else "prune") if key in chosen else "" for key in keys]
    return replace(
        selection,
        kept=kept,
        columns={**selection.columns, CORRECTED_COLUMN: words},
        provenance={**selection.provenance, "corrected": len(chosen)},
    )
