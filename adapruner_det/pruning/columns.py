"""Columns of a selection as arrays: box counts that are zero nearly everywhere, and all of a large record in one file.

N rows, K classes.
"""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, overload

import numpy as np
from scipy import sparse

MOST = 2**31 - 1  # objects of a class in an image
_AT_A_TIME = 4096  # rows that are made together


class SparseRows(Sequence[list[int]]):
    """The rows of a sparse `matrix` (N, K) of whole numbers as lists; each is made when it is asked for."""

    def __init__(self, matrix: sparse.csr_matrix):
        self.matrix = matrix

    @staticmethod
    def of_arrays(values: np.ndarray, columns: np.ndarray, ends: np.ndarray, width: int) -> "SparseRows":
        """Of what is not 0, row after row, its columns, and where each of N rows ends in both.

        Raises ValueError for arrays that do not make N rows of counts.
        """
        if any(own.dtype.kind not in "iu" for own in (values, columns, ends)):
            raise ValueError("sparse rows are made of whole numbers")
        matrix = sparse.csr_matrix((values, columns, np.append(0, ends)), (len(ends), width))
        matrix.check_format()
        if len(values) and not 0 <= values.min() <= values.max() <= MOST:
            raise ValueError(f"sparse rows hold whole numbers of at least 0, at most {MOST}")
        return SparseRows(matrix)

    def __len__(self) -> int:
        return int(self.matrix.shape[0])

    @overload
    def __getitem__(self, place: int) -> list[int]: ...
    @overload
    def __getitem__(self, place: slice) -> list[list[int]]: ...

    def __getitem__(self, place: "int | slice") -> "list[int] | list[list[int]]":
        rows: list[list[int]] = self.matrix[place].toarray().tolist()
        return rows if isinstance(place, slice) else rows[0]

    def __iter__(self) -> Iterator[list[int]]:
        for start in range(0, len(self), _AT_A_TIME):
            yield from self[start : start + _AT_A_TIME]

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
            m = values.matrix
            own = {"values": m.data, "columns": m.indices, "ends": m.indptr[1:], "width": np.array(m.shape[1])}
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
        return SparseRows.of_arrays(own["values"], own["columns"], own["ends"], int(own["width"]))
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
