"""The formats of `--register NAME=<format>:...`, each with the function that registers its data with Detectron2.

Images are read when a data set is first asked for. The metadata has `thing_classes`, `evaluator_type`, `on_invalid` and
what tells where the data is. Registering again the same does nothing.
"""

import os
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from .coco import contiguous_ids, load_coco_dataset, read_categories
from .image_datasets import TORCHVISION_FOLDERS, load_torchvision_dataset, read_torchvision
from .image_folders import find_class_names, load_images_dataset
from .registration import Format, find_path, register
from .validation import PathLike, Record, check_on_invalid
from .voc import collect_class_names, load_voc_dataset, read_image_set
from .yolo import list_pictures, load_yolo_dataset, read_data_yaml


def register_voc(
    name: str, dirname: PathLike, split: str, class_names: Sequence[str] | None = None, on_invalid: str = "clip"
) -> None:
    """Registers one split of a PASCAL VOC folder.

    Arguments are those of `load_voc_dataset`; without `class_names`, those of all annotations are collected at once.
    The metadata has year 2012 whatever the data: to Detectron2's evaluator and to ours that is the area under the
    curve, not 11-point AP.

    Raises:
        ValueError: the name is taken by another dataset, class names repeat or are missing, or `on_invalid` is unknown.
        FileNotFoundError: class names have to be collected and there is no `Annotations` folder.
    """
    dirname = os.fspath(dirname)
    classes = collect_class_names(dirname) if class_names is None else list(class_names)
    load = partial(load_voc_dataset, dirname, split, classes, on_invalid)
    _register(name, load, classes, on_invalid, "pascal_voc", dirname=dirname, split=split, year=2012)


def register_coco(
    name: str,
    json_file: PathLike,
    image_root: PathLike,
    class_names: Sequence[str] | None = None,
    on_invalid: str = "clip",
) -> None:
    """Registers a data set in COCO's JSON format.

    Arguments are those of `load_coco_dataset`; without `class_names`, the file's are taken in the order of their ids.
    The metadata is that of Detectron2's `register_coco_instances`, and on_invalid.

    Raises:
        ValueError: the name is taken by another dataset, class names repeat or are missing, the file is no COCO file,
            or `on_invalid` is unknown.
        FileNotFoundError: there is no such file.
    """
    json_file, image_root = os.fspath(json_file), os.fspath(image_root)
    categories = read_categories(json_file)
    classes = list(categories.values()) if class_names is None else list(class_names)
    where = {"json_file": json_file, "image_root": image_root}
    numbers = contiguous_ids(categories, classes)
    load = partial(load_coco_dataset, json_file, image_root, classes, on_invalid)
    _register(name, load, classes, on_invalid, "coco", thing_dataset_id_to_contiguous_id=numbers, **where)


def register_yolo(
    name: str, data_yaml: PathLike, split: str, class_names: Sequence[str] | None = None, on_invalid: str = "clip"
) -> None:
    """Registers a split of a YOLO `data.yaml`.

    Arguments are those of `load_yolo_dataset`; without `class_names`, those of the file are taken.

    Raises:
        ValueError, FileNotFoundError: as `register_coco`.
    """
    data_yaml = os.fspath(data_yaml)
    classes = read_data_yaml(data_yaml).class_names if class_names is None else list(class_names)
    load = partial(load_yolo_dataset, data_yaml, split, classes, on_invalid)
    _register(name, load, classes, on_invalid, "pascal_voc", data_yaml=data_yaml, split=split)


def _register(
    name: str, load: Callable[[], Sequence[Record]], classes: list[str], on_invalid: str, evaluator: str, **where: Any
) -> None:
    check_on_invalid(on_invalid)
    if not classes or len(set(classes)) < len(classes):
        raise ValueError(f"dataset {name!r}: class names are missing or repeat: {classes}")
    metadata = {"thing_classes": classes, "on_invalid": on_invalid, "evaluator_type": evaluator, **where}
    register(name, metadata, load)


def _voc(name: str, description: str, on_invalid: str) -> None:
    dirname, split, class_names = _parts(description, "DIR or SPLIT", 2)
    dirname = find_path(dirname)
    # A mistyped test split should not come to light only after the training.
    read_image_set(dirname, split)
    register_voc(name, dirname, split, class_names, on_invalid)


def _coco(name: str, description: str, on_invalid: str) -> None:
    json_file, image_root, class_names = _parts(description, "FILE.json or IMAGE_DIR", 2)
    json_file, image_root = find_path(json_file), find_path(image_root)
    if not os.path.isfile(json_file) or not os.path.isdir(image_root):
        raise ValueError(f"{json_file} is no file, or {image_root} is no folder")
    register_coco(name, json_file, image_root, class_names, on_invalid)


def _yolo(name: str, description: str, on_invalid: str) -> None:
    data_yaml, split, class_names = _parts(description, "data.yaml or SPLIT", 2)
    data_yaml = find_path(data_yaml)
    if os.path.isdir(data_yaml):
        data_yaml = os.path.join(data_yaml, "data.yaml")
    list_pictures(read_data_yaml(data_yaml), split)
    register_yolo(name, data_yaml, split, class_names, on_invalid)


def _images(name: str, description: str, on_invalid: str) -> None:
    path, class_names = _parts(description, "PATH", 1)
    path = find_path(path)
    classes = find_class_names(path, class_names)
    load = partial(load_images_dataset, path, classes, on_invalid)
    _register(name, load, classes, on_invalid, "classification", source=path)


def _torchvision(name: str, description: str, on_invalid: str) -> None:
    kind, root, split, _ = _parts(description, "KIND, ROOT or SPLIT", 3)
    try:
        root = find_path(root)
    except FileNotFoundError as error:
        command = f"python datasets/prepare_torchvision.py {kind} --output {root}"
        raise FileNotFoundError(f"{error}; or fetch it: {command}") from error
    classes = list(read_torchvision(kind, root, split).classes)
    load, source = partial(load_torchvision_dataset, kind, root, split), os.path.join(root, TORCHVISION_FOLDERS[kind])
    _register(name, load, classes, on_invalid, "classification", source=source, split=split)


def _parts(description: str, names: str, number: int) -> list[Any]:
    """So many parts of a description, and the class names behind them; None for none."""
    parts: list[Any] = [part.strip() for part in description.split(":")]
    if not number <= len(parts) <= number + 1 or not all(parts):
        raise ValueError(f"{names} is missing, or there is a ':' too many")
    class_names = [name.strip() for name in parts.pop().split(",")] if len(parts) > number else None
    if class_names and not all(class_names):
        raise ValueError("a class name is empty")
    return [*parts, class_names]


_CLASSES = ":class1,class2,..."
FORMATS = {
    "voc": Format(f"NAME=voc:DIR:SPLIT or NAME=voc:DIR:SPLIT{_CLASSES}", _voc),
    "coco": Format(f"NAME=coco:FILE.json:IMAGE_DIR or NAME=coco:FILE.json:IMAGE_DIR{_CLASSES}", _coco),
    "yolo": Format(f"NAME=yolo:data.yaml:SPLIT or NAME=yolo:data.yaml:SPLIT{_CLASSES}", _yolo),
    "images": Format(
        f"NAME=images:PATH or NAME=images:PATH{_CLASSES} (a folder of class folders, or a zip of one)", _images
    ),
    "torchvision": Format(
        f"NAME=torchvision:KIND:ROOT:SPLIT ({', '.join(TORCHVISION_FOLDERS)}; train or test)", _torchvision
    ),
}
