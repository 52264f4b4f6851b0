"""Registers classification data with Detectron2, from Python or from a command line's spec."""

import os
from collections.abc import Callable, Sequence
from functools import partial

from detectron2.data import DatasetCatalog, MetadataCatalog

from .image_datasets import (
    TINY_IMAGENET,
    TORCHVISION_FOLDERS,
    find_class_names,
    load_images_dataset,
    load_tiny_imagenet,
    load_torchvision_dataset,
    read_tiny_imagenet_classes,
    tiny_imagenet_folder,
    torchvision_class_names,
)
from .registration import Format, check_same_metadata, find_path
from .validation import PathLike, check_on_invalid

__all__ = ["FORMATS", "register_images", "register_tiny_imagenet", "register_torchvision"]


def register_images(
    name: str, path: PathLike, class_names: Sequence[str] | None = None, on_invalid: str = "error"
) -> None:
    """Registers a folder of class folders, or a zip archive of one.

    The images are listed when the data set is first asked for. The metadata gets thing_classes, source
    (the path), on_invalid and evaluator_type "classification". Registering a name again with the same
    arguments does nothing.

    Args:
        name: the data set's name, for DATASETS.TRAIN and the like.
        path: see `load_images_dataset`.
        class_names: the folders to read, in the order of their category ids; all of them if not given.
        on_invalid: see `load_images_dataset`.

    Raises:
        ValueError: the name is taken by another data set, or the classes are not there.
        FileNotFoundError: `path` does not exist.
    """
    classes = find_class_names(path, class_names)
    load = partial(load_images_dataset, os.fspath(path), classes, on_invalid)
    _register(name, load, classes, on_invalid, source=os.fspath(path))


def register_torchvision(name: str, kind: str, root: PathLike, split: str, on_invalid: str = "error") -> None:
    """Registers a data set of torchvision; metadata as `register_images`, and split.

    Raises:
        FileNotFoundError, ValueError: see `load_torchvision_dataset`; or the name is taken.
    """
    classes = torchvision_class_names(kind, root, split)
    source = os.path.join(root, TORCHVISION_FOLDERS[kind])
    load = partial(load_torchvision_dataset, kind, os.fspath(root), split)
    _register(name, load, classes, on_invalid, source=source, split=split)


def register_tiny_imagenet(name: str, root: PathLike, split: str, on_invalid: str = "error") -> None:
    """Registers Tiny-ImageNet; metadata as `register_images`, and split.

    Raises:
        FileNotFoundError, ValueError: see `load_tiny_imagenet`; or the name is taken.
    """
    folder = tiny_imagenet_folder(root)
    if split not in ("train", "val"):
        raise ValueError(f"unknown split {split!r} of Tiny-ImageNet: train or val")
    classes = list(read_tiny_imagenet_classes(folder).values())
    load = partial(load_tiny_imagenet, folder, split, on_invalid)
    _register(name, load, classes, on_invalid, source=folder, split=split)


def _register(name: str, load: Callable[[], list[dict]], classes: list[str], on_invalid: str, **further: str) -> None:
    check_on_invalid(on_invalid)
    metadata: dict[str, object] = {
        "thing_classes": classes,
        "evaluator_type": "classification",
        "on_invalid": on_invalid,
        **further,
    }
    if name in DatasetCatalog:
        check_same_metadata(name, metadata)
        return
    # Metadata first: it may refuse, and a data set that is registered without it is worse than none.
    MetadataCatalog.get(name).set(**metadata)
    DatasetCatalog.register(name, load)


def _parts(description: str, least: int, most: int) -> list[str]:
    parts = [part.strip() for part in description.split(":")]
    if not least <= len(parts) <= most or not all(parts):
        raise ValueError("a part is missing or empty, or there is a ':' too many")
    return parts


def _register_images_spec(name: str, description: str, on_invalid: str) -> None:
    parts = _parts(description, 1, 2)
    class_names = [c.strip() for c in parts[1].split(",")] if len(parts) == 2 else None
    register_images(name, find_path(parts[0]), class_names, on_invalid)


def _register_torchvision_spec(name: str, description: str, on_invalid: str) -> None:
    kind, root, split = _parts(description, 3, 3)
    command = f"prepare_torchvision.py {kind}"
    register_torchvision(name, kind, _find_root(root, command), split, on_invalid)


def _register_tiny_imagenet_spec(name: str, description: str, on_invalid: str) -> None:
    root, split = _parts(description, 2, 2)
    # The script makes the tree below its --output.
    output = os.path.dirname(root) if os.path.basename(root) == TINY_IMAGENET else root
    command = "prepare_tiny_imagenet.py"
    register_tiny_imagenet(name, _find_root(root, command, output), split, on_invalid)


def _find_root(path: str, command: str, output: str | None = None) -> str:
    """`path`, or where `command` puts its data if it is told `output` (`path` itself, if None)."""
    try:
        return find_path(path)
    except FileNotFoundError as error:
        output = path if output is None else output
        option = f" --output {output}" if output else ""
        raise FileNotFoundError(f"{error}; or fetch it: python datasets/{command}{option}") from error


FORMATS = {
    "images": Format(
        "NAME=images:PATH or NAME=images:PATH:class1,class2,... (a folder of class folders, or a zip of one)",
        _register_images_spec,
    ),
    "torchvision": Format(
        f"NAME=torchvision:KIND:ROOT:SPLIT ({', '.join(TORCHVISION_FOLDERS)}; train or test)",
        _register_torchvision_spec,
    ),
    "tiny_imagenet": Format(
        f"NAME=tiny_imagenet:ROOT:SPLIT (the folder with {TINY_IMAGENET}; train or val)",
        _register_tiny_imagenet_spec,
    ),
}
