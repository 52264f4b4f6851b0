"""Registers users' own datasets with Detectron2, from Python or from a command line's spec."""

import os
from functools import partial
from pathlib import Path
from typing import Callable, Dict, NamedTuple, Optional, Sequence

from detectron2.data import DatasetCatalog, MetadataCatalog

from .voc import PathLike, check_on_invalid, collect_class_names, load_voc_dataset, read_image_set

__all__ = ["register_from_spec", "register_voc"]


def register_voc(
    name: str,
    dirname: PathLike,
    split: str,
    class_names: Optional[Sequence[str]] = None,
    on_invalid: str = "error",
) -> None:
    """Registers one split of a PASCAL VOC folder.

    The images are read when Detectron2 first asks for the dataset. The metadata gets thing_classes,
    dirname, split, on_invalid (for an evaluator that has to judge by the same objects),
    evaluator_type "pascal_voc", and year: 2012 whatever the data, which means the area under the
    curve rather than 11-point AP, to Detectron2's own `PascalVOCDetectionEvaluator` (it insists on
    one of 2007 and 2012) as well as to ours.

    Registering a name again with the same arguments does nothing.

    Args:
        name: the dataset's name, for DATASETS.TRAIN and the like.
        dirname: the VOC folder.
        split: name of the list in `ImageSets/Main`, without `.txt`.
        class_names: in the order of their category ids; collected at once from all of the
            folder's annotations if not given.
        on_invalid: see `load_voc_dataset`.

    Raises:
        ValueError: the name is taken by another dataset, class names repeat or are missing, or
            `on_invalid` is unknown.
        FileNotFoundError: class names have to be collected and there is no `Annotations` folder.
    """
    check_on_invalid(on_invalid)
    classes = collect_class_names(dirname) if class_names is None else list(class_names)
    if not classes or len(set(classes)) < len(classes):
        raise ValueError(f"dataset {name!r}: class names are missing or repeat: {classes}")
    metadata = {
        "thing_classes": classes,
        "dirname": os.fspath(dirname),
        "split": split,
        "on_invalid": on_invalid,
        "year": 2012,
        "evaluator_type": "pascal_voc",
    }
    if name in DatasetCatalog:
        _check_same(name, metadata)
        return
    # Metadata first: it may refuse, and a dataset that is registered without it is worse than none.
    MetadataCatalog.get(name).set(**metadata)
    DatasetCatalog.register(
        name, partial(load_voc_dataset, metadata["dirname"], split, classes, on_invalid)
    )


def register_from_spec(spec: str, on_invalid: str = "error") -> str:
    """Registers a dataset that is described by one string, as in `--register NAME=voc:DIR:SPLIT`.

    `~` and `$VARIABLES` in DIR are expanded. If DIR does not exist as given, it is looked up in
    Detectron2's dataset folder: `$DETECTRON2_DATASETS`, by default `datasets`.

    Args:
        spec: `NAME=voc:DIR:SPLIT` or `NAME=voc:DIR:SPLIT:class1,class2,...`.
        on_invalid: see `load_voc_dataset`.

    Returns:
        NAME.

    Raises:
        ValueError: the spec cannot be understood or what it describes cannot be registered; names
            the spec and shows the right form.
    """
    name, _, description = spec.partition("=")
    kind, _, rest = description.strip().partition(":")
    known = _FORMATS.get(kind)
    try:
        if not name.strip():
            raise ValueError("NAME is empty")
        if known is None:
            raise ValueError(f"unknown format {kind!r}")
        known.register(name, rest, on_invalid)
    except (ValueError, OSError) as error:
        forms = [known.form] if known else [entry.form for entry in _FORMATS.values()]
        raise ValueError(
            f"cannot register dataset {spec!r}: {error}\nThe right form: {' or '.join(forms)}"
        ) from error
    return name


def _register_voc_spec(name: str, description: str, on_invalid: str) -> None:
    parts = [part.strip() for part in description.split(":")]
    if len(parts) not in (2, 3) or not all(parts):
        raise ValueError("DIR or SPLIT is missing, or there is a ':' too many")
    dirname, split = _find_folder(parts[0]), parts[1]
    class_names = [c.strip() for c in parts[2].split(",")] if len(parts) == 3 else None
    if class_names and not all(class_names):
        raise ValueError("a class name is empty")
    # A mistyped test split should not come to light only after the training.
    read_image_set(dirname, split)
    register_voc(name, dirname, split, class_names, on_invalid)


def _find_folder(dirname: str) -> str:
    given = Path(os.path.expandvars(dirname)).expanduser()
    root = Path(os.getenv("DETECTRON2_DATASETS", "datasets")).expanduser()
    for folder in (given, root / given):
        if folder.is_dir():
            return str(folder)
    raise FileNotFoundError(
        f"there is no folder {given}, nor {root / given}: give a path, or set DETECTRON2_DATASETS to "
        "the folder it lies in"
    )


def _check_same(name: str, metadata: Dict[str, object]) -> None:
    present = MetadataCatalog.get(name).as_dict()
    differences = [
        f"{key} {present.get(key)!r}, now {value!r}"
        for key, value in metadata.items()
        if present.get(key) != value
    ]
    if differences:
        raise ValueError(
            f"dataset {name!r} is already registered with {'; '.join(differences)}. Choose another "
            "name."
        )


class _Format(NamedTuple):
    """How to register from the part of a spec that follows `NAME=<format>:`."""

    form: str
    register: Callable[[str, str, str], None]


_FORMATS = {
    "voc": _Format(
        "NAME=voc:DIR:SPLIT or NAME=voc:DIR:SPLIT:class1,class2,...", _register_voc_spec
    ),
}
