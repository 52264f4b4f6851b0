"""The records a detector trains on, and the order they come in."""
import itertools
import logging
import random
from collections import Counter
from contextlib import contextmanager
from typing import Callable, Dict, Iterator, List

import numpy as np
import torch
from detectron2.data import DatasetCatalog, DatasetFromList, MetadataCatalog
from detectron2.data.build import (
    check_metadata_consistency,
    filter_images_with_only_crowd_annotations,
    print_instances_class_histogram,
)
from detectron2.data.samplers import TrainingSampler
from torch.utils.data import Dataset

from .pruned_datasets import apply_selection

logger = logging.getLogger(__name__)


def load_records(cfg) -> List[dict]:
    """All dataset dicts of DATASETS.TRAIN that DATASETS.SELECTION keeps.

    Each gets `dataset_name`, so that (dataset_name, image_id) is its identity.

    Raises:
        ValueError: no data set named, an image id twice in one, or an id that is missing.
    """
    if not cfg.DATASETS.TRAIN:
        raise ValueError("DATASETS.TRAIN names no data set to train on")
    by_name = {name: load_dataset(name) for name in cfg.DATASETS.TRAIN}
    if cfg.DATASETS.SELECTION:
        by_name = apply_selection(cfg.DATASETS.SELECTION, by_name)
    check_metadata_consistency("thing_classes", cfg.DATASETS.TRAIN)
    records = list(itertools.chain.from_iterable(by_name.values()))
    print_instances_class_histogram(records, MetadataCatalog.get(cfg.DATASETS.TRAIN[0]).thing_classes)
    return records


def load_dataset(name: str) -> List[dict]:
    """The dataset dicts of one registered data set, each with its `dataset_name`."""
    dicts = DatasetCatalog.get(name)
    if not dicts:
        raise ValueError(f"data set {name} holds no image")
    times = Counter(record["image_id"] for record in dicts)
    twice = [image_id for image_id, count in times.most_common(5) if count > 1]
    if twice:
        raise ValueError(f"data set {name}: image ids that occur more than once: {twice}")
    return [{**record, "dataset_name": name} for record in dicts]


def without_empty_images(records: List[dict]) -> List[dict]:
    """What DATALOADER.FILTER_EMPTY_ANNOTATIONS leaves: Detectron2's own rule."""
    return filter_images_with_only_crowd_annotations(records)


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
    """Records with their `image_index`, and the number of the draw that asked for them."""

    def __init__(self, records: List[dict]):
        self._records = DatasetFromList([{**r, "image_index": i} for i, r in enumerate(records)])

    def __len__(self) -> int:
        return len(self._records)

    def __getitem__(self, numbered: int) -> dict:
        draw, index = divmod(numbered, len(self))
        return {**self._records[index], "draw": draw}


class SeededMapper:
    """Augments each draw with random numbers of its own, whichever worker or run it happens in."""

    def __init__(self, mapper: Callable[[dict], dict], seed: int):
        self.mapper = mapper
        self.seed = seed

    def __call__(self, record: dict) -> Dict:
        draw = record.pop("draw")
        with _random_numbers_from(np.random.SeedSequence([self.seed, draw])):
            return self.mapper(record)


@contextmanager
def _random_numbers_from(sequence: np.random.SeedSequence) -> Iterator[None]:
    """Seeds the generators augmentations draw from, and gives their former states back."""
    states = random.getstate(), np.random.get_state(), torch.get_rng_state()
    seed = int(sequence.generate_state(1)[0])
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)
    try:
        yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])
        torch.set_rng_state(states[2])
