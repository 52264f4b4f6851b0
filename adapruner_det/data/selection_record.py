"""A Selection of images: what people and `check_fits` need to know about each."""

import hashlib
import os
import platform
from collections.abc import Sequence
from typing import Any

import detectron2
import numpy as np
import torch
from detectron2.data import MetadataCatalog
from tabulate import tabulate

from .. import __version__
from ..pruning import Selection
from ..pruning.class_balance import rarest_class
from .pruned_datasets import ANNOTATIONS_COLUMN, annotations_digest

CLASS_COLUMN = "class"  # of a classification image: one of provenance["class_names"]
FLIPPED_COLUMN = "label_flipped"  # 1 where CLASSIFICATION.LABEL_NOISE has given a wrong class
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
    records: Sequence[dict],
    scores: "Sequence[float | None]",
    kept: Sequence[bool],
    *,
    keep_ratio: float,
    method: str,
    columns: "dict[str, Sequence[Any]] | None" = None,
    provenance: "dict[str, Any] | None" = None,
) -> Selection:
    """The selection of N images, with the class or the boxes of each, and a digest of these.

    Args:
        records: N dataset dicts with `dataset_name` (see `load_records`).
        scores: N numbers, higher means keep; None where the image did not compete.
        kept: N booleans.
        columns: further columns of N values.
        provenance: further facts on how it was made.
    """
    class_names = list(MetadataCatalog.get(records[0]["dataset_name"]).thing_classes)
    names = list(dict.fromkeys(record["dataset_name"] for record in records))
    digests = [annotations_digest(record, class_names) for record in records]
    return Selection(
        datasets=[record["dataset_name"] for record in records],
        ids=[str(record["image_id"]) for record in records],
        scores=list(scores),
        kept=list(kept),
        keep_ratio=keep_ratio,
        method=method,
        columns={
            **_first_columns(records, class_names),
            **(columns or {}),
            **_last_columns(records, class_names),
            ANNOTATIONS_COLUMN: digests,
        },
        provenance={
            **(provenance or {}),
            "class_names": class_names,
            "fingerprints": {name: fingerprint([r for r in records if r["dataset_name"] == name]) for name in names},
            "sources": {name: source_of(name) for name in names},
            "versions": {
                "adapruner_det": __version__,
                "detectron2": detectron2.__version__,
                "torch": torch.__version__,
                "python": platform.python_version(),
            },
        },
    )


def source_of(dataset_name: str) -> dict[str, str]:
    """Where a registered data set comes from, for those who make lists of it later.

    Returns:
        {"format": "coco", "json_file", "image_root"}, {"format": "voc", "dirname", "split"}, {"format": "yolo",
        "data_yaml", "split"} (absolute paths), all with "on_invalid", or {"format": "other"}.
    """
    known = MetadataCatalog.get(dataset_name).as_dict()
    for name, paths, others in SOURCES:
        if all(known.get(key) for key in (*paths, *others)):
            own = {key: os.path.abspath(known[key]) for key in paths}
            own.update({key: known[key] for key in others})
            return {"format": name, **own, "on_invalid": known.get("on_invalid", "error")}
    return {"format": "other"}


def _classifies(records: Sequence[dict]) -> bool:
    return "category_id" in records[0]


def _first_columns(records: Sequence[dict], class_names: list[str]) -> dict[str, list]:
    """What people want to see of each image beside its score."""
    if not _classifies(records):
        crowds = [sum(map(_is_crowd, record.get("annotations", []))) for record in records]
        boxes = [len(record.get("annotations", [])) - own for record, own in zip(records, crowds)]
        return {"boxes": boxes, **({"crowds": crowds} if any(crowds) else {})}
    columns = {CLASS_COLUMN: [class_names[record["category_id"]] for record in records]}
    if any(FLIPPED_COLUMN in record for record in records):
        columns[FLIPPED_COLUMN] = [int(record.get(FLIPPED_COLUMN, False)) for record in records]
    return columns


def _last_columns(records: Sequence[dict], class_names: list[str]) -> dict[str, list]:
    if _classifies(records):
        return {}
    counts = [_boxes_by_class(record, len(class_names)) for record in records]
    named = [*class_names, NO_BOXES]
    return {RAREST_COLUMN: [named[i] for i in rarest_class(np.array(counts))], CLASSES_COLUMN: counts}


def _boxes_by_class(record: dict, num_classes: int) -> list[int]:
    counts = [0] * num_classes
    for annotation in record.get("annotations", []):
        counts[annotation["category_id"]] += not _is_crowd(annotation)
    return counts


def _is_crowd(annotation: dict) -> bool:
    """Whether it marks a region nobody has to find: neither trained on nor counted."""
    return bool(annotation.get("iscrowd", 0))


def fingerprint(records: Sequence[dict]) -> str:
    """SHA-256 of the records' data sets, ids and annotations, in their order."""
    lines = []
    for record in records:
        name = record["dataset_name"]
        digest = annotations_digest(record, MetadataCatalog.get(name).thing_classes)
        lines.append(f"{name} {record['image_id']} {digest}")
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def class_column(selection: Selection) -> str:
    """The column with the class that SCORING.CLASS_BALANCE counts an image for."""
    return CLASS_COLUMN if CLASS_COLUMN in selection.columns else RAREST_COLUMN


def class_counts(selection: Selection) -> dict[str, dict[str, int]]:
    """Images of each class before and after pruning; for detection, boxes too.

    Returns:
        {class: {"images", "kept_images"}}, for detection also "boxes" and "kept_boxes", with NO_BOXES
        among the classes.
    """
    names = selection.provenance["class_names"]
    kept = np.array(selection.kept, dtype=bool)
    if CLASS_COLUMN in selection.columns:
        number = {name: i for i, name in enumerate(names)}
        classes = np.array([number[name] for name in selection.columns[CLASS_COLUMN]], dtype=int)
        before, after = (np.bincount(c, minlength=len(names)) for c in (classes, classes[kept]))
        return {name: {"images": int(b), "kept_images": int(a)} for name, b, a in zip(names, before, after)}
    boxes = np.array(selection.columns[CLASSES_COLUMN]).reshape(len(selection), -1)
    boxes = np.concatenate([boxes, boxes.sum(axis=1, keepdims=True) == 0], axis=1)
    counts = {
        name: {
            "images": int((column > 0).sum()),
            "kept_images": int((column[kept] > 0).sum()),
            "boxes": int(column.sum()),
            "kept_boxes": int(column[kept].sum()),
        }
        for name, column in zip([*names, NO_BOXES], boxes.T)
    }
    counts[NO_BOXES].update(boxes=0, kept_boxes=0)
    return counts


def vanished_classes(selection: Selection) -> list[str]:
    """Classes that had images, or boxes, and have none left."""
    return [
        name
        for name, count in class_counts(selection).items()
        if name != NO_BOXES and count["images"] and not count["kept_images"]
    ]


def label_noise(selection: Selection) -> dict[str, float] | None:
    """How a selection treats the images that were given a wrong class, of those with a score.

    Returns:
        None unless it has both flipped and clean images, else {"flipped", "clean": how many,
        "flipped_pruned", "clean_pruned": the share of each that was pruned, "auc": the probability
        that a flipped image has a lower score than a clean one, equal scores counting half}.
    """
    from sklearn.metrics import roc_auc_score  # here, since few selections need it

    marks = selection.columns.get(FLIPPED_COLUMN, [])
    scored = [(m, k, s) for m, k, s in zip(marks, selection.kept, selection.scores) if s is not None]
    if len({mark for mark, _, _ in scored}) < 2:
        return None
    flipped, kept, scores = map(np.array, zip(*scored))
    flipped, kept = flipped.astype(bool), kept.astype(bool)
    return {
        "flipped": int(flipped.sum()),
        "clean": int((~flipped).sum()),
        "flipped_pruned": float((~kept[flipped]).mean()),
        "clean_pruned": float((~kept[~flipped]).mean()),
        "auc": float(roc_auc_score(flipped, -scores)),
    }


def _label_noise_line(selection: Selection) -> str:
    found = label_noise(selection)
    if found is None:
        return ""
    return (
        "\nwrong labels: {flipped_pruned:.1%} of {flipped:,} flipped images pruned, {clean_pruned:.1%} of "
        "{clean:,} clean ones; a flipped image has the lower score of the two with probability (AUC) "
        "{auc:.3f}"
    ).format(**found)


def _reasons_line(selection: Selection) -> str:
    """Why the pruned images go, if the selection's method tells."""
    reasons = dict(selection.provenance.get("reasons", {}))
    if not reasons:
        return ""
    told = reasons.pop("with_reason")
    gone = ", ".join(f"{count} {reason}" for reason, count in reasons.items() if count)
    scored = sum(score is not None for score in selection.scores)
    return (
        f"\nwhy images go: {gone}. {told} of {scored} images have more against them than chance could make up for; "
        "the rest might as well be drawn"
    )


def summary(selection: Selection) -> str:
    """A table of images, and boxes, kept by class; why images go; what became of wrong labels, if there are any."""
    counts = class_counts(selection)
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
        + _label_noise_line(selection)
    )


def _share(before: int, after: int) -> str:
    return f"{after / before:.3f}" if before else "-"
