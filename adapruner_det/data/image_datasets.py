"""Classification data in its official files, as records: torchvision's data sets, and Tiny-ImageNet.

A record is a dict with `image_id` (str), `category_id` (int), and either `image` (uint8 (H, W, 3) RGB) or
`file_name`.
"""

import os
from functools import lru_cache
from pathlib import Path

import numpy as np
import torchvision.datasets

from .image_folders import load_images_dataset
from .images import drop_unreadable
from .validation import InvalidDatasetError, PathLike, Problem, Record, check_on_invalid

TINY_IMAGENET = "tiny-imagenet-200"
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


def tiny_imagenet_folder(root: PathLike) -> Path:
    """The folder tiny-imagenet-200: `root` itself, or in it.

    Raises:
        FileNotFoundError: neither holds a wnids.txt.
    """
    for folder in (Path(root), Path(root, TINY_IMAGENET)):
        if (folder / "wnids.txt").is_file():
            return folder
    raise FileNotFoundError(
        f"there is no {Path(root, TINY_IMAGENET, 'wnids.txt')}; fetch the data set with: "
        f"python datasets/prepare_tiny_imagenet.py --output {root}"
    )


def read_tiny_imagenet_classes(root: PathLike) -> dict[str, str]:
    """WordNet id -> class name, in the order of wnids.txt: the first of its words in words.txt.

    Two ids with one first word (crane the bird, crane the machine) have the id added.
    """
    folder = tiny_imagenet_folder(root)
    wnids = (folder / "wnids.txt").read_text(encoding="utf-8").split()
    lines = (folder / "words.txt").read_text(encoding="utf-8").splitlines()
    words = dict(line.split("\t", 1) for line in lines if "\t" in line)
    names = [words.get(wnid, wnid).split(",")[0].strip() for wnid in wnids]
    return {wnid: name if names.count(name) == 1 else f"{name} ({wnid})" for wnid, name in zip(wnids, names)}


def load_tiny_imagenet(root: PathLike, split: str, on_invalid: str = "error") -> list[Record]:
    """The records of the official tree: train by class and name, val in the order of val_annotations.txt.

    An image's id is its path below train/ or val/, with forward slashes; its class the place in wnids.txt.

    Args:
        root: the folder tiny-imagenet-200, or the one it lies in.
        split: "train" or "val" (the labels of test were never published).
        on_invalid: see `load_images_dataset`.

    Raises:
        InvalidDatasetError: broken or missing images, or labels that are not in wnids.txt.
        ValueError: another split, or a class without images.
        FileNotFoundError: another file of the tree is missing.
    """
    check_on_invalid(on_invalid)
    if split not in ("train", "val"):
        raise ValueError(f"unknown split {split!r} of Tiny-ImageNet: train or val")
    base, wnids = tiny_imagenet_folder(root) / split, list(read_tiny_imagenet_classes(root))
    if split == "train":
        return load_images_dataset(base, wnids, on_invalid)
    path = base / "val_annotations.txt"
    records, problems = [], []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        name, wnid = line.split("\t")[:2]  # then the box
        if wnid in wnids:
            file = {"file_name": str(base / "images" / name), "image_id": f"images/{name}"}
            records.append({**file, "category_id": wnids.index(wnid)})
        else:
            problems.append(Problem(str(path), f"line {number} gives {name} the class {wnid!r}, not in wnids.txt"))
    if not records:
        raise InvalidDatasetError(f"{path} labels no image:", problems, "Unpack the archive of Tiny-ImageNet anew.")
    return drop_unreadable(records, base, on_invalid, problems)
