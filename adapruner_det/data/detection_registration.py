"""Registers users' own VOC, COCO and YOLO data with Detectron2, from Python or from a command line's spec."""

import os
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from .coco import contiguous_ids, load_coco_dataset, read_categories
from .registration import Format, find_path, register
from .validation import PathLike, Record, check_on_invalid
from .voc import collect_class_names, load_voc_dataset, read_image_set
from .yolo import list_pictures, load_yolo_dataset, read_data_yaml


def register_voc(
    name: str, dirname: PathLike, split: str, class_names: Sequence[str] | None = None, on_invalid: str = "clip"
) -> None:
    """Registers one split of a PASCAL VOC folder, whose images are read when Detectron2 first asks for them.

    Arguments are those of `load_voc_dataset`; without `class_names`, those of all annotations are collected at once.
    The metadata has year 2012 whatever the data: to Detectron2's evaluator and to ours that is the area under the
    curve, not 11-point AP. Registering again the same does nothing.

    Raises:
        ValueError: the name is taken by another dataset, class names repeat or are missing, or `on_invalid` is unknown.
        FileNotFoundError: class names have to be collected and there is no `Annotations` folder.
    """
    check_on_invalid(on_invalid)
    dirname = os.fspath(dirname)
    classes = collect_class_names(dirname) if class_names is None else list(class_names)
    metadata = {
        "thing_classes": classes,
        "dirname": dirname,
        "split": split,
        "on_invalid": on_invalid,
        "year": 2012,
        "evaluator_type": "pascal_voc",
    }
    _register(name, metadata, partial(load_voc_dataset, dirname, split, classes, on_invalid))


def register_coco(
    name: str,
    json_file: PathLike,
    image_root: PathLike,
    class_names: Sequence[str] | None = None,
    on_invalid: str = "clip",
) -> None:
    """Registers a data set in COCO's JSON format; its images are looked at when Detectron2 first asks for it.

    Arguments are those of `load_coco_dataset`; without `class_names`, the file's are taken in the order of their ids.
    The metadata is that of Detectron2's `register_coco_instances`, and on_invalid.

    Raises:
        ValueError: the name is taken by another dataset, class names repeat or are missing, the file is no COCO file,
            or `on_invalid` is unknown.
        FileNotFoundError: there is no such file.
    """
    check_on_invalid(on_invalid)
    json_file, image_root = os.fspath(json_file), os.fspath(image_root)
    categories = read_categories(json_file)
    classes = list(categories.values()) if class_names is None else list(class_names)
    metadata = {
        "thing_classes": classes,
        "thing_dataset_id_to_contiguous_id": contiguous_ids(categories, classes),
        "json_file": json_file,
        "image_root": image_root,
        "on_invalid": on_invalid,
        "evaluator_type": "coco",
    }
    _register(name, metadata, partial(load_coco_dataset, json_file, image_root, classes, on_invalid))


def register_yolo(
    name: str, data_yaml: PathLike, split: str, class_names: Sequence[str] | None = None, on_invalid: str = "clip"
) -> None:
    """Registers a split of a YOLO `data.yaml`; its labels are read when Detectron2 first asks for them.

    Arguments are those of `load_yolo_dataset`; without `class_names`, those of the file are taken.

    Raises:
        ValueError, FileNotFoundError: as `register_coco`.
    """
    check_on_invalid(on_invalid)
    data_yaml = os.fspath(data_yaml)
    classes = read_data_yaml(data_yaml).class_names if class_names is None else list(class_names)
    metadata = {
        "thing_classes": classes,
        "data_yaml": data_yaml,
        "split": split,
        "on_invalid": on_invalid,
        "evaluator_type": "pascal_voc",
    }
    _register(name, metadata, partial(load_yolo_dataset, data_yaml, split, classes, on_invalid))


def _register(name: str, metadata: dict[str, Any], load: Callable[[], list[Record]]) -> None:
    classes = metadata["thing_classes"]
    if not classes or len(set(classes)) < len(classes):
        raise ValueError(f"dataset {name!r}: class names are missing or repeat: {classes}")
    register(name, metadata, load)


def _register_voc_spec(name: str, description: str, on_invalid: str) -> None:
    dirname, split, class_names = _three_parts(description, "DIR or SPLIT")
    dirname = find_path(dirname)
    # A mistyped test split should not come to light only after the training.
    read_image_set(dirname, split)
    register_voc(name, dirname, split, class_names, on_invalid)


def _register_coco_spec(name: str, description: str, on_invalid: str) -> None:
    json_file, image_root, class_names = _three_parts(description, "FILE.json or IMAGE_DIR")
    json_file, image_root = find_path(json_file), find_path(image_root)
    if not os.path.isfile(json_file) or not os.path.isdir(image_root):
        raise ValueError(f"{json_file} is no file, or {image_root} is no folder")
    register_coco(name, json_file, image_root, class_names, on_invalid)


def _register_yolo_spec(name: str, description: str, on_invalid: str) -> None:
    data_yaml, split, class_names = _three_parts(description, "data.yaml or SPLIT")
    data_yaml = find_path(data_yaml)
    if os.path.isdir(data_yaml):
        data_yaml = os.path.join(data_yaml, "data.yaml")
    list_pictures(read_data_yaml(data_yaml), split)
    register_yolo(name, data_yaml, split, class_names, on_invalid)


def _three_parts(description: str, first_two: str) -> tuple[str, str, list[str] | None]:
    parts = [part.strip() for part in description.split(":")]
    if len(parts) not in (2, 3) or not all(parts):
        raise ValueError(f"{first_two} is missing, or there is a ':' too many")
    class_names = [c.strip() for c in parts[2].split(",")] if len(parts) == 3 else None
    if class_names and not all(class_names):
        raise ValueError("a class name is empty")
    return parts[0], parts[1], class_names


FORMATS = {
    "voc": Format("NAME=voc:DIR:SPLIT or NAME=voc:DIR:SPLIT:class1,class2,...", _register_voc_spec),
    "coco": Format(
        "NAME=coco:FILE.json:IMAGE_DIR or NAME=coco:FILE.json:IMAGE_DIR:class1,class2,...", _register_coco_spec
    ),
    "yolo": Format("NAME=yolo:data.yaml:SPLIT or NAME=yolo:data.yaml:SPLIT:class1,class2,...", _register_yolo_spec),
}
