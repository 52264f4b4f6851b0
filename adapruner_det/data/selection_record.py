"""A Selection of detection images: what people and `check_fits` need to know about each."""
import hashlib
import platform
from typing import Any, Dict, List, Sequence

import detectron2
import numpy as np
import torch
from detectron2.data import MetadataCatalog
from tabulate import tabulate

from .. import __version__
from ..pruning import Selection
from .pruned_datasets import ANNOTATIONS_COLUMN, annotations_digest

CLASSES_COLUMN = "boxes_by_class"  # number of boxes of each of provenance["class_names"]


def make_selection(
    records: Sequence[dict],
    scores: "Sequence[float | None]",
    kept: Sequence[bool],
    *,
    keep_ratio: float,
    method: str,
    columns: "Dict[str, Sequence[Any]] | None" = None,
    provenance: "Dict[str, Any] | None" = None,
) -> Selection:
    """The selection of N images, with the number of boxes and a digest of the annotations of each.

    Args:
        records: N dataset dicts with `dataset_name` (see `load_records`).
        scores: N numbers, higher means keep; None where the image did not compete.
        kept: N booleans.
        columns: further columns of N values.
        provenance: further facts on how it was made.
    """
    class_names = list(MetadataCatalog.get(records[0]["dataset_name"]).thing_classes)
    digests = [annotations_digest(record, class_names) for record in records]
    return Selection(
        datasets=[record["dataset_name"] for record in records],
        ids=[str(record["image_id"]) for record in records],
        scores=list(scores),
        kept=list(kept),
        keep_ratio=keep_ratio,
        method=method,
        columns={
            "boxes": [len(record.get("annotations", [])) for record in records],
            **(columns or {}),
            CLASSES_COLUMN: [_boxes_by_class(record, len(class_names)) for record in records],
            ANNOTATIONS_COLUMN: digests,
        },
        provenance={
            **(provenance or {}),
            "class_names": class_names,
            "fingerprints": {
                name: fingerprint([r for r in records if r["dataset_name"] == name])
                for name in dict.fromkeys(record["dataset_name"] for record in records)
            },
            "versions": {
                "adapruner_det": __version__,
                "detectron2": detectron2.__version__,
                "torch": torch.__version__,
                "python": platform.python_version(),
            },
        },
    )


def _boxes_by_class(record: dict, num_classes: int) -> List[int]:
    counts = [0] * num_classes
    for annotation in record.get("annotations", []):
        counts[annotation["category_id"]] += 1
    return counts


def fingerprint(records: Sequence[dict]) -> str:
    """SHA-256 of the records' data sets, ids and annotations, in their order."""
    lines = []
    for record in records:
        name = record["dataset_name"]
        digest = annotations_digest(record, MetadataCatalog.get(name).thing_classes)
        lines.append(f"{name} {record['image_id']} {digest}")
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def class_counts(selection: Selection) -> Dict[str, Dict[str, int]]:
    """Images and boxes of each class before and after pruning, and of the images without boxes.

    Returns:
        {class: {"images", "kept_images", "boxes", "kept_boxes"}}, with "" for images without boxes.
    """
    boxes = np.array(selection.columns[CLASSES_COLUMN]).reshape(len(selection), -1)
    boxes = np.concatenate([boxes, boxes.sum(axis=1, keepdims=True) == 0], axis=1)
    kept = np.array(selection.kept, dtype=bool)
    counts = {
        name: {
            "images": int((column > 0).sum()),
            "kept_images": int((column[kept] > 0).sum()),
            "boxes": int(column.sum()),
            "kept_boxes": int(column[kept].sum()),
        }
        for name, column in zip([*selection.provenance["class_names"], ""], boxes.T)
    }
    counts[""].update(boxes=0, kept_boxes=0)
    return counts


def vanished_classes(selection: Selection) -> List[str]:
    """Classes that had boxes and have none left."""
    return [
        name
        for name, count in class_counts(selection).items()
        if count["boxes"] and not count["kept_boxes"]
    ]


def summary(selection: Selection) -> str:
    """A table of images and boxes kept, by class."""
    rows = [
        [name or "(no boxes)", c["images"], c["kept_images"], c["boxes"], c["kept_boxes"], _share(c)]
        for name, c in class_counts(selection).items()
    ]
    kept = sum(map(bool, selection.kept))
    table = tabulate(
        rows,
        headers=["class", "images", "kept", "boxes", "kept", "share of boxes kept"],
        tablefmt="github",
    )
    return (
        f"{selection.method}: {kept} of {len(selection)} images kept; ratio asked for "
        f"{selection.keep_ratio:.3f}, reached {selection.reached_ratio:.3f}\n{table}"
    )


def _share(count: Dict[str, int]) -> str:
    return f"{count['kept_boxes'] / count['boxes']:.3f}" if count["boxes"] else "-"
