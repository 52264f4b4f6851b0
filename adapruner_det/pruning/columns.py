"""Columns of a selection as arrays: box counts that are zero nearly everywhere, and all of a large record in one file.

N rows, K classes.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, overload

import numpy as np

MOST = 2**31 - 1  # objects of a class in an image


class SparseRows(Sequence[list[int]]):
    """N lists of K whole numbers of which few are not 0; each list is made when it is asked for.

    Attributes:
        values, columns: what is not 0, row after row, and where in its row it stands.
        ends: (N,) where each row ends in them.
        width: K.
    """

    def __init__(self, values: np.ndarray, columns: np.ndarray, ends: np.ndarray, width: int):
        """Raises ValueError for arrays that do not make N rows."""
        self.values, self.columns, self.ends, self.width = values, columns, ends, width
        if any(own.dtype.kind not in "iu" or own.ndim != 1 for own in (values, columns, ends)):
            raise ValueError("sparse rows are made of whole numbers")
        fits = len(values) == len(columns) == (ends[-1] if len(ends) else 0) and (np.diff(ends, prepend=0) >= 0).all()
        if not fits or (len(columns) and not 0 <= columns.min() <= columns.max() < width):
            raise ValueError(f"sparse rows of {width} columns do not fit together")
        if len(values) and not 0 <= values.min() <= values.max() <= MOST:
            raise ValueError(f"sparse rows hold whole numbers of at least 0, at most {MOST}")

    @staticmethod
    def of_places(rows: np.ndarray, columns: np.ndarray, number: int, width: int) -> "SparseRows":
        """How often each column is named in each of `number` rows, by (M,) rows and columns."""
        places, times = np.unique(rows * width + columns, return_counts=True)
        ends = np.cumsum(np.bincount(places // width, minlength=number))
        return SparseRows(times, places % width, ends, width)

    @staticmethod
    def of_table(table: np.ndarray) -> "SparseRows":
        """Those of an array (N, K)."""
        rows, columns = np.nonzero(table)
        ends = np.cumsum(np.bincount(rows, minlength=len(table)))
        return SparseRows(table[rows, columns].astype(np.int64), columns, ends, table.shape[1])

    @property
    def rows(self) -> np.ndarray:
        """The row of each of the values."""
        return np.repeat(np.arange(len(self)), np.diff(self.ends, prepend=0))

    def __len__(self) -> int:
        return len(self.ends)

    @overload
    def __getitem__(self, place: int) -> list[int]: ...
    @overload
    def __getitem__(self, place: slice) -> list[list[int]]: ...
    def __getitem__(self, place: "int | slice") -> "list[int] | list[list[int]]":
        if isinstance(place, slice):
            return [self[i] for i in range(*place.indices(len(self)))]
        row = range(len(self))[place]
        own = slice(self.ends[row - 1] if row else 0, self.ends[row])
        made = [0] * self.width
        for column, value in zip(self.columns[own].tolist(), self.values[own].tolist()):
            made[column] = value
        return made

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and list(self) == list(other)


def packed(columns: Mapping[str, Sequence[Any]]) -> dict[str, np.ndarray]:
    """Columns of N values each as arrays, for `unpacked`.

    True or false, whole numbers, numbers and `SparseRows` are such; texts are UTF-8 one behind the other, and so is the
    JSON of what is none of these. None is where `missing` says so.
    """
    arrays = {"names": np.array(list(columns), np.str_)}
    for place, values in enumerate(columns.values()):
        if isinstance(values, SparseRows):
            width = np.array(values.width)
            own = {"values": values.values, "columns": values.columns, "ends": values.ends, "width": width}
        else:
            own = _packed_column(values)
        arrays.update({f"{place}.{part}": array for part, array in own.items()})
    return arrays


def _packed_column(values: Sequence[Any]) -> dict[str, np.ndarray]:
    missing = np.array([value is None for value in values], bool)
    kinds = {type(value) for value in values} - {type(None)}
    own = {"missing": missing} if missing.any() else {}
    for name, allowed, kind in (
        ("bools", {bool}, bool),
        ("integers", {int}, np.int64),
        ("numbers", {int, float}, float),
    ):
        if kinds <= allowed:
            return {name: np.array([0 if value is None else value for value in values], kind), **own}
    if kinds == {str}:
        return {**_joined("" if value is None else value for value in values), **own}
    return {"json": np.array(True), **_joined(map(json.dumps, values))}


def _joined(texts: Iterable[str]) -> dict[str, np.ndarray]:
    encoded = [text.encode("utf-8", "surrogatepass") for text in texts]
    return {"text": np.frombuffer(b"".join(encoded), np.uint8), "ends": np.cumsum([0, *map(len, encoded)])[1:]}


def unpacked(arrays: Mapping[str, np.ndarray]) -> dict[str, Sequence[Any]]:
    """The columns that `packed` was given. KeyError or ValueError for arrays of another make."""
    names = arrays["names"].tolist()
    parts: dict[str, dict[str, np.ndarray]] = {str(place): {} for place in range(len(names))}
    for key in arrays:
        place, _, part = key.partition(".")
        if place in parts:
            parts[place][part] = arrays[key]
    return {name: _unpacked_column(own) for name, own in zip(names, parts.values())}


def _unpacked_column(own: Mapping[str, np.ndarray]) -> Sequence[Any]:
    if "width" in own:
        return SparseRows(own["values"], own["columns"], own["ends"], int(own["width"]))
    if "text" in own:
        content, ends = own["text"].tobytes(), [0, *own["ends"].tolist()]
        values: list[Any] = [content[a:b].decode("utf-8", "surrogatepass") for a, b in zip(ends, ends[1:])]
        values = list(map(json.loads, values)) if "json" in own else values
    else:
        (numbers,) = (own[name] for name in ("bools", "integers", "numbers") if name in own)
        values = numbers.tolist()
    for place in np.flatnonzero(own.get("missing", ())).tolist():
        values[place] = None
    return values
