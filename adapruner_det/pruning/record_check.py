"""Whether every value of a selection's record is of the kind it has to be: people edit it, or have it from elsewhere."""

import json
from typing import Any

from .columns import MOST, SparseRows
from .names import check_names, check_texts, is_unprintable

_NEVER_MISSING = "dataset", "id", "kept"
_KINDS = {bool: "true or false", str: "text", float: "a number", list: "a list", dict: "an object"}


def check_record(record: dict[str, Any]) -> None:
    """Raises ValueError, with the field and the row, or KeyError for a field that is missing."""
    for name, kind in {"samples": dict, "keep_ratio": float, "method": str, "provenance": dict}.items():
        _check(name, record[name], kind)
    if not 0 < record["keep_ratio"] <= 1:
        raise ValueError(f"keep_ratio is {record['keep_ratio']}, no share above 0 and at most 1")
    check_names("method", [record["method"]])
    samples = record["samples"]
    ids = samples["id"]
    check_texts("samples: the column", samples)
    _check("samples: id", ids, list)
    for name, column in samples.items():
        if not isinstance(column, SparseRows):
            _check(f"samples: {name}", column, list)
            _check_column(name, column, ids)
    check_names("data set", dict.fromkeys(samples["dataset"]))
    if not any(score is not None for score in samples["score"]):
        raise ValueError("no image has a score")
    _check_provenance(record["provenance"])


def _check_column(name: str, column: list[Any], ids: list[Any]) -> None:
    """Texts without line breaks; numbers; true or false; or lists of so many whole numbers each."""
    fixed = {"dataset": str, "id": str, "kept": bool, "score": float}
    known = [value for value in column if value is not None]
    kind = fixed.get(name) or (_kind(known[0]) if known else str)
    length = len(known[0]) if kind is list else 0
    if _is_sound(known, kind) and (len(known) == len(column) or name not in _NEVER_MISSING):
        return
    for row, value in enumerate(column):
        if value is None and name not in _NEVER_MISSING:
            continue
        where = f"samples: {name}, row {row + 1} ({ids[row] if row < len(ids) else 'no id'!r:.80})"
        _check(where, value, kind)
        if kind is str:
            check_texts(where, [value])
        elif kind is list and (len(value) != length or any(type(v) is not int or not 0 <= v <= MOST for v in value)):
            raise ValueError(
                f"{where} is {value!r:.80}, not a list of {length} whole numbers of at least 0, at most {MOST}"
            )


def _is_sound(known: list[Any], kind: type) -> bool:
    """Whether nothing is wrong with numbers or texts, found without a look at each; else their rows have to be named."""
    kinds = set(map(type, known))
    if kind is float:
        return kinds <= {int, float} and all(map(_is_finite, known))
    if kind is str and kinds <= {str}:
        return not any(map(is_unprintable, dict.fromkeys(known)))
    return kind is bool and kinds <= {bool}


def _is_finite(value: float) -> bool:
    return abs(value) < 1e300  # a whole number of JSON may be too large for a float


def _check_provenance(provenance: dict[str, Any]) -> None:
    """What is read again of it; the rest only has to be fit to be written again."""
    json.dumps(provenance, allow_nan=False)
    for name, kind in {"class_names": list, "sources": dict, "objective": dict, "reasons": dict}.items():
        _check(f"provenance: {name}", provenance.get(name, kind()), kind)
    check_texts("provenance: class_names", provenance.get("class_names", []))
    for name, source in provenance.get("sources", {}).items():
        _check(f"provenance: sources, {name}", source, dict)
        check_texts(f"provenance: sources, {name}", [source["format"], *source, *source.values()])
    for field in ("objective", "reasons"):
        for name, value in provenance.get(field, {}).items():
            _check(f"provenance: {field}, {name}", value, float)
    if provenance.get("reasons") and "with_reason" not in provenance["reasons"]:
        raise ValueError("provenance: reasons has no with_reason")


def _kind(value: Any) -> type:
    return float if type(value) is int else type(value)


def _check(where: str, value: Any, kind: type) -> None:
    if _kind(value) is not kind or (kind is float and not _is_finite(value)):
        raise ValueError(f"{where} is {value!r:.80}, not {_KINDS[kind]}")
