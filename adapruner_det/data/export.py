"""What a selection keeps, in the formats other detectors' tools read. No image is copied."""

import json
import os
from collections.abc import Callable
from pathlib import Path

from detectron2.data import DatasetCatalog, MetadataCatalog

from ..files import write_text
from ..pruning import Selection
from .coco import coco_content
from .detection_registration import register_coco, register_voc
from .pruned_datasets import filter_records, pruned_name
from .selection_lists import write_coco_json, write_ids
from .selection_record import source_of

LoadDataset = Callable[[str], list[dict]]


def register_sources(selection: Selection) -> None:
    """Registers the selection's VOC and COCO data sets that are not registered, from where they lay.

    Raises:
        ValueError, FileNotFoundError: they lie there no more.
    """
    class_names = selection.provenance.get("class_names")
    for name, source in selection.provenance.get("sources", {}).items():
        source = dict(source)
        register = {"voc": register_voc, "coco": register_coco}.get(source.pop("format"))
        if name not in DatasetCatalog and register:
            register(name, class_names=class_names, **source)


def write_yolo_list(selection: Selection, dataset: str, folder: Path, load: LoadDataset) -> Path:
    """Writes <data set>_<method>_<ratio>.txt, an absolute image path a line, as darknet and ultralytics
    read it."""
    lines = [os.path.abspath(record["file_name"]) for record in _kept_records(selection, dataset, load)]
    return _write_lines(selection, dataset, folder, lines)


def write_voc_list(selection: Selection, dataset: str, folder: Path, load: LoadDataset) -> Path:
    """Writes <data set>_<method>_<ratio>.txt, as in ImageSets/Main: a file name without ending a line.

    Raises:
        ValueError: two images have the same.
    """
    stems = [Path(record["file_name"]).stem for record in _kept_records(selection, dataset, load)]
    if len(set(stems)) < len(stems):
        raise ValueError(f"{dataset}: images in several folders have the same file name; use another format")
    return _write_lines(selection, dataset, folder, stems)


def write_coco(selection: Selection, dataset: str, folder: Path, load: LoadDataset) -> Path:
    """Writes <data set>_<method>_<ratio>.json; for a COCO data set its own JSON less what was pruned.

    For others `file_name` is relative to the folder all images lie in.
    """
    source = _source(selection, dataset)
    if source["format"] == "coco":
        return write_coco_json(selection, dataset, source["json_file"], folder)
    records = _kept_records(selection, dataset, load)
    image_root = os.path.dirname(os.path.commonprefix([record["file_name"] for record in records]))
    content = coco_content(records, MetadataCatalog.get(dataset).thing_classes, image_root)
    path = folder / f"{pruned_name(dataset, selection)}.json"
    write_text(path, json.dumps(content))
    return path


def _write_ids(selection: Selection, dataset: str, folder: Path, load: LoadDataset) -> Path:
    return write_ids(selection, dataset, folder)


FORMATS: dict[str, Callable[[Selection, str, Path, LoadDataset], Path]] = {
    "yolo": write_yolo_list,
    "voc": write_voc_list,
    "coco": write_coco,
    "ids": _write_ids,
}


def export_selection(selection: Selection, form: str, folder: "str | Path", load: LoadDataset) -> list[Path]:
    """Writes a file for each data set of a selection and returns their paths.

    Args:
        form: of FORMATS.
        load: the records of a registered data set by its name; not called where ids are enough.

    Raises:
        ValueError: a data set is not registered, is no data of image files, or does not fit.
    """
    return [FORMATS[form](selection, name, Path(folder), load) for name in selection.dataset_names()]


def _source(selection: Selection, dataset: str) -> dict:
    if dataset in DatasetCatalog:
        return source_of(dataset)
    return selection.provenance.get("sources", {}).get(dataset, {"format": "other"})


def _kept_records(selection: Selection, dataset: str, load: LoadDataset) -> list[dict]:
    if dataset not in DatasetCatalog:
        raise ValueError(
            f"data set {dataset} is not registered: name it, --register {dataset}=..., or the config the "
            "selection was made with"
        )
    records = filter_records(selection, dataset, load(dataset))
    if any("file_name" not in record or "member" in record for record in records):
        raise ValueError(f"the images of {dataset} are no files of their own: export ids")
    return records


def _write_lines(selection: Selection, dataset: str, folder: Path, lines: list[str]) -> Path:
    path = folder / f"{pruned_name(dataset, selection)}.txt"
    write_text(path, "".join(f"{line}\n" for line in lines))
    return path
