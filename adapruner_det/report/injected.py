"""What a selection does with what make_demo_set.py or inject_label_errors.py injected in its images."""

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ..data.selection_record import CLASSES_COLUMN
from ..pruning import Selection

OTHERS = "all others"
KINDS = ("class", "box", "missing")
NOTES = """\
ratio: share pruned, divided by that of all others. AUC: the probability that such an image has a lower score
than one of all others, equal scores counting half. "same classes": the same against those of all others that
have a class the image is labelled with, mean over its classes and then over the images."""


class InjectedMismatchError(ValueError):
    """The defects and a selection are not of the same images."""


@dataclass(frozen=True)
class InjectedErrors:
    """The content of an injected.json.

    Attributes:
        near_duplicate_of: id of a near-duplicate -> id of its original.
        wrong_label: id of an image -> kind of what is wrong with its labels, of KINDS.
        without_boxes: ids of images without boxes that were added.
    """

    near_duplicate_of: dict[str, str]
    wrong_label: dict[str, str]
    without_boxes: set[str] = field(default_factory=set)

    @staticmethod
    def load(path: "str | Path") -> "InjectedErrors":
        """Raises FileNotFoundError if there is no such file, ValueError if it is no injected.json."""
        path = Path(path)
        if not path.is_file():
            raise FileNotFoundError(f"{path} does not exist; inject_label_errors.py and make_demo_set.py write one")
        try:
            record = json.loads(path.read_text(encoding="utf-8"))
            pairs = dict(record["near_duplicate_of"])
            wrong = {image_id: fault["kind"] for image_id, fault in record["wrong_label"].items()}
            without_boxes = set(record.get("without_boxes", ()))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ValueError(
                f"{path} is no injected.json of inject_label_errors.py or make_demo_set.py: {error!r}"
            ) from error
        unknown = sorted(set(wrong.values()) - set(KINDS))
        if unknown:
            raise ValueError(f"{path}: wrong labels of kind {unknown[0]!r}; known are {', '.join(KINDS)}")
        return InjectedErrors(pairs, wrong, without_boxes)

    def groups(self) -> dict[str, set[str]]:
        """Image ids by what is injected; wrong labels all together, and by kind. Empty groups are left out."""
        # Either of a pair may go: what pruning can save is one of the two.
        pairs = {*self.near_duplicate_of, *self.near_duplicate_of.values()}
        groups = {"near-duplicates and their originals": pairs, "wrong labels": set(self.wrong_label)}
        for kind in KINDS:
            groups[f"wrong labels: {kind}"] = {i for i, k in self.wrong_label.items() if k == kind}
        groups["without boxes"] = self.without_boxes
        return {name: ids for name, ids in groups.items() if ids}

    def ids(self) -> set[str]:
        """All images that something is injected in, and the originals of copies."""
        return set().union(*self.groups().values())

    def check_among(self, ids: Iterable[str], where: str) -> None:
        """Raises InjectedMismatchError, naming an image, unless all of them are among `ids`."""
        absent = sorted(self.ids() - set(ids))
        if absent:
            raise InjectedMismatchError(
                f"{len(absent)} injected images are not in {where}, such as {absent[0]}: the injected.json is of other data"
            )


def competing_images(selection: Selection, injected: InjectedErrors, dataset: str | None = None) -> pd.DataFrame:
    """The images that have a score, by id: `score`, `pruned`, `classes` (numbers, -1 for no box).

    Args:
        dataset: name of the one with the defects; may be left away if the selection covers no other.

    Raises:
        InjectedMismatchError: it is not clear which data set, or the selection lacks injected images.
    """
    names = selection.dataset_names()
    if dataset is None and len(names) > 1:
        raise InjectedMismatchError(
            f"the selection covers {', '.join(names)}: name the one with the defects, --dataset"
        )
    if dataset is not None and dataset not in names:
        raise InjectedMismatchError(f"the selection does not cover {dataset!r}, but {', '.join(names)}")
    table = selection.table()
    table = table[table["dataset"] == (dataset or names[0])].set_index("id")
    injected.check_among(table.index, "the selection")
    if CLASSES_COLUMN not in table:
        raise InjectedMismatchError(f"the selection has no column {CLASSES_COLUMN}: it is none of a detection data set")
    table = table[table["score"].notna()]
    classes: list[list[Any]] = [list(np.flatnonzero(counts)) or [-1] for counts in table[CLASSES_COLUMN]]
    return pd.DataFrame({"score": table["score"].astype(float), "pruned": table["kept"] == 0, "classes": classes})


def injected_table(selection: Selection, injected: InjectedErrors, dataset: str | None = None) -> pd.DataFrame:
    """A row for each kind of defect and for all other images; see NOTES for the columns.

    Images that did not compete count nowhere. NaN stands for what cannot be said.
    """
    images = competing_images(selection, injected, dataset)
    others = images[~images.index.isin(injected.ids())]
    by_class = dict(list(others.explode("classes").groupby("classes")))
    rows = []
    for name, ids in injected.groups().items():
        own = images[images.index.isin(ids)]
        against = [[by_class[c] for c in classes if c in by_class] for classes in own["classes"]]
        row = _first_columns(name, own)
        share = _mean(others["pruned"])
        row["ratio"] = row["share pruned"] / share if share > 0 else np.nan
        row["AUC"] = _mean([_share_above(score, others) for score in own["score"]])
        row["share pruned, same classes"] = _mean([_mean([_mean(o["pruned"]) for o in same]) for same in against])
        row["AUC, same classes"] = _mean(
            [_mean([_share_above(score, o) for o in same]) for score, same in zip(own["score"], against)]
        )
        rows.append(row)
    return pd.DataFrame([*rows, _first_columns(OTHERS, others)])


def _first_columns(name: str, own: pd.DataFrame) -> dict:
    shares = {"pruned": int(own["pruned"].sum()), "share pruned": _mean(own["pruned"])}
    return {"injected": name, "images": len(own), **shares}


def _share_above(score: float, others: pd.DataFrame) -> float:
    """Share of the others' scores above a score, equal ones counting half: one image's part in the AUC."""
    scores = others["score"].to_numpy()
    return float(((scores > score) + 0.5 * (scores == score)).mean()) if len(scores) else np.nan


def _mean(values) -> float:
    """Mean of those that are no NaN; NaN if there is none."""
    return float(pd.Series(values, dtype=float).mean())


def pairs_table(selection: Selection, injected: InjectedErrors, dataset: str | None = None) -> pd.DataFrame:
    """Of how many pairs of a near-duplicate and its original one, both or none went.

    "share by chance" is what it would be if both went independently of each other, each with the share
    pruned of all other images. An original with several copies is in as many pairs.
    """
    images = competing_images(selection, injected, dataset)
    pruned = images["pruned"].to_dict()
    pairs = [p for p in injected.near_duplicate_of.items() if pruned.keys() >= set(p)]
    gone = [pruned[copy] + pruned[original] for copy, original in pairs]
    share = _mean(images[~images.index.isin(injected.ids())]["pruned"])
    chance = {1: 2 * share * (1 - share), 2: share**2, 0: (1 - share) ** 2}
    return pd.DataFrame(
        {
            "pruned of a pair": name,
            "pairs": gone.count(number),
            "share": _mean([g == number for g in gone]),
            "share by chance": chance[number],
        }
        for number, name in {1: "exactly one", 2: "both", 0: "none"}.items()
    )


def injected_report(selections: dict[str, Selection], injected: InjectedErrors, dataset: str | None = None) -> str:
    """Both tables as Markdown, for one selection or several by their names; a name may be empty.

    Raises:
        InjectedMismatchError: as `competing_images`.
    """
    parts = []
    for table_of in (injected_table, pairs_table) if injected.near_duplicate_of else (injected_table,):
        tables = [table_of(selection, injected, dataset) for selection in selections.values()]
        for name, table in zip(selections, tables):
            if name:
                table.insert(0, "selection", name)
        parts.append(pd.concat(tables).map(_shown).to_markdown(index=False, disable_numparse=True))
    return "\n\n".join([*parts, NOTES])


def _shown(value) -> str:
    if isinstance(value, float):
        return "" if np.isnan(value) else f"{value:.2f}"
    return str(value)
