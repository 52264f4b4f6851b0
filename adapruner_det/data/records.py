"""The records of registered data sets: dicts, each with the name of its data set and an id in it."""

import itertools
from collections import Counter
from collections.abc import Callable

from detectron2.config import CfgNode
from detectron2.data import MetadataCatalog

from ..pruning.names import check_names, check_texts
from .pruned_datasets import apply_selection
from .validation import Record


def checked_records(name: str, dicts: list[Record]) -> list[Record]:
    """The dicts with their `dataset_name`, so that (dataset_name, image_id) is an image's identity.

    Raises:
        ValueError: no image in it, or an id twice; a name that cannot be part of a file name; an id, a file name or a
            class with a line break or control characters.
    """
    if not dicts:
        raise ValueError(f"data set {name} holds no image")
    times = Counter(record["image_id"] for record in dicts)
    twice = [image_id for image_id, count in times.most_common(5) if count > 1]
    if twice:
        raise ValueError(f"data set {name}: image ids that occur more than once: {twice}")
    check_names("data set", [name])
    check_texts(f"data set {name}: image id", (str(record["image_id"]) for record in dicts))
    check_texts(f"data set {name}: file name", (record["file_name"] for record in dicts if "file_name" in record))
    check_texts(f"data set {name}: class", MetadataCatalog.get(name).get("thing_classes") or ())
    return [{**record, "dataset_name": name} for record in dicts]


def training_records(cfg: CfgNode, load_dataset: Callable[[str], list[Record]]) -> list[Record]:
    """All records of DATASETS.TRAIN that DATASETS.SELECTION keeps.

    Raises:
        ValueError: no data set named; and what `load_dataset` and `apply_selection` raise.
    """
    if not cfg.DATASETS.TRAIN:
        raise ValueError("DATASETS.TRAIN names no data set to train on")
    by_name = {name: load_dataset(name) for name in cfg.DATASETS.TRAIN}
    if cfg.DATASETS.SELECTION:
        by_name = apply_selection(cfg.DATASETS.SELECTION, by_name)
    return list(itertools.chain.from_iterable(by_name.values()))
