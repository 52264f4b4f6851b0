"""The labels a finished model doubts, box by box, for people and for annotation tools."""

import json
import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from detectron2.structures import BoxMode

from ..data.coco import coco_content
from ..files import write_text
from ..pruning.label_errors import suspicious_boxes
from ..pruning.matching import Labels, iou
from ..pruning.names import as_cell
from ..pruning.statistics import Statistics

CSV, COCO = "doubtful_labels.csv", "doubtful_labels.json"
_CORNERS = [f"{whose}_{side}" for whose in ("label", "seen", "other") for side in ("x_min", "y_min", "x_max", "y_max")]


def doubtful_boxes(statistics: Statistics, place: np.ndarray, classifies: bool) -> list[dict[str, Any]]:
    """All labels with a doubt of a nat or more, the most doubtful first.

    Args:
        place: where the images of the statistics stand in the selection.
        classifies: a label is that of an image, and there are no boxes.

    Returns:
        {"i": place of the image, "kind": of `label_errors.Suspicion`, "label", "seen": classes, -1 for none, "label_box",
        "seen_box", "other_box": XYXY or None, the last of the label that a duplicate repeats, "chance": how likely the model is right, "doubt": nats} for each.
    """
    doubts = []
    for image, kind, box, label, seen, nats in suspicious_boxes(statistics.labels, statistics.found):
        missing = kind == "missing"
        seen_box = box if missing else _seen_box(statistics, image, seen, box)
        doubts.append(
            {
                "i": int(place[image]),
                "kind": kind,
                "label": label,
                "seen": seen,
                "label_box": None if missing or classifies else _rounded(box),
                "seen_box": None if seen_box is None or classifies else _rounded(seen_box),
                "other_box": _rounded(_other_label(statistics.labels, image, label, box)) if kind == "twice" else None,
                "chance": round(1 - math.exp(-nats), 4) if seen >= 0 else 0.0,
                "doubt": round(nats, 3),
            }
        )
    return doubts


def _seen_box(statistics: Statistics, image: int, seen: int, label_box: np.ndarray) -> np.ndarray | None:
    """The detection that speaks against a label: of that class, the one that overlaps it most."""
    found = statistics.found
    own = found.boxes[(found.images == image) & (found.classes == seen)]
    return own[iou(label_box[None], own)[0].argmax()] if len(own) else None


def _other_label(labels: Labels, image: int, label: int, box: np.ndarray) -> np.ndarray:
    """Of an image's labels of a class, two at least, the one that overlaps a label of them most, (4,)."""
    own = labels.boxes[(labels.images == image) & (labels.classes == label) & ~np.asarray(labels.crowds, bool)]
    return own[np.argsort(-iou(box[None], own)[0], kind="stable")[1]]  # the first is itself


def _rounded(box: np.ndarray) -> list[float]:
    return np.round(box.astype(float), 1).tolist()


def write_lists(
    folder: Path,
    doubts: Sequence[dict[str, Any]],
    records: Sequence[dict],
    sizes: Sequence[tuple[int, int]],
    class_names: Sequence[str],
) -> None:
    """Writes doubtful_labels.csv, and doubtful_labels.json: what the model would put there, as COCO annotations.

    Args:
        records, sizes: of all images of the selection; width and height.
    """
    named = [*class_names, ""]  # -1 is none
    rows = []
    by_image: dict[int, dict[str, Any]] = {}
    for doubt in doubts:
        i, record = doubt["i"], records[doubt["i"]]
        file = record.get("file_name", str(record["image_id"]))
        words = {"kind": doubt["kind"], "label": named[doubt["label"]], "seen": named[doubt["seen"]]}
        numbers = {key: doubt[key] for key in ("chance", "doubt")}
        corners = [value for which in ("label_box", "seen_box", "other_box") for value in doubt[which] or [None] * 4]
        key = {"dataset": record["dataset_name"], "id": record["image_id"], "file": file}
        rows.append({**key, **words, **numbers, **dict(zip(_CORNERS, corners))})
        suggested = {
            "bbox": doubt["seen_box"] or doubt["label_box"] or [0, 0, *sizes[i]],
            "bbox_mode": BoxMode.XYXY_ABS,
            "category_id": doubt["seen"] if doubt["seen"] >= 0 else doubt["label"],
            "attributes": {**words, **numbers},
        }
        image = {"file_name": file, "width": sizes[i][0], "height": sizes[i][1], "annotations": []}
        by_image.setdefault(i, image)["annotations"].append(suggested)
    root = os.path.dirname(os.path.commonprefix([image["file_name"] for image in by_image.values()]))
    content = coco_content(list(by_image.values()), class_names, root or os.curdir)
    suggestions = [own for image in by_image.values() for own in image["annotations"]]
    for annotation, suggestion in zip(content["annotations"], suggestions):
        annotation["attributes"] = suggestion["attributes"]
    write_text(folder / CSV, pd.DataFrame(rows).map(as_cell).to_csv(index=False, lineterminator="\n"))
    write_text(folder / COCO, json.dumps(content))
