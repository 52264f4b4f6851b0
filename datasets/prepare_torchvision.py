#!/usr/bin/env python3
"""Downloads CIFAR-10, CIFAR-100, MNIST or FashionMNIST with torchvision, which checks them.

    CIFAR10         OUTPUT/cifar-10-batches-py       163 MB to download
    CIFAR100        OUTPUT/cifar-100-python          161 MB
    MNIST           OUTPUT/MNIST/raw                 11 MB
    FashionMNIST    OUTPUT/FashionMNIST/raw          30 MB

Unless given, OUTPUT is where the configs look for each: the folders cifar10, cifar100, mnist and
fashion_mnist of $DETECTRON2_DATASETS, or of ./datasets as in Detectron2. A data set arrives whole or not at
all; one that is there already is neither downloaded again nor overwritten.
"""

import argparse
import os
import tempfile
from collections.abc import Iterable
from pathlib import Path

import torchvision.datasets

from adapruner_det.data.download import PrepareError
from adapruner_det.data.image_datasets import TORCHVISION_FOLDERS, load_torchvision_dataset

# Where the configs look for each, below $DETECTRON2_DATASETS.
ROOTS = {"CIFAR10": "cifar10", "CIFAR100": "cifar100", "MNIST": "mnist", "FashionMNIST": "fashion_mnist"}


def download(kind: str, folder: Path) -> None:
    """Lets torchvision download and unpack a data set into `folder`, and reads it.

    Raises:
        PrepareError: no download, or not of the official files.
    """
    try:
        getattr(torchvision.datasets, kind)(folder, download=True)
        for split in ("train", "test"):
            load_torchvision_dataset(kind, folder, split)
    except (OSError, RuntimeError, ValueError, EOFError) as error:
        raise PrepareError(
            f"{kind}: cannot be downloaded ({str(error).strip()}). Run again, or put its official files into "
            f"OUTPUT/{TORCHVISION_FOLDERS[kind]} in another way."
        ) from error


def is_present(kind: str, output: Path) -> bool:
    """Whether `output` holds the data set.

    Raises:
        PrepareError: its folder is there, but not complete.
    """
    folder = output / TORCHVISION_FOLDERS[kind]
    if not folder.exists():
        return False
    try:
        for split in ("train", "test"):
            load_torchvision_dataset(kind, output, split)
    except (OSError, ValueError) as error:
        raise PrepareError(
            f"{folder} is there, but its files are missing or damaged. Nothing was changed; move it away, or "
            "choose another folder with --output."
        ) from error
    return True


def prepare_torchvision(kinds: Iterable[str], output: os.PathLike | None = None) -> None:
    """Downloads the data sets of `kinds` that are not there.

    Args:
        kinds: keys of `TORCHVISION_FOLDERS`.
        output: the folder that gets the data sets' own folders; None for those of `ROOTS`.

    Raises:
        PrepareError: see `download` and `is_present`. What was there before stays as it was.
    """
    datasets = Path(os.getenv("DETECTRON2_DATASETS", "datasets"))
    for kind in kinds:
        root = Path(output or datasets / ROOTS[kind]).expanduser()
        folder = root / TORCHVISION_FOLDERS[kind]
        if is_present(kind, root):
            print(f"{folder}: complete, nothing to do")
            continue
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f"{kind}.", suffix=".tmp", dir=root) as beside:
            download(kind, Path(beside))
            os.replace(Path(beside) / TORCHVISION_FOLDERS[kind], folder)
        print(f"{folder}: complete")


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__,
        epilog="Example: python datasets/prepare_torchvision.py CIFAR10 MNIST --output /data/classification",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("kinds", nargs="+", choices=list(TORCHVISION_FOLDERS), metavar="KIND")
    parser.add_argument(
        "--output",
        help="folder that gets the data sets [$DETECTRON2_DATASETS/cifar10 and the like]",
    )
    return parser.parse_args()


def main() -> None:
    try:
        prepare_torchvision(**vars(parse_args()))
    except PrepareError as error:
        raise SystemExit(f"prepare_torchvision.py: {error}") from error


if __name__ == "__main__":
    main()
