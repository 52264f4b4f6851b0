"""A Selection of images: what people and `check_fits` need to know about each."""

import hashlib
import os
import platform
from array import array
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import detectron2
import numpy as np
import torch
from detectron2.data import MetadataCatalog
from scipy import sparse
from tabulate import tabulate

from .. import __version__
from ..pruning import Selection
from ..pruning.class_balance import rarest_class
from ..pruning.columns import SparseRows
from ..pruning.decision import ALIKE, LABEL_ERRORS, NEAR_DUPLICATE, RANDOM, REASON_COLUMN, REASONS
from .corrections import CORRECTED_COLUMN
from .pruned_datasets import ANNOTATIONS_COLUMN, annotations_digest
from .validation import Record

CLASS_COLUMN = "class"  # of a classification image: one of provenance["class_names"]
RAREST_COLUMN = "rarest_class"  # of a detection image: one of them, or NO_BOXES
CLASSES_COLUMN = "boxes_by_class"  # number of boxes of each of provenance["class_names"]
# format, metadata that tells where it is: paths and other strings
SOURCES = (
    ("coco", ("json_file", "image_root"), ()),
    ("voc", ("dirname",), ("split",)),
    ("yolo", ("data_yaml",), ("split",)),
)
NO_BOXES = ""  # stands in class counts for images without boxes


def make_selection(
    records: Sequence[Record],
    scores: "Sequence[float | None]",
    kept: "Sequence[bool] | None" = None,
    *,
    keep_ratio: float,
    method: str,
    others: Sequence[Record] = (),
    keep_others: bool = False,
    class_balance: bool = False,
    columns: "Mapping[str, Sequence[Any]] | None" = None,
    provenance: "dict[str, Any] | None" = None,
) -> Selection:
    """The selection of N images, with the class or the boxes of each, and a digest of these.

    Args:
        records: N dataset dicts with `dataset_name` (see `load_records`).
        scores: N finite numbers, higher means keep; None where the image did not compete.
        kept: N booleans; None for those with the highest scores.
        others: further records, that did not compete.
        keep_others: whether those stay.
        class_balance: hold each class to the ratio, if `kept` is None.
        columns: further columns of N values.
        provenance: further facts on how it was made; comparisons need `seconds`.

    Raises:
        ValueError: a score is no finite number, or there are too few images to keep one of each class.
    """
    _check_scores(records, scores, method)
    everything = [*records, *others] if others else records
    datasets, ids = [r["dataset_name"] for r in everything], [str(r["image_id"]) for r in everything]
    digests = _digests(everything)
    nothing: list[Any] = [None] * len(others)
    class_names = list(MetadataCatalog.get(records[0]["dataset_name"]).thing_classes)
    names = list(dict.fromkeys(datasets))
    facts = dict(provenance or {}) if kept is not None else {**(provenance or {}), "class_balance": class_balance}
    selection = Selection(
        datasets=datasets,
        ids=ids,
        scores=[None if score is None else float(score) for score in scores] + nothing,
        kept=[*([True] * len(records) if kept is None else map(bool, kept)), *([keep_others] * len(others))],
        keep_ratio=keep_ratio,
        method=method,
        columns={
            **_first_columns(everything, class_names),
            **{name: list(values) + nothing for name, values in (columns or {}).items()},
            **_last_columns(everything, class_names),
            ANNOTATIONS_COLUMN: digests,
        },
        provenance={
            **facts,
            "class_names": class_names,
            "fingerprints": {
                name: _fingerprint((n, i, d) for n, i, d in zip(datasets, ids, digests) if n == name) for name in names
            },
            "sources": {name: source_of(name) for name in names},
            "versions": {
                "adapruner_det": __version__,
                "detectron2": detectron2.__version__,
                "torch": torch.__version__,
                "python": platform.python_version(),
            },
        },
    )
    return cut_as_made(selection, keep_ratio) if kept is None else selection


def cut_as_made(selection: Selection, keep_ratio: float, across_classes: bool = False) -> Selection:
    """Cut at a ratio, each class by itself if the selection was made so (CLASS_BALANCE).

    Args:
        across_classes: all classes together, however it was made.
    """
    balanced = selection.provenance.get("class_balance", False) and not across_classes
    column = CLASS_COLUMN if CLASS_COLUMN in selection.columns else RAREST_COLUMN
    return selection.cut(keep_ratio, column if balanced else None)


def _check_scores(records: Sequence[Record], scores: "Sequence[float | None]", method: str) -> None:
    bad = [i for i, score in enumerate(scores) if score is not None and not np.isfinite(score)]
    if bad or len(scores) != len(records):
        ids = [records[i]["image_id"] for i in bad[:5]]
        raise ValueError(
            f"{method} gave {len(scores)} scores for {len(records)} images, {len(bad)} of them no "
            f"finite numbers (images {ids})"
        )


def source_of(dataset_name: str) -> dict[str, str]:
    """Where a registered data set comes from: the metadata that SOURCES names, "on_invalid" and the format, or "other"."""
    known = MetadataCatalog.get(dataset_name).as_dict()
    for name, paths, others in SOURCES:
        if all(known.get(key) for key in (*paths, *others)):
            own = {key: os.path.abspath(known[key]) for key in paths}
            own.update({key: known[key] for key in others})
            return {"format": name, **own, "on_invalid": known.get("on_invalid", "error")}
    return {"format": "other"}


def _first_columns(records: Sequence[Record], class_names: list[str]) -> dict[str, list[Any]]:
    """What people want to see of each image beside its score."""
    if "category_id" not in records[0]:
        crowds = [sum(map(_is_crowd, record.get("annotations", []))) for record in records]
        boxes = [len(record.get("annotations", [])) - own for record, own in zip(records, crowds)]
        return {"boxes": boxes, **({"crowds": crowds} if any(crowds) else {})}
    return {CLASS_COLUMN: [class_names[record["category_id"]] for record in records]}


def _last_columns(records: Sequence[Record], class_names: list[str]) -> dict[str, Sequence[Any]]:
    if "category_id" in records[0]:
        return {}
    places, classes = array("q"), array("q")
    for place, record in enumerate(records):
        own = [a["category_id"] for a in record.get("annotations", []) if not _is_crowd(a)]
        classes.extend(own)
        places.extend([place] * len(own))
    ones = np.ones(len(places), np.int64)
    counts = sparse.csr_matrix((ones, (np.array(places), np.array(classes))), (len(records), len(class_names)))
    named = [*class_names, NO_BOXES]
    return {RAREST_COLUMN: [named[i] for i in rarest_class(counts).tolist()], CLASSES_COLUMN: SparseRows(counts)}


def _is_crowd(annotation: Record) -> bool:
    """Whether it marks a region nobody has to find: neither trained on nor counted."""
    return bool(annotation.get("iscrowd", 0))


def fingerprint(records: Sequence[Record]) -> str:
    """SHA-256 of the records' data sets, ids and annotations, in their order."""
    return _fingerprint((r["dataset_name"], r["image_id"], own) for r, own in zip(records, _digests(records)))


def _fingerprint(images: "Iterable[tuple[str, Any, str]]") -> str:
    return hashlib.sha256(
        "\n".join(f"{name} {image_id} {digest}" for name, image_id, digest in images).encode()
    ).hexdigest()


def _digests(records: Sequence[Record]) -> list[str]:
    """`annotations_digest` of each."""
    names = {name: MetadataCatalog.get(name).thing_classes for name in {r["dataset_name"] for r in records}}
    return [annotations_digest(record, names[record["dataset_name"]]) for record in records]


def class_counts(selection: Selection) -> dict[str, dict[str, int]]:
    """Images of each class before and after pruning; for detection boxes too, and NO_BOXES among the classes.

    Returns:
        {class: {"images", "kept_images"}}, for detection also "boxes" and "kept_boxes".

    Raises:
        ValueError: the record's classes do not fit its class_names.
    """
    names, kept = list(selection.provenance.get("class_names", [])), np.array(selection.kept, dtype=bool)
    if CLASS_COLUMN in selection.columns:
        numbers = {name: number for number, name in enumerate(names)}
        classes = np.array([numbers.get(name, -1) for name in selection.columns[CLASS_COLUMN]])
        if not names or (classes < 0).any():
            raise ValueError(f"the selection's class_names {names} lack classes of its column {CLASS_COLUMN}")
        both = [np.bincount(own, minlength=len(names)).tolist() for own in (classes, classes[kept])]
        return {name: {"images": all_, "kept_images": own} for name, all_, own in zip(names, *both)}
    column = selection.columns.get(CLASSES_COLUMN, [None])
    if not isinstance(column, SparseRows) and None in column:
        raise ValueError(f"the selection lacks the column {CLASS_COLUMN}, or values of {CLASSES_COLUMN}")
    table = column.matrix if isinstance(column, SparseRows) else np.array(column).reshape(len(selection), -1)
    counts = sparse.csr_matrix(table)
    if counts.shape[1] != len(names):
        raise ValueError(f"the selection counts boxes of {counts.shape[1]} classes, but has {len(names)} class_names")

    def of_classes(own: sparse.csr_matrix) -> tuple[list[int], list[int]]:
        """Images and boxes of each class, and images without any."""
        empty = int((np.diff(own.indptr) == 0).sum())
        return [*own.getnnz(axis=0).tolist(), empty], [*own.sum(axis=0).A1.tolist(), 0]

    (images, boxes), (kept_images, kept_boxes) = of_classes(counts), of_classes(counts[kept])
    return {
        name: {"images": images[i], "kept_images": kept_images[i], "boxes": boxes[i], "kept_boxes": kept_boxes[i]}
        for i, name in enumerate([*names, NO_BOXES])
    }


def vanished_classes(selection: Selection) -> list[str]:
    """Classes that had images, or boxes, and have none left."""
    return [
        name
        for name, count in class_counts(selection).items()
        if name != NO_BOXES and count["images"] and not count["kept_images"]
    ]


def _reasons_line(selection: Selection) -> str:
    """Why the pruned images go, if the selection's method tells."""
    reasons = dict(selection.provenance.get("reasons", {}))
    if not reasons:
        return ""
    told = reasons.pop("with_reason")
    if CORRECTED_COLUMN in selection.columns and REASON_COLUMN in selection.columns:
        columns = zip(selection.kept, selection.columns[REASON_COLUMN], selection.columns[CORRECTED_COLUMN])
        gone_by = ["by hand" if word == "prune" else reason for kept, reason, word in columns if not kept]
        reasons = {reason: gone_by.count(reason) for reason in (*REASONS, "by hand")}
    gone = ", ".join(f"{count} {reason}" for reason, count in reasons.items() if count)
    scored = sum(score is not None for score in selection.scores)
    why = f"why images go: {gone}. " if gone else ""
    return f"\n{why}{told} of {scored} images, kept ones too, have more against them than chance could make up for"


def verdict(selection: Selection) -> str:
    """How many images stay, and why the others go."""
    num, kept = len(selection), sum(map(bool, selection.kept))
    reasons = dict(selection.provenance.get("reasons", {}))
    if not reasons:
        return f"{kept:,} of {num:,} images stay"
    del reasons["with_reason"]
    words = {NEAR_DUPLICATE: "as near-duplicates of one that stays", ALIKE: "as like others that stay", LABEL_ERRORS: "for doubtful labels (mend what is wrong)",
             RANDOM: "by lot (a random choice would do as well)"}  # fmt: skip
    parts = [f"{count:,} {words.get(reason, f'as {reason}')}" for reason, count in reasons.items() if count]
    return f"{kept:,} of {num:,} images stay" + (f"; pruned are {', '.join(parts)}" if parts else "")


def summary(selection: Selection) -> str:
    """A table of images, and boxes, kept by class, and why images go."""
    counts = class_counts(selection)
    shown: tuple[str, ...]
    total: tuple[str, ...]
    if CLASS_COLUMN in selection.columns:
        headers = ["class", "images", "kept", "share kept"]
        shown = total = ("images", "kept_images")
    else:
        headers = ["class", "images", "kept", "boxes", "kept", "share of boxes kept"]
        shown, total = ("images", "kept_images", "boxes", "kept_boxes"), ("boxes", "kept_boxes")
    rows = [
        [name or "(no boxes)", *(count[key] for key in shown), _share(*(count[key] for key in total))]
        for name, count in counts.items()
    ]
    kept = sum(map(bool, selection.kept))
    return (
        f"{selection.method}: {kept} of {len(selection)} images kept; ratio asked for "
        f"{selection.keep_ratio:.3f}, reached {selection.reached_ratio:.3f}\n"
        + tabulate(rows, headers=headers, tablefmt="github", floatfmt=".3f")
        + _reasons_line(selection)
    )


def _share(before: int, after: int) -> str:
    return f"{after / before:.3f}" if before else "-"
