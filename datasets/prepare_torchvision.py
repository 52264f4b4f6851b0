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
from pathlib import Path

import torchvision.datasets
from fetch import PrepareError

from adapruner_det.data.image_datasets import TORCHVISION_FOLDERS, read_torchvision

# Where the configs look for each, below $DETECTRON2_DATASETS.
ROOTS = {"CIFAR10": "cifar10", "CIFAR100": "cifar100", "MNIST": "mnist", "FashionMNIST": "fashion_mnist"}


def prepare(kind: str, output: "str | os.PathLike[str] | None" = None) -> None:
    """Lets torchvision download a data set that is not there, and reads it.

    Args:
        kind: a key of `TORCHVISION_FOLDERS`.
        output: the folder that gets the data set's own folder; None for that of `ROOTS`.

    Raises:
        PrepareError: no download, or not of the official files; or the folder is there, but not complete.
            What was there before stays as it was.
    """
    root = Path(output or Path(os.getenv("DETECTRON2_DATASETS", "datasets"), ROOTS[kind])).expanduser()
    folder = root / TORCHVISION_FOLDERS[kind]
    if folder.exists():
        try:
            _read(kind, root)
        except OSError as error:
            raise PrepareError(
                f"{folder} is there, but its files are missing or damaged. Nothing was changed; move it away, or "
                "choose another folder with --output."
            ) from error
        print(f"{folder}: complete, nothing to do")
        return
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f"{kind}.", suffix=".tmp", dir=root) as beside:
        try:
            getattr(torchvision.datasets, kind)(beside, download=True)
            _read(kind, beside)
        except (OSError, RuntimeError, ValueError, EOFError) as error:
            raise PrepareError(
                f"{kind}: cannot be downloaded ({str(error).strip()}). Run again, or put its official files into "
                f"OUTPUT/{TORCHVISION_FOLDERS[kind]} in another way."
            ) from error
        os.replace(Path(beside) / TORCHVISION_FOLDERS[kind], folder)
    print(f"{folder}: complete")


def _read(kind: str, root: "str | os.PathLike[str]") -> None:
    for split in ("train", "test"):
        read_torchvision(kind, root, split)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__,
        epilog="Example: python datasets/prepare_torchvision.py CIFAR10 MNIST --output /data/classification",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("kinds", nargs="+", choices=list(TORCHVISION_FOLDERS), metavar="KIND")
    parser.add_argument("--output", help="folder that gets the data sets [$DETECTRON2_DATASETS/cifar10 and the like]")
    arguments = parser.parse_args()
    try:
        for kind in arguments.kinds:
            prepare(kind, arguments.output)
    except PrepareError as error:
        raise SystemExit(f"prepare_torchvision.py: {error}") from error


if __name__ == "__main__":
    main()
