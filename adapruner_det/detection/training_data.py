"""The records a detector trains on, and the order they come in."""
import itertools
import random
from collections import Counter
from contextlib import contextmanager
from typing import Callable, Iterator, List, Tuple

import numpy as np
import torch
from detectron2.data import DatasetCatalog, DatasetFromList, MapDataset, MetadataCatalog
from detectron2.data.build import (
    check_metadata_consistency,
    filter_images_with_only_crowd_annotations,
    print_instances_class_histogram,
)
from detectron2.data.samplers import TrainingSampler
from torch.utils.data import Dataset

from .pruned_datasets import apply_selection
from .voc import load_voc_dataset

EMPTY_IMAGES = ("prune", "keep", "drop")


def load_records(cfg) -> List[dict]:
    """All dataset dicts of DATASETS.TRAIN that DATASETS.SELECTION keeps.

    Each gets `dataset_name`, so that (dataset_name, image_id) is its identity.

    Raises:
        ValueError: no data set named, an image id twice in one, or an id that is missing.
    """
    if not cfg.DATASETS.TRAIN:
        raise ValueError("DATASETS.TRAIN names no data set to train on")
    by_name = {name: load_dataset(name, cfg.DATASETS.ON_INVALID) for name in cfg.DATASETS.TRAIN}
    if cfg.DATASETS.SELECTION:
        by_name = apply_selection(cfg.DATASETS.SELECTION, by_name)
    check_metadata_consistency("thing_classes", cfg.DATASETS.TRAIN)
    records = list(itertools.chain.from_iterable(by_name.values()))
    print_instances_class_histogram(records, MetadataCatalog.get(cfg.DATASETS.TRAIN[0]).thing_classes)
    return records


def load_dataset(name: str, on_invalid: str = "error") -> List[dict]:
    """The dataset dicts of one registered data set, each with its `dataset_name`.

    Detectron2's own VOC data sets are read by our reader, which reports all that is wrong at once.

    Args:
        on_invalid: see `load_voc_dataset`; data sets of `register_voc` have their own.

    Raises:
        InvalidDatasetError: with all problems of a VOC data set.
        ValueError: no image in it, or an id twice.
    """
    metadata = MetadataCatalog.get(name)
    if {"dirname", "split", "year"} <= metadata.as_dict().keys() and not metadata.get("on_invalid"):
        dicts = load_voc_dataset(metadata.dirname, metadata.split, metadata.thing_classes, on_invalid)
    else:
        dicts = DatasetCatalog.get(name)
    if not dicts:
        raise ValueError(f"data set {name} holds no image")
    times = Counter(record["image_id"] for record in dicts)
    twice = [image_id for image_id, count in times.most_common(5) if count > 1]
    if twice:
        raise ValueError(f"data set {name}: image ids that occur more than once: {twice}")
    return [{**record, "dataset_name": name} for record in dicts]


def split_off_empty(records: List[dict]) -> Tuple[List[dict], List[dict]]:
    """(with boxes, without): images without a box that is no crowd, by Detectron2's own rule.

    Raises:
        ValueError: no image has a box.
    """
    with_boxes = filter_images_with_only_crowd_annotations(records)
    if not with_boxes:
        raise ValueError(f"none of the {len(records)} images has a box to learn from")
    ours = {id(record) for record in with_boxes}
    return with_boxes, [record for record in records if id(record) not in ours]


def split_competing(records: List[dict], empty_images: str) -> Tuple[List[dict], List[dict]]:
    """(those a pruning method chooses among, the others), as ADAPRUNER.EMPTY_IMAGES says.

    Raises:
        ValueError: `empty_images` is not one of EMPTY_IMAGES.
    """
    if empty_images not in EMPTY_IMAGES:
        raise ValueError(
            f"ADAPRUNER.EMPTY_IMAGES is {empty_images!r}; it can be {', '.join(EMPTY_IMAGES)}"
        )
    return (records, []) if empty_images == "prune" else split_off_empty(records)


class ResumableSampler(TrainingSampler):
    """Detectron2's endless stream of permutations, able to start where an earlier run stopped.

    It yields draw * size + index, where `draw` counts the images drawn by all processes since
    iteration 0; `NumberedRecords` takes the two apart. `start` is the first draw.
    """

    start = 0

    def __iter__(self) -> Iterator[int]:
        drawn = itertools.islice(
            enumerate(self._infinite_indices()), self.start + self._rank, None, self._world_size
        )
        for draw, index in drawn:
            yield draw * self._size + index


class NumberedRecords(Dataset):
    """Mapped records with their `image_index`, augmented with random numbers of each draw's own.

    So what a draw looks like depends on the seed and its number, not on the worker or the run it
    happens in. A record the mapper refuses (by returning None) is replaced by Detectron2's
    MapDataset; the one that comes brings its own `image_index`.
    """

    def __init__(self, records: List[dict], mapper: Callable[[dict], dict], seed: int):
        numbered = [{**record, "image_index": i} for i, record in enumerate(records)]
        self._mapped = MapDataset(DatasetFromList(numbered), mapper)
        self._seed = seed

    def __len__(self) -> int:
        return len(self._mapped)

    def __getitem__(self, numbered: int) -> dict:
        draw, index = divmod(numbered, len(self))
        with _random_numbers_from(np.random.SeedSequence([self._seed, draw])):
            return self._mapped[index]


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
