"""The records of registered data sets: dicts, each with the name of its data set and an id in it."""

import itertools
from collections import Counter
from collections.abc import Callable, Sequence

from detectron2.config import CfgNode
from detectron2.data import MetadataCatalog

from ..pruning.names import check_names, check_texts
from .pruned_datasets import apply_selection
from .serialized_records import SerializedRecords
from .validation import Record


def checked_records(name: str, dicts: Sequence[Record]) -> Sequence[Record]:
    """The dicts with their `dataset_name`, so that (dataset_name, image_id) is an image's identity.

    Raises:
        ValueError: no image in it, or an id twice; a name that cannot be part of a file name; an id, a file name or a
            class with a line break or control characters.
    """
    if not dicts:
        raise ValueError(f"data set {name} holds no image")
    ids, files = zip(*((record["image_id"], record.get("file_name", "")) for record in dicts))
    twice = [image_id for image_id, count in Counter(ids).most_common(5) if count > 1]
    if twice:
        raise ValueError(f"data set {name}: image ids that occur more than once: {twice}")
    check_names("data set", [name])
    check_texts(f"data set {name}: image id", map(str, ids))
    check_texts(f"data set {name}: file name", files)
    check_texts(f"data set {name}: class", MetadataCatalog.get(name).get("thing_classes") or ())
    if isinstance(dicts, SerializedRecords):
        return dicts.with_common(dataset_name=name)
    return [{**record, "dataset_name": name} for record in dicts]


def training_records(cfg: CfgNode, load_dataset: Callable[[str], Sequence[Record]]) -> Sequence[Record]:
    """All records of DATASETS.TRAIN that DATASETS.SELECTION keeps.

    Raises:
        ValueError: no data set named; and what `load_dataset` and `apply_selection` raise.
    """
    if not cfg.DATASETS.TRAIN:
        raise ValueError("DATASETS.TRAIN names no data set to train on")
    by_name = {name: load_dataset(name) for name in cfg.DATASETS.TRAIN}
    if cfg.DATASETS.SELECTION:
        by_name = apply_selection(cfg.DATASETS.SELECTION, by_name)
    if len(by_name) == 1:
        return next(iter(by_name.values()))
    return list(itertools.chain.from_iterable(by_name.values()))
