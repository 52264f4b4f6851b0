"""Registers classification data with Detectron2, from a command line's spec.

The images are listed when a data set is first asked for. Its metadata has thing_classes, evaluator_type
"classification", source (a path), on_invalid, and split where there is one. Registering a name again as
before does nothing.
"""

import os
from collections.abc import Callable
from functools import partial

from .image_datasets import TORCHVISION_FOLDERS, load_torchvision_dataset, read_torchvision
from .image_folders import find_class_names, load_images_dataset
from .registration import Format, find_path, register
from .validation import Record, check_on_invalid


def _register(name: str, load: Callable[[], list[Record]], classes: list[str], on_invalid: str, **further: str) -> None:
    check_on_invalid(on_invalid)
    metadata = {"thing_classes": classes, "evaluator_type": "classification", "on_invalid": on_invalid, **further}
    register(name, metadata, load)


def _register_images(name: str, description: str, on_invalid: str) -> None:
    parts = _parts(description, 1, 2)
    path = find_path(parts[0])
    classes = find_class_names(path, [c.strip() for c in parts[1].split(",")] if len(parts) == 2 else None)
    _register(name, partial(load_images_dataset, path, classes, on_invalid), classes, on_invalid, source=path)


def _register_torchvision(name: str, description: str, on_invalid: str) -> None:
    kind, root, split = _parts(description, 3, 3)
    try:
        root = find_path(root)
    except FileNotFoundError as error:
        command = f"python datasets/prepare_torchvision.py {kind} --output {root}"
        raise FileNotFoundError(f"{error}; or fetch it: {command}") from error
    classes = list(read_torchvision(kind, root, split).classes)
    source = os.path.join(root, TORCHVISION_FOLDERS[kind])
    load = partial(load_torchvision_dataset, kind, root, split)
    _register(name, load, classes, on_invalid, source=source, split=split)


def _refuse_tiny_imagenet(name: str, description: str, on_invalid: str) -> None:
    raise ValueError(
        "Tiny-ImageNet is now a folder of class folders, as python datasets/prepare_tiny_imagenet.py makes it"
    )


def _parts(description: str, least: int, most: int) -> list[str]:
    parts = [part.strip() for part in description.split(":")]
    if not least <= len(parts) <= most or not all(parts):
        raise ValueError("a part is missing or empty, or there is a ':' too many")
    return parts


_IMAGES = "NAME=images:PATH or NAME=images:PATH:class1,class2,... (a folder of class folders, or a zip of one)"
_TORCHVISION = f"NAME=torchvision:KIND:ROOT:SPLIT ({', '.join(TORCHVISION_FOLDERS)}; train or test)"
FORMATS = {
    "images": Format(_IMAGES, _register_images),
    "torchvision": Format(_TORCHVISION, _register_torchvision),
    "tiny_imagenet": Format("NAME=images:tiny-imagenet-200/SPLIT (train or val)", _refuse_tiny_imagenet),
}
