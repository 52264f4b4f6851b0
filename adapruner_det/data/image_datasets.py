"""Classification data in its official files, as records; and the records' pictures as one array.

A record is a dict with `image_id` (str), `category_id` (int), and either `image` (uint8 (H, W, 3) RGB) or
`file_name` (of an archive together with `member`).
"""

import os
import pickle

import numpy as np
import torchvision.datasets
from torchvision.datasets.utils import check_integrity

from .image_folders import drop_unreadable, find_class_names, is_picture, load_images_dataset
from .images import find_unreadable, read_images
from .validation import InvalidDatasetError, PathLike, Problem, check_on_invalid

__all__ = [
    "TINY_IMAGENET",
    "TORCHVISION_FOLDERS",
    "find_class_names",
    "load_images_dataset",
    "load_tiny_imagenet",
    "load_torchvision_dataset",
    "read_images",
    "read_tiny_imagenet_classes",
    "tiny_imagenet_folder",
    "torchvision_class_names",
]

TINY_IMAGENET = "tiny-imagenet-200"
# torchvision's class -> the folder it looks for below its root.
TORCHVISION_FOLDERS = {
    "CIFAR10": "cifar-10-batches-py",
    "CIFAR100": "cifar-100-python",
    "MNIST": "MNIST/raw",
    "FashionMNIST": "FashionMNIST/raw",
}


def torchvision_class_names(kind: str, root: PathLike, split: str) -> list[str]:
    """The class names of a data set that lies in `root`; its images stay unread.

    Raises:
        FileNotFoundError: a file is not there, or the one with the names is damaged.
        ValueError: no such `kind` or `split`.
    """
    dataset = _torchvision_class(kind, split)
    folder = os.path.join(root, TORCHVISION_FOLDERS[kind])
    if not all(os.path.isfile(os.path.join(folder, file)) for file in _torchvision_files(dataset)):
        raise _missing(kind, root)
    if not hasattr(dataset, "meta"):  # MNIST's classes are part of torchvision, CIFAR's of its files
        return list(dataset.classes)
    path = os.path.join(folder, dataset.meta["filename"])
    if not check_integrity(path, dataset.meta["md5"]):
        raise _missing(kind, root)
    with open(path, "rb") as file:
        return list(pickle.load(file, encoding="latin1")[dataset.meta["key"]])


def _torchvision_class(kind: str, split: str) -> type[torchvision.datasets.VisionDataset]:
    if kind not in TORCHVISION_FOLDERS:
        raise ValueError(f"unknown data set {kind!r}: one of {', '.join(TORCHVISION_FOLDERS)}")
    if split not in ("train", "test"):
        raise ValueError(f"unknown split {split!r} of {kind}: train or test")
    return getattr(torchvision.datasets, kind)


def _torchvision_files(dataset: type[torchvision.datasets.VisionDataset]) -> list[str]:
    """The files that hold images and labels; torchvision reads one split, but asks for both."""
    if hasattr(dataset, "resources"):
        return [os.path.basename(url).removesuffix(".gz") for url, _ in dataset.resources]
    return [name for name, _ in (*dataset.train_list, *dataset.test_list)]


def _missing(kind: str, root: PathLike) -> FileNotFoundError:
    return FileNotFoundError(f"{kind}: its official files are missing or damaged {_place(kind, root)}")


def _place(kind: str, root: PathLike) -> str:
    """Where the files lie and how to get them, for errors."""
    return (
        f"in {os.path.join(root, TORCHVISION_FOLDERS[kind])}; fetch it with: "
        f"python datasets/prepare_torchvision.py {kind} --output {root}"
    )


def load_torchvision_dataset(kind: str, root: PathLike, split: str) -> list[dict]:
    """A data set in its official files, read by torchvision. Nothing is downloaded.

    Args:
        kind: a key of `TORCHVISION_FOLDERS`.
        root: the folder that holds the data set's own folder.
        split: "train" or "test".

    Returns:
        one dict an image, in the official order: image_id (the official index, from "0"), category_id and
        image (a view of torchvision's array; grey images have three equal channels).

    Raises:
        FileNotFoundError: the files are not there, or damaged.
        ValueError: no such `kind` or `split`, or not as many labels as images.
    """
    dataset = _load_torchvision(kind, root, split)
    images = np.asarray(dataset.data)
    if images.ndim == 3:
        images = np.broadcast_to(images[..., None], (*images.shape, 3))
    return [
        {"image_id": str(index), "category_id": int(category_id), "image": image}
        for index, (image, category_id) in enumerate(zip(images, dataset.targets))
    ]


def _load_torchvision(kind: str, root: PathLike, split: str) -> torchvision.datasets.VisionDataset:
    load = _torchvision_class(kind, split)
    try:
        dataset = load(root, train=split == "train", download=False)
    except Exception as error:  # of a damaged file torchvision raises whatever its parsers stumble over
        raise _missing(kind, root) from error
    if len(dataset.data) != len(dataset.targets):
        raise ValueError(f"{kind}: {len(dataset.data)} images but {len(dataset.targets)} labels {_place(kind, root)}")
    return dataset


def tiny_imagenet_folder(root: PathLike) -> str:
    """The folder tiny-imagenet-200: `root` itself, or in it.

    Raises:
        FileNotFoundError: neither holds a wnids.txt.
    """
    for folder in (os.fspath(root), os.path.join(root, TINY_IMAGENET)):
        if os.path.isfile(os.path.join(folder, "wnids.txt")):
            return folder
    raise FileNotFoundError(
        f"there is no {os.path.join(root, TINY_IMAGENET, 'wnids.txt')}; fetch the data set with: "
        f"python datasets/prepare_tiny_imagenet.py --output {root}"
    )


def read_tiny_imagenet_classes(root: PathLike) -> dict[str, str]:
    """WordNet id -> class name, in the order of wnids.txt: the first of its words in words.txt.

    Two ids with one first word (crane the bird, crane the machine) have the id added.

    Raises:
        FileNotFoundError: a file is missing.
        ValueError: an id is listed twice, or none is.
    """
    folder = tiny_imagenet_folder(root)
    wnids = _read_text(os.path.join(folder, "wnids.txt")).split()
    if not wnids or len(set(wnids)) < len(wnids):
        raise ValueError(f"{os.path.join(folder, 'wnids.txt')} is empty or lists a class twice")
    lines = _read_text(os.path.join(folder, "words.txt")).splitlines()
    words = dict(line.split("\t", 1) for line in lines if "\t" in line)
    names = [words.get(wnid, wnid).split(",")[0].strip() for wnid in wnids]
    return {wnid: name if names.count(name) == 1 else f"{name} ({wnid})" for wnid, name in zip(wnids, names)}


def load_tiny_imagenet(root: PathLike, split: str, on_invalid: str = "error") -> list[dict]:
    """Reads the official tree of Tiny-ImageNet as it is.

    Args:
        root: the folder tiny-imagenet-200, or the one it lies in.
        split: "train" or "val" (the labels of test were never published).
        on_invalid: see `load_images_dataset`.

    Returns:
        one dict an image: image_id (the path relative to train/ or val/, with forward slashes),
        category_id (place in wnids.txt) and file_name. train is ordered by class and name, val as in
        val_annotations.txt.

    Raises:
        FileNotFoundError: a file of the tree is missing.
        InvalidDatasetError: broken or missing images, or labels that are not in wnids.txt.
        ValueError: another split, or a class without images.
    """
    check_on_invalid(on_invalid)
    if split not in ("train", "val"):
        raise ValueError(f"unknown split {split!r} of Tiny-ImageNet: train or val")
    folder = tiny_imagenet_folder(root)
    wnids = list(read_tiny_imagenet_classes(folder))
    base = os.path.join(folder, split)
    labelled, problems = _list_train(base, wnids) if split == "train" else _list_val(base, wnids)
    records = [
        {
            "image_id": relative,
            "category_id": category_id,
            "file_name": os.path.join(base, *relative.split("/")),
        }
        for relative, category_id in labelled
    ]
    unreadable = find_unreadable(records, f"Reading {base}")
    return drop_unreadable(records, unreadable, base, on_invalid, problems)


Labelled = list[tuple[str, int]]  # path relative to the split's folder, category id


def _list_train(base: str, wnids: list[str]) -> tuple[Labelled, list[Problem]]:
    labelled: Labelled = []
    for category_id, wnid in enumerate(wnids):
        images = os.path.join(base, wnid, "images")
        names = sorted(filter(is_picture, os.listdir(images))) if os.path.isdir(images) else []
        if not names:
            raise ValueError(f"{images} holds no image; unpack the archive of Tiny-ImageNet anew")
        labelled += [(f"{wnid}/images/{name}", category_id) for name in names]
    return labelled, []


def _list_val(base: str, wnids: list[str]) -> tuple[Labelled, list[Problem]]:
    path = os.path.join(base, "val_annotations.txt")
    category_ids = {wnid: i for i, wnid in enumerate(wnids)}
    labelled, problems = [], []
    for number, line in enumerate(_read_text(path).splitlines(), start=1):
        name, _, rest = line.partition("\t")  # the rest: class and box
        wnid = rest.split("\t")[0]
        if wnid in category_ids:
            labelled.append((f"images/{name}", category_ids[wnid]))
        elif line.strip():
            problems.append(Problem(path, f"line {number} gives {name} the class {wnid!r}, not in wnids.txt"))
    if not labelled:
        raise InvalidDatasetError(f"{path} labels no image:", problems, "Unpack the archive of Tiny-ImageNet anew.")
    return labelled, problems


def _read_text(path: str) -> str:
    with open(path, encoding="utf-8") as file:
        return file.read()
