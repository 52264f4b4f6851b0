#!/usr/bin/env python3
"""Downloads PASCAL VOC 2007 and 2012, checks the archives and unpacks them for Detectron2.

The official archives (0.9 GB for 2007 trainval and test, 2.0 GB for 2012 trainval) become
    OUTPUT/VOC2007    Detectron2's voc_2007_trainval, voc_2007_test
    OUTPUT/VOC2012    Detectron2's voc_2012_trainval
where OUTPUT is $DETECTRON2_DATASETS, or ./datasets as in Detectron2. What is there already is neither
downloaded again nor overwritten.
"""

import os
import shutil
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from fetch import PrepareError, fetch, option_parser
from torchvision.datasets.voc import DATASET_YEAR_DICT

BASE_URL = "http://host.robots.ox.ac.uk/pascal/VOC"


class Archive(NamedTuple):
    """One official archive: its path under the base URL, its MD5, and the list it brings with its number of images."""

    path: str
    md5: str
    year: str  # it unpacks to VOCdevkit/VOC<year>
    split: str  # name in ImageSets/Main
    images: int


def _archive(key: str, year: str, split: str, images: int) -> Archive:
    """As torchvision knows it."""
    published = DATASET_YEAR_DICT[key]
    return Archive(published["url"].partition("/VOC/")[2], published["md5"], year, split, images)


ARCHIVES = (
    _archive("2007", "2007", "trainval", 5011),
    _archive("2007-test", "2007", "test", 4952),
    _archive("2012", "2012", "trainval", 11540),
)


def is_present(voc: Path, archive: Archive) -> bool:
    """Whether the year folder `voc` holds the archive's list and all images that it names.

    Raises:
        PrepareError: it has a list of that name which is not the official.
    """
    path = voc / "ImageSets" / "Main" / f"{archive.split}.txt"
    if not path.is_file():
        return False
    ids = path.read_text().split()
    if len(ids) != archive.images:
        raise PrepareError(
            f"{path}: lists {len(ids)} images, the official list of VOC{archive.year} has {archive.images}. Nothing was "
            f"changed; move {voc} away, or choose another folder with --output."
        )
    files = [voc / "JPEGImages" / f"{image_id}.jpg" for image_id in ids]
    return all(file.is_file() for file in (*files, *(voc / "Annotations" / f"{image_id}.xml" for image_id in ids)))


def prepare_voc(
    output: "str | os.PathLike[str]",
    years: Iterable[str] = ("2007", "2012"),
    base_url: str = BASE_URL,
    keep_archives: bool = False,
    archives: Sequence[Archive] = ARCHIVES,
) -> None:
    """Downloads, verifies and unpacks the archives of `years` that `output` lacks.

    Args:
        output: the folder that gets VOC2007 and VOC2012, and the archives while they are needed.
        years: "2007", "2012" or both.
        base_url: where the folders voc2007 and voc2012 with the archives are.
        keep_archives: leave the archives in `output` after unpacking.
        archives: the table to work by.

    Raises:
        PrepareError: a download, checksum or archive is not as it should be. What was complete
            before stays as it was.
    """
    output = Path(output).expanduser()
    for archive in archives:
        folder = output / f"VOC{archive.year}"
        if archive.year not in years:
            continue
        if is_present(folder, archive):
            print(f"{folder}: {archive.split} complete, nothing to do")
            continue
        output.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix="VOC.", suffix=".tmp", dir=output) as beside:
            file = fetch(f"{base_url.rstrip('/')}/{archive.path}", output, archive.md5, unpack_to=beside)
            unpacked = Path(beside, "VOCdevkit", f"VOC{archive.year}")
            if not is_present(unpacked, archive):
                raise PrepareError(f"{file}: lacks images or annotations of its list. Delete the file and run again.")
            shutil.copytree(unpacked, folder, copy_function=_move_unless_there, dirs_exist_ok=True)
        if not keep_archives:
            file.unlink()
        print(f"{folder}: {archive.split} {archive.images} images")


def _move_unless_there(source: str, target: str) -> None:
    if not os.path.exists(target):
        os.replace(source, target)


def main() -> None:
    parser = option_parser(__doc__, "VOC2007 and VOC2012", BASE_URL)
    years = ["2007", "2012"]
    parser.add_argument("--years", nargs="+", default=years, choices=years, help="which to prepare [both]")
    try:
        prepare_voc(**vars(parser.parse_args()))
    except PrepareError as error:
        raise SystemExit(f"prepare_voc.py: {error}") from error


if __name__ == "__main__":
    main()
