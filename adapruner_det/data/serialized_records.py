"""Dataset dicts as bytes: a million boxes as Python objects take gigabytes, and processes that are forked copy them."""

import pickle
from collections.abc import Iterable, Sequence
from typing import IO, Any, TypeVar, overload

import numpy as np

Record = dict[str, Any]  # one of Detectron2's dataset dicts
Records = TypeVar("Records", bound=Sequence[Record])


class SerializedRecords(Sequence[Record]):
    """N dataset dicts, pickled one behind the other; each is made anew when it is asked for, so that changing it is in vain.

    Detectron2's `DatasetFromList` holds them so too, but needs them as a list first.
    """

    def __init__(self, records: Iterable[Record]):
        """
        Args:
            records: read one at a time.
        """
        content, ends = bytearray(), [0]
        for record in records:
            content += pickle.dumps(record, pickle.HIGHEST_PROTOCOL)
            ends.append(len(content))
        self._content = memoryview(content).toreadonly()
        self._starts, self._ends = np.array(ends[:-1]), np.array(ends[1:])
        self._common: Record = {}

    def __len__(self) -> int:
        return len(self._starts)

    @overload
    def __getitem__(self, place: int) -> Record: ...
    @overload
    def __getitem__(self, place: slice) -> "SerializedRecords": ...
    def __getitem__(self, place: "int | slice") -> "Record | SerializedRecords":
        if isinstance(place, slice):
            return self._at(place)
        record: Record = pickle.loads(self._content[self._starts[place] : self._ends[place]])
        return {**record, **self._common}

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and len(self) == len(other) and all(map(dict.__eq__, self, other))

    def with_common(self, **fields: Any) -> "SerializedRecords":
        """These with the same value of some fields in each of them."""
        made = self._at(slice(None))
        made._common = {**self._common, **fields}
        return made

    def where(self, chosen: Sequence[bool]) -> "SerializedRecords":
        """Those for which one of N booleans is true."""
        return self._at(np.array(chosen, bool))

    def _at(self, places: Any) -> "SerializedRecords":
        made = object.__new__(SerializedRecords)
        made._content, made._common = self._content, self._common
        made._starts, made._ends = self._starts[places], self._ends[places]
        return made

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_content": bytes(self._content)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state, _content=memoryview(state["_content"]))

    def save(self, file: IO[bytes]) -> "SerializedRecords":
        """Writes what they are made of into a file, and returns these without it, for `reading`."""
        np.save(file, np.frombuffer(self._content, np.uint8))
        return self._of(b"")

    def reading(self, path: str) -> "SerializedRecords":
        """These, made of what was saved to a file, which all processes of a machine hold once."""
        return self._of(np.load(path, mmap_mode="r").data)

    def _of(self, content: "bytes | memoryview") -> "SerializedRecords":
        made = self._at(slice(None))
        made._content = memoryview(content)
        return made


def chosen_records(records: Records, chosen: Sequence[bool]) -> Records:
    """The records for which one of N booleans is true, serialised if these are."""
    if isinstance(records, SerializedRecords):
        return records.where(chosen)  # type: ignore[return-value]  # mypy does not see that it is of that type
    return [record for record, own in zip(records, chosen) if own]  # type: ignore[return-value]
