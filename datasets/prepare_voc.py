#!/usr/bin/env python3
"""Downloads PASCAL VOC 2007 and 2012, checks the archives and unpacks them for Detectron2.

The official archives (0.9 GB for 2007 trainval and test, 2.0 GB for 2012 trainval) become
    OUTPUT/VOC2007    Detectron2's voc_2007_trainval, voc_2007_test
    OUTPUT/VOC2012    Detectron2's voc_2012_trainval
where OUTPUT is $DETECTRON2_DATASETS, or ./datasets as in Detectron2. A broken download goes on
where it stopped, and what is there already is neither downloaded again nor overwritten.
"""

import argparse
import os
import sys
import tarfile
import tempfile
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from adapruner_det.data.download import PrepareError, check_md5, download

BASE_URL = "http://host.robots.ox.ac.uk/pascal/VOC"


@dataclass(frozen=True)
class Archive:
    """One official archive.

    Attributes:
        path: of the file, under the base URL.
        md5: of the file, as published with torchvision.
        year: it unpacks to VOCdevkit/VOC<year>.
        lists: name in ImageSets/Main -> number of images, for what this archive brings.
    """

    path: str
    md5: str
    year: str
    lists: dict[str, int]

    @property
    def name(self) -> str:
        return self.path.rsplit("/", 1)[-1]


ARCHIVES = (
    Archive("voc2007/VOCtrainval_06-Nov-2007.tar", "c52e279531787c972589f7e41ab4ae64", "2007", {"trainval": 5011}),
    Archive("voc2007/VOCtest_06-Nov-2007.tar", "b6e924de25625d8de591ea690078ad9f", "2007", {"test": 4952}),
    Archive("voc2012/VOCtrainval_11-May-2012.tar", "6cd6e144f989b92b3379bac3b3de84fd", "2012", {"trainval": 11540}),
)


def unpack(file: Path, folder: Path) -> None:
    """Unpacks a tar archive into `folder`; members that would land outside are refused.

    Raises:
        PrepareError: the archive is broken, or holds such a member.
    """
    if not hasattr(tarfile, "data_filter"):
        raise PrepareError(
            f"{file}: Python {sys.version.split()[0]} cannot unpack archives safely. Update it "
            "within its series: 3.10.12, 3.11.4 and all later ones can."
        )
    try:
        with tarfile.open(file) as tar:
            for member in tqdm(tar, desc=f"unpacking {file.name}", unit="file"):
                tar.extract(member, folder, filter="data")
    except tarfile.TarError as error:
        raise PrepareError(f"{file}: cannot be unpacked ({error}). Delete it and run again.") from error


def listed_ids(voc: Path, name: str) -> list[str] | None:
    """The image ids of a list in the year folder `voc`; None if it has no such list."""
    path = voc / "ImageSets" / "Main" / f"{name}.txt"
    return path.read_text().split() if path.is_file() else None


def is_present(voc: Path, archive: Archive) -> bool:
    """Whether the year folder `voc` holds the archive's lists and all images that they name."""
    for name, count in archive.lists.items():
        ids = listed_ids(voc, name)
        if ids is None or len(ids) != count:
            return False
        files = [voc / "JPEGImages" / f"{image_id}.jpg" for image_id in ids]
        files += [voc / "Annotations" / f"{image_id}.xml" for image_id in ids]
        if not all(file.is_file() for file in files):
            return False
    return True


def refuse_other_lists(voc: Path, archive: Archive) -> None:
    """Raises PrepareError if `voc` has a list of the archive's name that is not the official."""
    for name, count in archive.lists.items():
        ids = listed_ids(voc, name)
        if ids is not None and len(ids) != count:
            raise PrepareError(
                f"{voc}/ImageSets/Main/{name}.txt: lists {len(ids)} images, the official list of "
                f"VOC{archive.year} has {count}. Nothing was changed; move {voc} away, or choose "
                "another folder with --output."
            )


def move_in(source: Path, target: Path) -> None:
    """Moves the year folder `source` to `target`, or into it; files that are there stay.

    The lists come last: while an interrupted merge lacks files, it lacks a list as well.
    """
    if not target.exists():
        os.replace(source, target)
        return
    files = [path for path in source.rglob("*") if path.is_file()]
    for path in sorted(files, key=lambda path: "ImageSets" in path.relative_to(source).parts):
        place = target / path.relative_to(source)
        if not place.exists():
            place.parent.mkdir(parents=True, exist_ok=True)
            os.replace(path, place)


def install(archive: Archive, file: Path, output: Path) -> None:
    """Unpacks a verified archive beside, checks what came out, and moves it to its year folder."""
    with tempfile.TemporaryDirectory(prefix="VOC.", suffix=".tmp", dir=output) as beside:
        unpack(file, Path(beside))
        unpacked = Path(beside) / "VOCdevkit" / f"VOC{archive.year}"
        if not is_present(unpacked, archive):
            lists = ", ".join(f"{name} ({count} images)" for name, count in archive.lists.items())
            raise PrepareError(
                f"{file}: holds no VOCdevkit/VOC{archive.year} with the full list of {lists} and "
                "all images and annotations that it names. Delete the file and run again."
            )
        move_in(unpacked, output / f"VOC{archive.year}")


def prepare_voc(
    output: os.PathLike,
    years: Iterable[str] = ("2007", "2012"),
    base_url: str = BASE_URL,
    keep_archives: bool = False,
    archives: Iterable[Archive] = ARCHIVES,
) -> None:
    """Downloads, verifies and unpacks the archives of `years` that `output` lacks.

    Args:
        output: the folder that gets VOC2007 and VOC2012; archives go to its VOC_archives.
        years: "2007", "2012" or both.
        base_url: where the folders voc2007 and voc2012 with the archives are.
        keep_archives: leave the archives in VOC_archives after unpacking.
        archives: the table to work by.

    Raises:
        PrepareError: a download, checksum or archive is not as it should be. What was complete
            before stays as it was.
    """
    output = Path(output).expanduser()
    downloads = output / "VOC_archives"
    for archive in archives:
        if archive.year not in years:
            continue
        folder = output / f"VOC{archive.year}"
        if is_present(folder, archive):
            print(f"{folder}: {', '.join(archive.lists)} complete, nothing to do")
            continue
        refuse_other_lists(folder, archive)
        file, url = downloads / archive.name, f"{base_url.rstrip('/')}/{archive.path}"
        if not file.exists():
            download(url, file)
        check_md5(file, archive.md5, url)
        install(archive, file, output)
        if not keep_archives:
            file.unlink()
            with suppress(OSError):  # not empty: it holds archives that were kept, or broken ones
                downloads.rmdir()
        counts = ", ".join(f"{name} {count} images" for name, count in archive.lists.items())
        print(f"{folder}: {counts}")


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__,
        epilog="Example: python datasets/prepare_voc.py --years 2007 --output /data/detection\n"
        "Mirror:  --base-url https://thor.robots.ox.ac.uk/pascal/VOC",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--years", nargs="+", default=["2007", "2012"], choices=["2007", "2012"], help="which to prepare [both]"
    )
    parser.add_argument(
        "--output",
        default=os.getenv("DETECTRON2_DATASETS", "datasets"),
        help="folder that gets VOC2007 and VOC2012 [$DETECTRON2_DATASETS, here: %(default)s]",
    )
    parser.add_argument(
        "--base-url",
        default=BASE_URL,
        help="where voc2007/VOCtrainval_06-Nov-2007.tar etc. are; file:// works too [%(default)s]",
    )
    parser.add_argument(
        "--keep-archives", action="store_true", help="keep the downloaded archives in OUTPUT/VOC_archives"
    )
    return parser.parse_args()


def main() -> None:
    try:
        prepare_voc(**vars(parse_args()))
    except PrepareError as error:
        raise SystemExit(f"prepare_voc.py: {error}") from error


if __name__ == "__main__":
    main()
