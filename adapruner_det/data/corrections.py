"""A person's choices against a selection's: the file the page of a selection saves, `dataset,id,kept`."""

import csv
import io
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path

from ..pruning import Selection
from ..pruning.names import first_few, from_cell

CORRECTED_COLUMN = "corrected"  # "keep" or "prune" where a person has chosen, else ""
_COLUMNS = ("dataset", "id", "kept")
_NONE = dict.fromkeys(_COLUMNS, "")


def read_corrections(path: "str | Path", known: Collection[tuple[str, str]]) -> dict[tuple[str, str], bool]:
    """(data set, id) -> whether a person wants the image kept.

    Args:
        known: keys of the images there are. Cells are as `as_cell` writes them, or as somebody types an id.

    Raises:
        FileNotFoundError: no such file.
        ValueError: it is no such CSV, or says two things of an image; names the lines.
    """
    try:
        if not Path(path).exists():
            raise FileNotFoundError(
                f"{path}: there is no such file; a browser puts what the page saves into its downloads"
            )
        if not Path(path).is_file():
            raise ValueError("it is no regular file")
        with io.StringIO(Path(path).read_text(encoding="utf-8-sig"), newline="") as file:
            reader = csv.reader(file)
            first = next(reader, [])
            if any(first.count(name) != 1 for name in _COLUMNS):
                raise ValueError(f"its first line is to be {','.join(_COLUMNS)}")
            rows = [(reader.line_num, {**_NONE, **dict(zip(first, row))}) for row in reader if row]
    except (ValueError, csv.Error) as error:
        raise ValueError(f"{path} is no file of corrections: {error}") from error

    def key_of(row: dict[str, str]) -> tuple[str, str]:
        plain = from_cell(row["dataset"]), from_cell(row["id"])
        return plain if plain in known else (row["dataset"], row["id"])

    said = [(number, key_of(row), row["kept"].strip()) for number, row in rows]
    chosen = {key: kept for _, key, kept in said}
    bad = [f"line {number}: kept is {kept!r:.40}" for number, _, kept in said if kept not in ("0", "1")]
    bad += [f"line {number}: {key[1]} is both kept and pruned" for number, key, kept in said if chosen[key] != kept]
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
    keys = selection.keys
    words = selection.columns.get(CORRECTED_COLUMN, [""] * len(keys))
    chosen = {key: word == "keep" for key, word in zip(keys, words) if word}
    known = set(keys)
    if path is not None:
        chosen.update(read_corrections(path, known))
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
