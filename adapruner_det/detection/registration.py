"""Registers users' own detection data with Detectron2, from Python or from a command line's spec."""

import os
from functools import partial
from typing import Optional, Sequence

from detectron2.data import DatasetCatalog, MetadataCatalog

from ..data.specs import Format, check_same_metadata, find_path
from .voc import PathLike, check_on_invalid, collect_class_names, load_voc_dataset, read_image_set

__all__ = ["FORMATS", "register_voc"]


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
        check_same_metadata(name, metadata)
        return
    # Metadata first: it may refuse, and a dataset that is registered without it is worse than none.
    MetadataCatalog.get(name).set(**metadata)
    DatasetCatalog.register(
        name, partial(load_voc_dataset, metadata["dirname"], split, classes, on_invalid)
    )


def _register_voc_spec(name: str, description: str, on_invalid: str) -> None:
    parts = [part.strip() for part in description.split(":")]
    if len(parts) not in (2, 3) or not all(parts):
        raise ValueError("DIR or SPLIT is missing, or there is a ':' too many")
    dirname, split = find_path(parts[0]), parts[1]
    class_names = [c.strip() for c in parts[2].split(",")] if len(parts) == 3 else None
    if class_names and not all(class_names):
        raise ValueError("a class name is empty")
    # A mistyped test split should not come to light only after the training.
    read_image_set(dirname, split)
    register_voc(name, dirname, split, class_names, on_invalid)


FORMATS = {
    "voc": Format(
        "NAME=voc:DIR:SPLIT or NAME=voc:DIR:SPLIT:class1,class2,...", _register_voc_spec
    ),
}
