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

from torchvision.datasets.utils import extract_archive

from adapruner_det.data.download import PrepareError, check_md5, download
from adapruner_det.data.image_datasets import TINY_IMAGENET

BASE_URL = "http://cs231n.stanford.edu"
MD5 = "90528d7ca1a48142e341f4ef8d21d0de"  # of the archive, as the loaders of several projects have it

PARTS = ("wnids.txt", "words.txt", "train", "val/val_annotations.txt")  # what the reader needs


def prepare_tiny_imagenet(
    output: os.PathLike, base_url: str = BASE_URL, keep_archive: bool = False, md5: str = MD5
) -> None:
    """Downloads, verifies and unpacks the archive, if `output` lacks the tree.

    Args:
        output: the folder that gets tiny-imagenet-200 and, meanwhile, the archive.
        base_url: the folder of the archive.
        keep_archive: leave the archive in `output` after unpacking.
        md5: of the archive.

    Raises:
        PrepareError: a download, checksum or archive is not as it should be, or a folder of the tree's name is
            not complete. What was there before stays as it was.
    """
    output = Path(output).expanduser()
    folder, file = output / TINY_IMAGENET, output / f"{TINY_IMAGENET}.zip"
    if folder.exists():
        missing = [name for name in PARTS if not (folder / name).exists()]
        if missing:
            raise PrepareError(
                f"{folder} is not complete: {', '.join(missing)} is missing. Nothing was changed; move it away, or "
                "choose another folder with --output."
            )
        print(f"{folder} is there already, nothing to do")
        return
    url = f"{base_url.rstrip('/')}/{file.name}"
    if not file.exists():
        download(url, file)
    check_md5(file, md5, url)
    with tempfile.TemporaryDirectory(prefix=f"{TINY_IMAGENET}.", suffix=".tmp", dir=output) as beside:
        try:
            extract_archive(str(file), beside)
            os.replace(Path(beside) / TINY_IMAGENET, folder)
        except (OSError, zipfile.BadZipFile, zlib.error, EOFError) as error:
            raise PrepareError(f"{file}: cannot be unpacked ({error}). Delete it and run again.") from error
    if not keep_archive:
        file.unlink()
    print(f"{folder}: complete")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__,
        epilog="Example: python datasets/prepare_tiny_imagenet.py --output /data/classification",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--output",
        default=os.getenv("DETECTRON2_DATASETS", "datasets"),
        help=f"folder that gets {TINY_IMAGENET} [$DETECTRON2_DATASETS, here: %(default)s]",
    )
    parser.add_argument(
        "--base-url", default=BASE_URL, help=f"where {TINY_IMAGENET}.zip is; file:// works too [%(default)s]"
    )
    parser.add_argument("--keep-archive", action="store_true", help="keep the downloaded archive in OUTPUT")
    try:
        prepare_tiny_imagenet(**vars(parser.parse_args()))
    except PrepareError as error:
        raise SystemExit(f"prepare_tiny_imagenet.py: {error}") from error


if __name__ == "__main__":
    main()
