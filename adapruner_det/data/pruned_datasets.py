"""Training on a selection: does it fit the data, and which records does it keep?"""

import hashlib
import json
import logging
from collections.abc import Sequence

from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.structures import BoxMode

from ..pruning import Selection
from ..pruning.names import first_few
from ..pruning.selection import ratio_label
from .serialized_records import chosen_records
from .validation import Record

logger = logging.getLogger(__name__)

ANNOTATIONS_COLUMN = "annotations"  # of a Selection: `annotations_digest` of each image


class SelectionMismatchError(ValueError):
    """A selection was made for other images or other annotations."""


def annotations_digest(record: Record, class_names: list[str]) -> str:
    """A short fingerprint of an image's class, or of its boxes and classes in whatever order."""
    if "category_id" in record:  # of a classification data set
        return hashlib.sha256(class_names[record["category_id"]].encode()).hexdigest()[:12]
    boxes = []
    for annotation in record.get("annotations", []):
        name = class_names[annotation["category_id"]]
        # Rounded twice: a box that was converted from XYWH differs from the same in XYXY in its last bits.
        edges = (f"{round(value, 3):.1f}" for value in corners(annotation))
        boxes.append([name, *edges, *(["crowd"] if annotation.get("iscrowd") else [])])
    return hashlib.sha256(json.dumps(sorted(boxes)).encode()).hexdigest()[:12]


def corners(annotation: Record) -> Sequence[float]:
    """(xmin, ymin, xmax, ymax) of its box. BoxMode makes a tensor of each, which takes 20 times as long."""
    box, mode = annotation["bbox"], annotation["bbox_mode"]
    if mode == BoxMode.XYWH_ABS:
        x, y, width, height = box
        return x, y, x + width, y + height
    edges: Sequence[float] = box if mode == BoxMode.XYXY_ABS else BoxMode.convert(list(box), mode, BoxMode.XYXY_ABS)
    return edges


def check_fits(selection: Selection, dataset_name: str, records: Sequence[Record]) -> None:
    """Raises SelectionMismatchError, naming the difference, unless `selection` was made on `records`."""
    places = {str(record["image_id"]): place for place, record in enumerate(records)}
    here = places.keys()
    known = selection.known_ids(dataset_name)
    differing = {
        "in the selection but not in the data": known - here,
        "in the data but not in the selection": here - known,
    }
    if ANNOTATIONS_COLUMN in selection.columns:
        class_names = MetadataCatalog.get(dataset_name).thing_classes
        digests = selection.column_of(dataset_name, ANNOTATIONS_COLUMN)
        now = {own: annotations_digest(records[place], class_names) for own, place in places.items() if own in known}
        changed = {image_id for image_id, digest in now.items() if digest != digests[image_id]}
        differing["with annotations that have changed since"] = changed
    differences = "; ".join(
        f"{len(ids)} images {what} ({first_few(sorted(ids))})" for what, ids in differing.items() if ids
    )
    if differences:
        raise SelectionMismatchError(
            f"the selection does not fit data set {dataset_name}: {differences}. Prune this "
            "data, or use the data the selection was made on"
        )


def filter_records(selection: Selection, dataset_name: str, records: Sequence[Record]) -> Sequence[Record]:
    """The records that `selection` keeps, after checking that it fits."""
    check_fits(selection, dataset_name, records)
    kept = selection.kept_ids(dataset_name)
    return chosen_records(records, [str(record["image_id"]) in kept for record in records])


def key_of(record: Record) -> tuple[str, str]:
    """(data set, id), as in `Selection.keys`."""
    return record["dataset_name"], str(record["image_id"])


def records_of(selection: Selection, records: Sequence[Record]) -> list[Record]:
    """The record of each image of the selection, in its order, after checking that it fits."""
    for name in selection.dataset_names():
        check_fits(selection, name, [record for record in records if record["dataset_name"] == name])
    by_key = {key_of(record): record for record in records}
    return [by_key[key] for key in selection.keys]


def apply_selection(folder: str, by_name: dict[str, Sequence[Record]]) -> dict[str, Sequence[Record]]:
    """Filters every data set that the selection in `folder` covers.

    Raises:
        SelectionMismatchError: it covers none of them, or does not fit one.
    """
    selection = Selection.load(folder)
    covered = selection.dataset_names()
    if not set(covered) & by_name.keys():
        raise SelectionMismatchError(
            f"the selection in {folder} covers {covered}, none of the training sets {list(by_name)}: "
            f"register the data under the name it was pruned under, --register {covered[0]}=FORMAT:..."
        )
    result = dict(by_name)
    for name, records in by_name.items():
        if name not in covered:
            logger.info(f"{name}: all {len(records)} images; the selection does not cover it")
            continue
        result[name] = filter_records(selection, name, records)
        numbers = f"{len(result[name])} of {len(records)} images"
        logger.info(f"{name}: training on {numbers}, selected by {selection.method} ({folder})")
    return result


def register_pruned_dataset(name: str, base: str, selection: "Selection | str") -> None:
    """Registers what a selection keeps of data set `base` under a name of its own.

    Args:
        name: the new name, for DATASETS.TRAIN; `pruned_name` gives the usual one.
        base: a registered data set that the selection covers.
        selection: a Selection, or the folder it lies in.

    Raises:
        ValueError: `base` is not registered or not covered, or `name` is taken.
        SelectionMismatchError: when the data set is loaded and does not fit.
    """
    if not isinstance(selection, Selection):
        selection = Selection.load(selection)
    if base not in DatasetCatalog:
        raise ValueError(f"data set {base} is not registered; register it before its pruned version")
    if base not in selection.dataset_names():
        raise ValueError(f"the selection covers {selection.dataset_names()}, not {base}")
    if name in DatasetCatalog:
        raise ValueError(f"a data set named {name} is registered already")
    DatasetCatalog.register(name, lambda: filter_records(selection, base, DatasetCatalog.get(base)))
    base_metadata = MetadataCatalog.get(base).as_dict()
    MetadataCatalog.get(name).set(**{k: v for k, v in base_metadata.items() if k != "name"})


def pruned_name(dataset_name: str, selection: Selection) -> str:
    """For example voc_2007_trainval_adapruner_0.90."""
    return f"{dataset_name}_{selection.method}_{ratio_label(selection.keep_ratio)}"
