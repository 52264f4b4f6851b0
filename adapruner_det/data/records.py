"""The records of registered data sets: dicts, each with the name of its data set and an id in it."""
import hashlib
import itertools
from collections import Counter
from typing import Callable, Dict, List

import numpy as np

from .pruned_datasets import apply_selection


def checked_records(name: str, dicts: List[dict]) -> List[dict]:
    """The dicts with their `dataset_name`, so that (dataset_name, image_id) is an image's identity.

    Raises:
        ValueError: no image in it, or an id twice.
    """
    if not dicts:
        raise ValueError(f"data set {name} holds no image")
    times = Counter(record["image_id"] for record in dicts)
    twice = [image_id for image_id, count in times.most_common(5) if count > 1]
    if twice:
        raise ValueError(f"data set {name}: image ids that occur more than once: {twice}")
    return [{**record, "dataset_name": name} for record in dicts]


def drawn_lots(records: List[dict], seed: int, weights: np.ndarray) -> np.ndarray:
    """A place in line for each image, the better the higher, from a draw that weights tilt.

    A seed draws a number u between 0 and 1 for each (dataset_name, image_id), wherever it stands; those with the
    highest u^(1 / weight) are a weighted random sample without replacement, however many they are (Efraimidis and
    Spirakis, "Weighted random sampling with a reservoir", 2006).

    Args:
        weights: (N,), above 0; only their ratios count.

    Returns:
        (N,), evenly spread from 0.5 / N to 1 - 0.5 / N.
    """
    drawn = (
        hashlib.sha256(f"{seed}\n{record['dataset_name']}\n{record['image_id']}".encode()).digest()
        for record in records
    )
    keys = np.log([(int.from_bytes(digest[:8], "big") + 1) / 2**64 for digest in drawn])
    order = np.argsort(keys / weights)
    lots = np.empty(len(records))
    lots[order] = (np.arange(len(records)) + 0.5) / len(records)
    return lots


def training_records(cfg, load_dataset: Callable[[str], List[dict]]) -> List[dict]:
    """All records of DATASETS.TRAIN that DATASETS.SELECTION keeps.

    Raises:
        ValueError: no data set named; and what `load_dataset` and `apply_selection` raise.
    """
    if not cfg.DATASETS.TRAIN:
        raise ValueError("DATASETS.TRAIN names no data set to train on")
    by_name: Dict[str, List[dict]] = {name: load_dataset(name) for name in cfg.DATASETS.TRAIN}
    if cfg.DATASETS.SELECTION:
        by_name = apply_selection(cfg.DATASETS.SELECTION, by_name)
    return list(itertools.chain.from_iterable(by_name.values()))
