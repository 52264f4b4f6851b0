"""A Selection of detection images: what people and `check_fits` need to know about each."""
import hashlib
import platform
from collections import Counter
from typing import Any, Dict, List, Sequence

import detectron2
import torch
from detectron2.data import MetadataCatalog
from tabulate import tabulate

from .. import __version__
from ..pruning import Selection
from .pruned_datasets import ANNOTATIONS_COLUMN, annotations_digest


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
    class_names = MetadataCatalog.get(records[0]["dataset_name"]).thing_classes
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
            ANNOTATIONS_COLUMN: digests,
        },
        provenance={
            **(provenance or {}),
            "fingerprints": _fingerprints(records, digests),
            "classes": class_counts(records, kept),
            "images_without_boxes": _empty_counts(records, kept),
            "versions": {
                "adapruner_det": __version__,
                "detectron2": detectron2.__version__,
                "torch": torch.__version__,
                "python": platform.python_version(),
            },
        },
    )


def _fingerprints(records: Sequence[dict], digests: Sequence[str]) -> Dict[str, str]:
    lines: Dict[str, List[str]] = {}
    for record, digest in zip(records, digests):
        lines.setdefault(record["dataset_name"], []).append(f"{record['image_id']} {digest}")
    return {
        name: hashlib.sha256("\n".join(sorted(own)).encode()).hexdigest()
        for name, own in lines.items()
    }


def class_counts(records: Sequence[dict], kept: Sequence[bool]) -> Dict[str, Dict[str, int]]:
    """Images and boxes of each class, before and after: {class: {images, kept_images, ...}}."""
    class_names = MetadataCatalog.get(records[0]["dataset_name"]).thing_classes
    counts = {key: Counter() for key in ("images", "kept_images", "boxes", "kept_boxes")}
    for record, keep in zip(records, kept):
        boxes = Counter(annotation["category_id"] for annotation in record.get("annotations", []))
        for prefix in ("", "kept_") if keep else ("",):
            counts[prefix + "boxes"].update(boxes)
            counts[prefix + "images"].update(boxes.keys())
    return {
        name: {key: counter[i] for key, counter in counts.items()}
        for i, name in enumerate(class_names)
    }


def _empty_counts(records: Sequence[dict], kept: Sequence[bool]) -> Dict[str, int]:
    empty = [keep for record, keep in zip(records, kept) if not record.get("annotations")]
    return {"images": len(empty), "kept_images": sum(map(bool, empty))}


def vanished_classes(selection: Selection) -> List[str]:
    """Classes that had boxes and have none left."""
    return [
        name
        for name, count in selection.provenance["classes"].items()
        if count["boxes"] and not count["kept_boxes"]
    ]


def summary(selection: Selection) -> str:
    """A table of images and boxes kept, by class."""
    rows = [
        [name, c["images"], c["kept_images"], c["boxes"], c["kept_boxes"], _share(c)]
        for name, c in selection.provenance["classes"].items()
    ]
    empty = selection.provenance["images_without_boxes"]
    rows.append(["(no boxes)", empty["images"], empty["kept_images"], 0, 0, ""])
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
