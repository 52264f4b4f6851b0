#!/usr/bin/env python3
"""Downloads Tiny-ImageNet, checks the archive and unpacks it as folders of class folders.

The official archive (248 MB) becomes OUTPUT/tiny-imagenet-200, whole or not at all: train/ as it is, and val/ with its
images in class folders, as val_annotations.txt says. OUTPUT is $DETECTRON2_DATASETS, or ./datasets as in Detectron2.
An archive that was fetched in another way is used from OUTPUT/tiny-imagenet-200.zip.
"""

import os
import tempfile
from pathlib import Path

from fetch import PrepareError, fetch, option_parser

NAME = "tiny-imagenet-200"
BASE_URL = "http://cs231n.stanford.edu"
MD5 = "90528d7ca1a48142e341f4ef8d21d0de"  # of the archive, as the loaders of several projects have it


def prepare_tiny_imagenet(
    output: "str | os.PathLike[str]", base_url: str = BASE_URL, keep_archives: bool = False, md5: str = MD5
) -> None:
    """Downloads, verifies and unpacks the archive, if `output` lacks the tree.

    Args:
        output: the folder that gets tiny-imagenet-200 and, meanwhile, the archive.
        base_url: the folder of the archive.
        keep_archives: leave the archive in `output` after unpacking.
        md5: of the archive.

    Raises:
        PrepareError: a download, checksum or archive is not as it should be. What was there before stays as it was.
    """
    folder = Path(output).expanduser() / NAME
    if folder.exists():
        if (folder / "val" / "val_annotations.txt").exists():
            sort_validation_images(folder / "val")
        print(f"{folder} is there already, nothing to download")
        return
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f"{NAME}.", suffix=".tmp", dir=folder.parent) as beside:
        file = fetch(f"{base_url.rstrip('/')}/{NAME}.zip", folder.parent, md5, unpack_to=beside)
        sort_validation_images(Path(beside, NAME, "val"))
        os.replace(Path(beside, NAME), folder)
    if not keep_archives:
        file.unlink()
    print(f"{folder}: complete")


def sort_validation_images(val: Path) -> None:
    """Moves val/images/*.JPEG into a folder a class, as val_annotations.txt says; interrupted, it can go on."""
    annotations = val / "val_annotations.txt"
    for line in annotations.read_text(encoding="utf-8").splitlines():
        name, wnid = line.split("\t")[:2]  # then the box
        source, target = val / "images" / name, val / wnid / name
        if source.exists():
            target.parent.mkdir(exist_ok=True)
            os.replace(source, target)
        elif not target.exists():
            raise PrepareError(f"{source} is missing: move {val.parent} away and run again")
    if (val / "images").is_dir():
        (val / "images").rmdir()
    annotations.rename(val / "annotations.txt")  # the official form no more


def main() -> None:
    try:
        prepare_tiny_imagenet(**vars(option_parser(__doc__, NAME, BASE_URL).parse_args()))
    except PrepareError as error:
        raise SystemExit(f"prepare_tiny_imagenet.py: {error}") from error


if __name__ == "__main__":
    main()
