#!/usr/bin/env python3
"""Downloads Tiny-ImageNet, checks the archive and unpacks it.

The official archive (248 MB) becomes OUTPUT/tiny-imagenet-200, as it is, whole or not at all; OUTPUT is
$DETECTRON2_DATASETS, or ./datasets as in Detectron2. An archive that was fetched in another way is used
from OUTPUT/tiny-imagenet-200.zip. A broken download goes on where it stopped, and what is there already is
neither downloaded again nor overwritten.
"""

import argparse
import os
import tempfile
import zipfile
import zlib
from pathlib import Path
from typing import NamedTuple

from tqdm import tqdm

from adapruner_det.data.download import PrepareError, check_md5, download

BASE_URL = "http://cs231n.stanford.edu"
FOLDER = "tiny-imagenet-200"


class Official(NamedTuple):
    """What the official archive is and holds.

    Attributes:
        md5: of the archive, as the data set loaders of several projects have it.
        classes: in wnids.txt.
        train_images: of each class.
        val_images: of all classes together.
    """

    md5: str = "90528d7ca1a48142e341f4ef8d21d0de"
    classes: int = 200
    train_images: int = 500
    val_images: int = 10_000


def find_fault(folder: Path, official: Official) -> str | None:
    """What `folder` lacks of the official tree; None if it is complete."""
    for name in ("wnids.txt", "words.txt", "val/val_annotations.txt"):
        if not (folder / name).is_file():
            return f"{name} is missing"
    wnids = (folder / "wnids.txt").read_text(encoding="utf-8").split()
    if len(wnids) != official.classes:
        return f"wnids.txt lists {len(wnids)} classes, not {official.classes}"
    for wnid in wnids:
        count = sum(1 for _ in (folder / "train" / wnid / "images").glob("*.JPEG"))
        if count != official.train_images:
            return f"train/{wnid}/images holds {count} images, not {official.train_images}"
    labels = (folder / "val" / "val_annotations.txt").read_text(encoding="utf-8").splitlines()
    labelled = {line.split("\t")[0] for line in labels if line.strip()}
    present = {path.name for path in (folder / "val" / "images").glob("*.JPEG")}
    if labelled != present or len(present) != official.val_images:
        found = f"{len(present)} images and labels of {len(labelled)}"
        return f"val holds {found}, not {official.val_images} of both"
    return None


def install(file: Path, folder: Path, official: Official) -> None:
    """Unpacks a verified archive beside `folder`, checks what came out, and moves it there.

    Raises:
        PrepareError: the archive is damaged, or does not hold the official tree.
    """
    with tempfile.TemporaryDirectory(prefix=f"{FOLDER}.", suffix=".tmp", dir=folder.parent) as beside:
        try:
            with zipfile.ZipFile(file) as archive:
                for member in tqdm(archive.infolist(), desc=f"unpacking {file.name}", unit="file"):
                    archive.extract(member, beside)  # never outside: it strips such parts of a path
        except (zipfile.BadZipFile, zlib.error, EOFError) as error:
            raise PrepareError(f"{file}: cannot be unpacked ({error}). Delete it and run again.") from error
        unpacked = Path(beside) / FOLDER
        fault = find_fault(unpacked, official)
        if fault:
            raise PrepareError(f"{file}: not the official archive: {fault}. Delete it and run again.")
        os.replace(unpacked, folder)


def prepare_tiny_imagenet(
    output: os.PathLike,
    base_url: str = BASE_URL,
    keep_archive: bool = False,
    official: Official = Official(),
) -> None:
    """Downloads, verifies and unpacks the archive, if `output` lacks the tree.

    Args:
        output: the folder that gets tiny-imagenet-200 and, meanwhile, the archive.
        base_url: the folder of the archive.
        keep_archive: leave the archive in `output` after unpacking.
        official: what has to come out.

    Raises:
        PrepareError: a download, checksum or archive is not as it should be, or there is a folder
            tiny-imagenet-200 that is not complete. What was there before stays as it was.
    """
    output = Path(output).expanduser()
    folder, file = output / FOLDER, output / f"{FOLDER}.zip"
    if folder.exists():
        fault = find_fault(folder, official)
        if fault:
            raise PrepareError(
                f"{folder} is not complete: {fault}. Nothing was changed; move it away, or choose another "
                "folder with --output."
            )
        print(f"{folder}: complete, nothing to do")
        return
    url = f"{base_url.rstrip('/')}/{FOLDER}.zip"
    if not file.exists():
        download(url, file)
    check_md5(file, official.md5, url)
    install(file, folder, official)
    if not keep_archive:
        file.unlink()
    print(f"{folder}: {official.classes} classes, {official.classes * official.train_images} training images")


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__,
        epilog="Example: python datasets/prepare_tiny_imagenet.py --output /data/classification",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--output",
        default=os.getenv("DETECTRON2_DATASETS", "datasets"),
        help=f"folder that gets {FOLDER} [$DETECTRON2_DATASETS, here: %(default)s]",
    )
    parser.add_argument(
        "--base-url",
        default=BASE_URL,
        help=f"where {FOLDER}.zip is; file:// works too [%(default)s]",
    )
    parser.add_argument("--keep-archive", action="store_true", help="keep the downloaded archive in OUTPUT")
    return parser.parse_args()


def main() -> None:
    try:
        prepare_tiny_imagenet(**vars(parse_args()))
    except PrepareError as error:
        raise SystemExit(f"prepare_tiny_imagenet.py: {error}") from error


if __name__ == "__main__":
    main()
