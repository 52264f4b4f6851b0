"""What a selection keeps, in the formats other detectors' tools read. No image is copied."""

import json
import os
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from detectron2.data import DatasetCatalog, MetadataCatalog

from ..files import new_folder, write_text
from ..pruning import Selection
from ..pruning.names import as_cell
from .coco import coco_content
from .formats import FORMATS, register_coco, register_voc, register_yolo
from .pruned_datasets import check_fits, corners, filter_records, pruned_name
from .selection_lists import write_coco_json, write_ids
from .selection_record import CLASS_COLUMN, RAREST_COLUMN, source_of
from .validation import Record
from .yolo import label_lines, read_data_yaml, write_data_yaml

LoadDataset = Callable[[str], Sequence[Record]]


def export_selection(selection: Selection, form: str, folder: "str | Path", load: LoadDataset) -> list[Path]:
    """Writes <data set>_<method>_<ratio>.txt or .json for each data set of a selection; returns the paths.

    Args:
        form: of EXPORTS. "yolo" is an absolute image path a line, and a `data.yaml` beside it; "voc" a file name
            without ending a line, as in ImageSets/Main; "fiftyone" a folder with all images, kept or not; "weights" a CSV
            for those who sample by weight; "ids" an image id a line.
        load: the records of a registered data set by its name; not called where ids are enough.

    Raises:
        ValueError: no such form; a data set is not where it lay or not registered, is no data of image files, or does
            not fit.
        NotADirectoryError: `folder` is a file, or lies in one.
    """
    if form not in EXPORTS:
        raise ValueError(f"{form!r} is no form to export in; there are {', '.join(EXPORTS)}")
    for path in (Path(folder), *Path(folder).parents):
        if path.is_file():
            raise NotADirectoryError(f"{path} is a file: name a folder, which the lists go to")
    if form not in _WITHOUT_DATA:
        register_sources(selection)
    return [EXPORTS[form](selection, name, Path(folder), load) for name in selection.dataset_names()]


_WITHOUT_DATA = ("ids", "weights")


def register_sources(selection: Selection) -> None:
    """Registers the selection's VOC, COCO and YOLO data sets that are not registered, from where they lay.

    Raises:
        ValueError: they lie there no more; ends with the way out.
    """
    class_names = selection.provenance.get("class_names")
    for name, source in selection.provenance.get("sources", {}).items():
        source = dict(source)
        form = source.pop("format")
        if name in DatasetCatalog or form not in _READERS:
            continue
        register, paths = _READERS[form]
        if gone := [source.get(path) for path in paths if not os.path.exists(source.get(path, ""))]:
            raise ValueError(f"{name}: there is no {gone[0]} any more; {way_out(name, form, **source)}")
        try:
            register(name, class_names=class_names, **source)
        except TypeError as error:
            raise ValueError(f"the selection's record says of data set {name} what no reader knows: {error}") from error


# of a source's format: what registers it, and the arguments that tell where it is
_READERS: dict[str, tuple[Callable[..., None], tuple[str, ...]]] = {
    "voc": (register_voc, ("dirname",)),
    "coco": (register_coco, ("json_file", "image_root")),
    "yolo": (register_yolo, ("data_yaml",)),
}


def way_out(name: str, form: str, split: str = "SPLIT", **source: Any) -> str:
    """What to type where a data set of a format has moved."""
    spec = FORMATS[form].form.partition(" ")[0] if form in FORMATS else "NAME=FORMAT:..."
    return f"has it moved? --register {spec.replace('SPLIT', split).replace('NAME', name)}"


def _write_yolo(selection: Selection, dataset: str, folder: Path, load: LoadDataset) -> Path:
    """The list, and a `data.yaml` beside it that Ultralytics trains on as it is.

    Where the data has no labels in YOLO's form, these are written beside links to the pictures. Images with nothing but
    crowds are left out: without labels they would be background.
    """
    records = [record for record in _kept_records(selection, dataset, load) if not _has_only_crowds(record)]
    path = _write_lines(selection, dataset, folder, (os.path.abspath(record["file_name"]) for record in records))
    metadata = MetadataCatalog.get(dataset)
    source = read_data_yaml(metadata.data_yaml) if metadata.get("data_yaml") else None
    train = path if source else _link_pictures(records, folder / path.stem)
    class_names = source.class_names if source else metadata.thing_classes  # as the labels number them
    write_data_yaml(path.with_suffix(".yaml"), train, class_names, source)
    return path


def _has_only_crowds(record: Record) -> bool:
    annotations = record.get("annotations", [])
    return bool(annotations) and all(own.get("iscrowd", 0) for own in annotations)


def _link_pictures(records: Sequence[Record], folder: Path) -> Path:
    """Makes `images` with links to the pictures, and `labels` beside it; returns the first."""
    digits = len(str(len(records)))
    with new_folder(folder) as beside:
        for name in ("images", "labels"):
            (beside / name).mkdir()
        for number, record in enumerate(records):
            picture = Path(os.path.abspath(record["file_name"]))
            name = f"{number:0{digits}d}_{picture.name}"  # pictures of several folders may have one name
            (beside / "images" / name).symlink_to(picture)
            write_text(
                (beside / "labels" / name).with_suffix(".txt"), "".join(f"{line}\n" for line in label_lines(record))
            )
    return folder / "images"


def _write_voc(selection: Selection, dataset: str, folder: Path, load: LoadDataset) -> Path:
    records = _kept_records(selection, dataset, load)
    if source_of(dataset)["format"] == "voc":  # ids with the sub-folders they lie in
        return _write_lines(selection, dataset, folder, [record["image_id"] for record in records])
    stems = [Path(record["file_name"]).stem for record in records]
    if len(set(stems)) < len(stems):
        raise ValueError(f"{dataset}: images in several folders have the same file name; use another format")
    return _write_lines(selection, dataset, folder, stems)


def _write_coco(selection: Selection, dataset: str, folder: Path, load: LoadDataset) -> Path:
    """For a COCO data set its own JSON less what was pruned; else one whose `info` says what file names are relative to.

    That is the folder of all images, kept or not, so that names do not depend on what is kept.
    """
    source = selection.provenance.get("sources", {}).get(dataset, {"format": "other"})
    if dataset in DatasetCatalog:
        source = source_of(dataset)
    if source["format"] == "coco":
        return write_coco_json(selection, dataset, source["json_file"], folder)
    records = _file_records(dataset, load)
    image_root = os.path.dirname(os.path.commonprefix([record["file_name"] for record in records]))
    kept = filter_records(selection, dataset, records)
    content = coco_content(kept, MetadataCatalog.get(dataset).thing_classes, image_root)
    content["info"] = {"image_root": os.path.abspath(image_root)}
    path = folder / f"{pruned_name(dataset, selection)}.json"
    write_text(path, json.dumps(content))
    return path


def _write_fiftyone(selection: Selection, dataset: str, folder: Path, load: LoadDataset) -> Path:
    """A folder that FiftyOne reads: all images with their labels, kept and pruned ones tagged, the record's columns as fields.

    `fiftyone.Dataset.from_dir(FOLDER, fiftyone.types.FiftyOneDataset)`. The pictures stay where they are.
    """
    records = _file_records(dataset, load)
    check_fits(selection, dataset, records)
    names = MetadataCatalog.get(dataset).thing_classes
    rows = zip(selection.datasets, selection.ids, range(len(selection)))
    places = {image_id: i for name, image_id, i in rows if name == dataset}
    shown = [name for name in _FIELDS if name in selection.columns]
    samples = []
    for record in records:
        i = places[str(record["image_id"])]
        fields = {name: selection.columns[name][i] for name in shown}
        samples.append(
            {
                "filepath": os.path.abspath(record["file_name"]),
                "tags": ["kept" if selection.kept[i] else "pruned"],
                "image_id": str(record["image_id"]),
                "score": selection.scores[i],
                **{name: value for name, value in fields.items() if value not in ("", None)},
                "ground_truth": _fiftyone_label(record, names),
            }
        )
    path = folder / f"{pruned_name(dataset, selection)}_fiftyone"
    write_text(path / "samples.json", json.dumps({"samples": samples}))
    return path


_FIELDS = ("reason", "similar_to", "similarity", "suspicious_boxes", "final_loss", "corrected")


def _fiftyone_label(record: Record, names: Sequence[str]) -> dict[str, Any]:
    """A class, or boxes as left, top, width and height from 0 to 1."""
    if "category_id" in record:
        return {"_cls": "Classification", "label": names[record["category_id"]]}
    boxes = []
    for own in record.get("annotations", []):
        left, top, right, bottom = corners(own)
        size = record["width"], record["height"]
        box = [left / size[0], top / size[1], (right - left) / size[0], (bottom - top) / size[1]]
        crowd = {"iscrowd": True} if own.get("iscrowd") else {}
        boxes.append({"_cls": "Detection", "label": names[own["category_id"]], "bounding_box": box, **crowd})
    return {"_cls": "Detections", "detections": boxes}


def _write_weights(selection: Selection, dataset: str, folder: Path, load: LoadDataset) -> Path:
    """A CSV for those who sample by weight: image, kept (1 or 0: what the mask is in the end) and balanced.

    `balanced` is kept times the weight of the image's rarest class, the root of one over the share of kept images that
    have it (as LVIS's repeat factors, without their floor); its mean over the kept ones is 1.
    """
    column = CLASS_COLUMN if CLASS_COLUMN in selection.columns else RAREST_COLUMN
    if column not in selection.columns:
        raise ValueError(f"the selection lacks the column {column}, so that there is nothing to balance by: prune anew")
    rows = zip(selection.datasets, selection.ids, selection.kept, selection.columns[column])
    own = [(image_id, int(kept), cls) for name, image_id, kept, cls in rows if name == dataset]
    counts = Counter(cls for _, kept, cls in own if kept)
    weights = [kept / counts[cls] ** 0.5 if kept else 0.0 for _, kept, cls in own]
    mean = sum(weights) / max(1, sum(counts.values()))
    table = pd.DataFrame(
        {
            "image": [as_cell(image_id) for image_id, _, _ in own],
            "kept": [kept for _, kept, _ in own],
            "balanced": [round(weight / (mean or 1), 6) for weight in weights],
        }
    )
    path = folder / f"{pruned_name(dataset, selection)}_weights.csv"
    write_text(path, table.to_csv(index=False, lineterminator="\n"))
    return path


EXPORTS: dict[str, Callable[[Selection, str, Path, LoadDataset], Path]] = {
    "yolo": _write_yolo,
    "voc": _write_voc,
    "coco": _write_coco,
    "fiftyone": _write_fiftyone,
    "weights": _write_weights,
    "ids": lambda selection, dataset, folder, load: write_ids(selection, dataset, folder),
}


def _kept_records(selection: Selection, dataset: str, load: LoadDataset) -> Sequence[Record]:
    return filter_records(selection, dataset, _file_records(dataset, load))


def _file_records(dataset: str, load: LoadDataset) -> Sequence[Record]:
    """All records of a data set of image files."""
    if dataset not in DatasetCatalog:
        raise ValueError(
            f"data set {dataset} is not registered: name it, --register {dataset}=..., or the config the "
            "selection was made with"
        )
    records = load(dataset)
    if any("file_name" not in record or "member" in record for record in records):
        raise ValueError(f"the images of {dataset} are no files of their own: export ids")
    return records


def _write_lines(selection: Selection, dataset: str, folder: Path, lines: Iterable[str]) -> Path:
    path = folder / f"{pruned_name(dataset, selection)}.txt"
    write_text(path, "".join(f"{line}\n" for line in lines))
    return path
