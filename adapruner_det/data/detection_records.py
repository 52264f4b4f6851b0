"""The records a detector trains on, and how they come with their index and random numbers."""

import logging
import os
import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog, DatasetFromList, MapDataset, MetadataCatalog
from detectron2.data.build import (
    check_metadata_consistency,
    print_instances_class_histogram,
)
from torch.utils.data import Dataset

from ..garbage import without_garbage_collection
from .pictures import inspect_picture, inspect_pictures
from .records import checked_records, training_records
from .serialized_records import Records, SerializedRecords, chosen_records
from .validation import Findings, Problem, Record
from .voc import load_voc_dataset

logger = logging.getLogger(__name__)

EMPTY_IMAGES = ("prune", "keep", "drop")


@without_garbage_collection()
def load_records(cfg: CfgNode) -> Sequence[Record]:
    """The dicts of DATASETS.TRAIN that DATASETS.SELECTION keeps; see `training_records`."""
    records = training_records(cfg, lambda name: load_dataset(name, cfg.DATASETS.ON_INVALID))
    check_metadata_consistency("thing_classes", cfg.DATASETS.TRAIN)
    objects = {"annotations": (own for record in records for own in record["annotations"])}
    # as one image: numpy's histogram of each takes longer than all else here
    print_instances_class_histogram([objects], MetadataCatalog.get(cfg.DATASETS.TRAIN[0]).thing_classes)
    return records


def load_dataset(name: str, on_invalid: str = "clip") -> Sequence[Record]:
    """The dataset dicts of one registered data set, each with its `dataset_name`.

    Detectron2's own VOC data sets are read by our reader, which reports all that is wrong at once. The pictures of data
    sets registered in another way are decoded here.

    Args:
        on_invalid: see `load_voc_dataset`; data sets that this package registers have their own.

    Raises:
        ValueError: the data has problems (InvalidDatasetError), holds no image, or an id twice.
    """
    records = labelled_records(name, on_invalid)
    return records if MetadataCatalog.get(name).get("on_invalid") else _with_good_pictures(name, records, on_invalid)


def labelled_records(name: str, on_invalid: str = "clip") -> Sequence[Record]:
    """The same, without a look at the pictures of other readers' data sets."""
    metadata = MetadataCatalog.get(name)
    if metadata.get("evaluator_type") == "classification":
        raise ValueError(
            f"data set {name} has classes of images and no boxes: use a config of a classifier, such as "
            "configs/cifar10/prune_small.yaml"
        )
    if {"dirname", "split", "year"} <= metadata.as_dict().keys() and not metadata.get("on_invalid"):
        dicts = load_voc_dataset(metadata.dirname, metadata.split, metadata.thing_classes, on_invalid)
    else:
        dicts = DatasetCatalog.get(name)
    return checked_records(name, dicts)


def _with_good_pictures(name: str, records: Sequence[Record], on_invalid: str) -> Sequence[Record]:
    """Those of a data set of another reader's, after looking at all pictures that are files here."""
    findings = Findings(on_invalid)
    local = [record for record in records if os.path.exists(record.get("file_name", ""))]
    inspect_pictures([record["file_name"] for record in local], f"Pictures of {name}")
    for record in local:
        file, image_id = record["file_name"], record["image_id"]
        try:
            picture = inspect_picture(file)
            size = (record["width"], record["height"]) if {"width", "height"} <= record.keys() else None
            fault = picture.size_fault(size, f"that of {file}")
            if fault:
                raise ValueError(fault)
        except ValueError as error:
            findings.add(image_id, Problem(file, str(error)), unusable=True)
        else:
            findings.note_picture(image_id, picture)
    make = SerializedRecords if isinstance(records, SerializedRecords) else list
    return findings.usable(records, len(records), f"data set {name}", make)


def check_keypoints(names: Sequence[str]) -> None:
    """Raises ValueError for a data set whose keypoints have no names; those registered here have none."""
    for name in names:
        if not MetadataCatalog.get(name).get("keypoint_names"):
            raise ValueError(
                f"MODEL.KEYPOINT_ON trains on keypoints, but data set {name} has none: set MODEL.KEYPOINT_ON False; a "
                "selection made by boxes serves a keypoint detector as well"
            )


def check_masks(records: Sequence[Record], mask_format: str) -> None:
    """Raises ValueError for an object without a segmentation, or with one of another format: Detectron2 names neither."""

    def masks_of(record: Record) -> list[Any]:
        return [a.get("segmentation") for a in record.get("annotations", []) if not a.get("iscrowd")]

    lacking = [record for record in records if not all(masks_of(record))]
    if lacking:
        raise ValueError(
            f"MODEL.MASK_ON trains on masks, but {len(lacking)} of {len(records)} images have objects "
            f"without segmentation, such as {lacking[0]['file_name']}: add masks, or set MODEL.MASK_ON False"
        )
    rle = [record for record in records if any(isinstance(mask, dict) for mask in masks_of(record))]
    if rle and mask_format != "bitmask":
        raise ValueError(
            f"{len(rle)} of {len(records)} images have masks as RLE, such as {rle[0]['file_name']}, and INPUT.MASK_FORMAT "
            f"is {mask_format}: add INPUT.MASK_FORMAT bitmask"
        )


def split_off_empty(records: Sequence[Record]) -> tuple[Sequence[Record], Sequence[Record]]:
    """(with boxes, without): images without a box that is no crowd, by Detectron2's own rule.

    Raises:
        ValueError: no image has a box.
    """
    with_boxes = [not all(map(_is_crowd, record["annotations"])) for record in records]
    if not any(with_boxes):
        raise ValueError(f"none of the {len(records)} images has a box to learn from")
    return _split(records, with_boxes)


def split_off_crowds(records: Sequence[Record]) -> tuple[Sequence[Record], Sequence[Record]]:
    """(to train on, the others): images whose only objects are crowds, which nothing is learnt from.

    Detectron2 leaves crowds out, and would train on such an image as if there was nothing in it.
    """
    crowds_only = [bool(r.get("annotations")) and all(map(_is_crowd, r["annotations"])) for r in records]
    if not any(crowds_only):
        return records, []
    logger.info(f"{sum(crowds_only)} images have crowds or ignored regions only; they are not trained on")
    return _split(records, [not own for own in crowds_only])


def _split(records: Records, first: list[bool]) -> tuple[Records, Records]:
    """Those for which one of N booleans is true, and the others."""
    return chosen_records(records, first), chosen_records(records, [not own for own in first])


def _is_crowd(annotation: Record) -> bool:
    return bool(annotation.get("iscrowd"))


def split_competing(records: Sequence[Record], empty_images: str) -> tuple[Sequence[Record], Sequence[Record]]:
    """(those a pruning method chooses among, the others), as ADAPRUNER.EMPTY_IMAGES says.

    Images whose only objects are crowds never compete.

    Raises:
        ValueError: `empty_images` is not one of EMPTY_IMAGES, or no image has a box.
    """
    if empty_images not in EMPTY_IMAGES:
        raise ValueError(f"ADAPRUNER.EMPTY_IMAGES is {empty_images!r}; it can be {', '.join(EMPTY_IMAGES)}")
    without_empty = split_off_empty(records)
    return split_off_crowds(records) if empty_images == "prune" else without_empty


class _Numbered(Dataset[Record]):
    """Records with their `image_index`."""

    def __init__(self, records: Any):
        self._records = records

    def __len__(self) -> int:
        return len(self._records)

    def __getitem__(self, index: int) -> Record:
        return {**self._records[index], "image_index": index}


class NumberedRecords(Dataset[Record]):
    """Mapped records with their `image_index`, augmented with random numbers of each draw's own.

    So what a draw looks like depends on the seed and its number, not on the worker or the run it happens in. Where the
    mapper refuses a record, Detectron2's MapDataset replaces it by another.
    """

    def __init__(self, records: Sequence[Record], mapper: Callable[[Record], Record], seed: int):
        held = records if isinstance(records, SerializedRecords) else DatasetFromList(list(records))
        self._mapped = MapDataset(_Numbered(held), mapper)
        self._seed = seed

    def __len__(self) -> int:
        return len(self._mapped)

    def __getitem__(self, numbered: int) -> Record:
        draw, index = divmod(numbered, len(self))
        with _random_numbers_from(np.random.SeedSequence([self._seed, draw])):
            mapped: Record = self._mapped[index]
            return mapped


@contextmanager
def _random_numbers_from(sequence: np.random.SeedSequence) -> Iterator[None]:
    """Seeds the generators augmentations draw from, and gives their former states back."""
    states = random.getstate(), np.random.get_state(), torch.get_rng_state()
    seed = int(sequence.generate_state(1)[0])
    random.seed(seed)
    np.random.seed(seed)
    torch.default_generator.manual_seed(seed)  # not torch.manual_seed: that seeds the GPU as well
    try:
        yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])
        torch.set_rng_state(states[2])
