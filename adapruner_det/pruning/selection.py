"""What a pruning method leaves behind: a score and a verdict for every sample, by its id."""

import hashlib
import io
import json
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..files import write_bytes, write_text
from .columns import SparseRows, packed, unpacked
from .names import as_cell, first_few
from .record_check import check_record

if TYPE_CHECKING:
    import pandas as pd

RECORD = "selection.json"
TABLE = "images.csv"
COLUMNS = "selection.npz"  # beside the record of many samples
FORMAT = 1
_FORMAT_IN_TWO = 2  # without "samples", which are in COLUMNS
_LARGEST_ROW = 2**14  # bytes a sample that they take at most
_MANY = 100_000  # samples beyond which a record is in two files


@dataclass(frozen=True)
class Selection:
    """Scores and verdicts of N samples, and where they come from.

    Attributes:
        datasets, ids: N strings each: the data set of each sample, and its id there; never a position.
        scores: N numbers, higher means keep; None for a sample that was no candidate, whose verdict no cut changes.
        kept: N booleans.
        keep_ratio: the ratio asked for, among the candidates.
        method: name of the method that made the scores.
        columns: further columns of N values for people to look at, by name.
        provenance: what is needed to make it again or to see that it fits: seed, config, versions, seconds,
            fingerprints of the data. Plain values.
    """

    datasets: Sequence[str]
    ids: Sequence[str]
    scores: Sequence["float | None"]
    kept: Sequence[bool]
    keep_ratio: float
    method: str
    columns: dict[str, Sequence[Any]] = field(default_factory=dict)
    provenance: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        columns = {"datasets": self.datasets, "ids": self.ids, "scores": self.scores, "kept": self.kept, **self.columns}
        lengths = {name: len(column) for name, column in columns.items()}
        if len(set(lengths.values())) != 1:
            raise ValueError(f"a selection needs one value a sample in every column: {lengths}")
        times = Counter(self.keys)
        if len(times) != len(self.ids):
            twice = [key for key, count in times.most_common(5) if count > 1]
            raise ValueError(f"ids that occur more than once in a data set: {twice}")
        bad = [i for i, score in zip(self.ids, self.scores) if score is not None and math.isnan(score)]
        if bad:
            raise ValueError(f"scores of {bad[:5]} are not numbers")

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def reached_ratio(self) -> float:
        """Share kept of the candidates."""
        verdicts = [k for k, score in zip(self.kept, self.scores) if score is not None]
        return sum(verdicts) / len(verdicts)

    @property
    def keys(self) -> list[tuple[str, str]]:
        """(data set, id) of each sample."""
        return list(zip(self.datasets, self.ids))

    def dataset_names(self) -> list[str]:
        """The data sets covered, in the order of their first sample."""
        return list(dict.fromkeys(self.datasets))

    def column_of(self, dataset: str, name: str) -> dict[str, Any]:
        """Values of column `name` by sample id, for one data set."""
        return {i: v for (d, i), v in zip(self.keys, self.columns[name]) if d == dataset}

    def known_ids(self, dataset: str) -> set[str]:
        return {i for d, i in self.keys if d == dataset}

    def kept_ids(self, dataset: str) -> set[str]:
        return {i for (d, i), k in zip(self.keys, self.kept) if d == dataset and k}

    def cut(self, keep_ratio: float, balance_by: str | None = None) -> "Selection":
        """The same scores cut at another ratio: the highest round(keep_ratio * N), at least one, are kept.

        Samples with equal scores are ordered by a hash of their id, so that neither the order of the data set nor the
        alphabet decides. Each value of the column `balance_by` is held to the ratio (`quotas`).

        Raises:
            ValueError: a ratio outside (0, 1], or too few samples for each value to keep one.
        """
        if not 0 < keep_ratio <= 1:
            raise ValueError(f"keep_ratio is the share that stays, above 0 and at most 1; got {keep_ratio}")
        scores = {i: score for i, score in enumerate(self.scores) if score is not None}
        candidates = sorted(scores, key=lambda i: (-scores[i], _hash(self.datasets[i], self.ids[i])))
        values = ["all"] * len(self) if balance_by is None else self.columns[balance_by]
        groups: dict[Any, list[int]] = {value: [] for value in values}
        for i in candidates:
            groups[values[i]].append(i)
        kept = [k and score is None for k, score in zip(self.kept, self.scores)]
        sizes = list(map(len, groups.values()))
        given = quotas(sizes, max(1, round(keep_ratio * len(candidates))), list(map(str, groups)))
        for own, places in zip(groups.values(), given):
            for i in own[:places]:
                kept[i] = True
        return replace(self, kept=kept, keep_ratio=keep_ratio)

    def table(self) -> "pd.DataFrame":
        """A pandas DataFrame, one row a sample: dataset, id, kept, score and the further columns."""
        import pandas as pd  # here, so that the mask needs nothing but torch

        kept = list(map(int, self.kept))
        columns = {name: list(own) if isinstance(own, SparseRows) else own for name, own in self.columns.items()}
        return pd.DataFrame({"dataset": self.datasets, "id": self.ids, "kept": kept, "score": self.scores, **columns})

    def save(self, folder: "str | Path") -> None:
        """Writes the file of record (selection.json) and a CSV for people (images.csv).

        The columns of more than 100,000 samples are in selection.npz, and box counts in no CSV.
        """
        many = len(self) > _MANY
        kept = list(map(bool, self.kept))
        record = {
            "format": _FORMAT_IN_TWO if many else FORMAT,
            "method": self.method,
            "keep_ratio": self.keep_ratio,
            "reached_ratio": self.reached_ratio,
            "num_samples": len(self),
            "num_kept": sum(kept),
            "provenance": self.provenance,
        }
        samples = {"dataset": self.datasets, "id": self.ids, "score": self.scores, "kept": kept, **self.columns}
        shown = self
        if many:
            content = io.BytesIO()
            np.savez_compressed(content, **packed(samples))  # type: ignore[arg-type]  # no array is its other option
            write_bytes(Path(folder) / COLUMNS, content.getvalue())
            record["columns_sha256"] = hashlib.sha256(content.getbuffer()).hexdigest()
            text = json.dumps(record, indent=1, allow_nan=False) + "\n"
            columns = {name: values for name, values in self.columns.items() if not isinstance(values, SparseRows)}
            shown = replace(self, columns=columns)
        else:
            text = _dump(record, samples)
        write_text(Path(folder) / RECORD, text)
        by_score = shown.table().sort_values(["score", "id"], kind="stable")
        texts = by_score.select_dtypes(exclude=["number", "bool"]).columns
        by_score[texts] = by_score[texts].map(as_cell)
        write_text(Path(folder) / TABLE, by_score.to_csv(index=False, lineterminator="\n"))

    @staticmethod
    def load(folder: "str | Path") -> "Selection":
        """Reads what `save` wrote, or somebody edited.

        Raises:
            FileNotFoundError: there is none.
            ValueError: it is broken or of a newer format, or a value is of another kind than it has to be; names it.
        """
        path = Path(folder) / RECORD
        if not path.is_file():
            raise FileNotFoundError(
                f"no selection at {folder}: {RECORD} is missing; name the `selection` folder that a "
                "pruning run left in its OUTPUT_DIR"
            )
        try:
            record = json.loads(path.read_text(encoding="utf-8"))
            if record["format"] > _FORMAT_IN_TWO:
                raise ValueError(f"its format is {record['format']}, this version reads {_FORMAT_IN_TWO}")
            if record["format"] == _FORMAT_IN_TWO:
                record["samples"] = _columns_beside(path, record["num_samples"], record["columns_sha256"])
            check_record(record)
            samples = dict(record["samples"])
            datasets, ids, scores, kept = (samples.pop(name) for name in ("dataset", "id", "score", "kept"))
            ratio, method, provenance = record["keep_ratio"], record["method"], record["provenance"]
            return Selection(datasets, ids, scores, kept, ratio, method, samples, provenance)
        except KeyError as error:
            raise ValueError(f"{path} is not a selection this version can read: it lacks {error}") from error
        except (ValueError, TypeError, RecursionError) as error:
            raise ValueError(f"{path} is not a selection this version can read: {error}") from error


def _columns_beside(record: Path, number: int, digest: str) -> dict[str, Sequence[Any]]:
    """The samples of a record in two files; ValueError if the other one is missing, broken, or of another record."""
    path = record.with_name(COLUMNS)
    try:
        content = path.read_bytes()
        with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
            if sum(member.file_size for member in arrays.zip.infolist()) > 2**20 + number * _LARGEST_ROW:
                raise ValueError("it unpacks to more than it can hold")
            columns = unpacked(arrays)
    except Exception as error:  # a zip, a header, an array: whatever of it is broken
        raise ValueError(f"its samples are in {COLUMNS}, which is missing or broken ({error})") from error
    if {len(values) for values in columns.values()} != {number} or hashlib.sha256(content).hexdigest() != digest:
        raise ValueError(f"{COLUMNS} is of another selection: it does not hold its {number} samples")
    return columns


def quotas(sizes: Sequence[int], total: int, names: Sequence[str] = ()) -> list[int]:
    """How many of each group to keep, `total` together: in proportion to its size, at least one, none of an empty one.

    Largest remainder (Hamilton's method): each group gets the whole part of its share, and the places left go to the
    largest fractions, the first among equals. A group whose share is below one gets one, and the rest is divided among
    the others. Raises ValueError, with their names, for more groups than samples to keep.
    """
    counts = np.array(sizes)
    given, free = np.zeros_like(counts), counts > 0
    if free.sum() > total:
        raise ValueError(
            f"{free.sum()} groups ({first_few(name or '(no boxes)' for name in names)}) cannot each keep a sample when {total} of {counts.sum()} are to be kept: raise "
            "keep_ratio, join groups, or do without (SCORING.CLASS_BALANCE False; in `adapruner cut`, --across-classes)"
        )
    while (small := free & (counts * (total - given.sum()) < counts[free].sum())).any():
        given[small] = 1
        free &= ~small
    if free.any():
        places = total - given.sum()
        shares, remainders = np.divmod(counts[free] * places, counts[free].sum())
        shares[np.argsort(-remainders, kind="stable")[: places - shares.sum()]] += 1
        given[free] = shares
    return given.tolist()


def ratio_label(keep_ratio: float) -> str:
    """A ratio for names: two decimals, more where they are needed to tell it from others."""
    label = f"{keep_ratio:.2f}"
    return label if float(label) == keep_ratio else f"{keep_ratio:g}"


def _dump(record: dict[str, Any], samples: dict[str, Sequence[Any]]) -> str:
    """JSON with the record's keys one a line and each column of samples on one line."""
    head = json.dumps(record, indent=1, allow_nan=False).removesuffix("\n}")
    columns = (f"  {json.dumps(k)}: {json.dumps(list(v), allow_nan=False)}" for k, v in samples.items())
    return head + ',\n "samples": {\n' + ",\n".join(columns) + "\n }\n}\n"


def _hash(dataset: str, sample_id: str) -> str:
    return hashlib.sha256(f"{dataset}/{sample_id}".encode()).hexdigest()
