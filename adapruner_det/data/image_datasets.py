"""Classification data in the official files that torchvision reads, as records.

A record is a dict with `image_id` (str), `category_id` (int) and `image` (uint8 (H, W, 3) RGB).
"""

import os
from functools import lru_cache

import numpy as np
import torchvision.datasets

from .validation import PathLike, Record

# torchvision's class -> the folder it looks for below its root.
TORCHVISION_FOLDERS = {
    "CIFAR10": "cifar-10-batches-py",
    "CIFAR100": "cifar-100-python",
    "MNIST": "MNIST/raw",
    "FashionMNIST": "FashionMNIST/raw",
}


@lru_cache(2)
def read_torchvision(kind: str, root: PathLike, split: str) -> torchvision.datasets.VisionDataset:
    """A data set in its official files, read and checked by torchvision. Nothing is downloaded.

    Args:
        kind: a key of `TORCHVISION_FOLDERS`.
        root: the folder that holds the data set's own folder.
        split: "train" or "test".

    Raises:
        FileNotFoundError: the files are not there, or damaged.
        ValueError: no such `kind` or `split`.
    """
    if kind not in TORCHVISION_FOLDERS:
        raise ValueError(f"unknown data set {kind!r}: one of {', '.join(TORCHVISION_FOLDERS)}")
    if split not in ("train", "test"):
        raise ValueError(f"unknown split {split!r} of {kind}: train or test")
    try:
        dataset = getattr(torchvision.datasets, kind)(root, train=split == "train")
        if len(dataset.data) != len(dataset.targets):
            raise ValueError(f"{len(dataset.data)} images but {len(dataset.targets)} labels")
    except Exception as error:  # of a damaged file torchvision raises whatever its parsers stumble over
        raise FileNotFoundError(
            f"{kind}: its official files are missing or damaged in {os.path.join(root, TORCHVISION_FOLDERS[kind])} "
            f"({error}); fetch it with: python datasets/prepare_torchvision.py {kind} --output {root}"
        ) from error
    return dataset


def load_torchvision_dataset(kind: str, root: PathLike, split: str) -> list[Record]:
    """The records of `read_torchvision`; an image's id is its index in the official files, from "0"."""
    dataset = read_torchvision(kind, root, split)  # type: ignore[arg-type]  # every path is hashable
    images = np.asarray(dataset.data)
    if images.ndim == 3:  # grey
        images = np.broadcast_to(images[..., None], (*images.shape, 3))
    return [
        {"image_id": str(index), "category_id": int(category_id), "image": image}
        for index, (image, category_id) in enumerate(zip(images, dataset.targets))
    ]
