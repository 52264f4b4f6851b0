"""The pictures that classification records name: are they readable, and all of them as one array.

A record has `image` (uint8 (H, W, 3) RGB), or `file_name` and, if that is a zip archive, the `member` in
it. Pictures are turned as their EXIF data says, as Detectron2 does it.
"""

import io
import os
import zipfile
from collections.abc import Sequence
from functools import lru_cache
from typing import IO

import cv2
import numpy as np
import torch
from PIL import Image, ImageOps
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional as F
from tqdm.contrib.concurrent import thread_map

from .pictures import depth_fault
from .validation import Findings, InvalidDatasetError, PathLike, Problem, Record

_CHUNK = 128  # images a thread reads at a time
_THREADS = min(4, os.cpu_count() or 1)  # decoding leaves Python's lock for large pictures only
_JPEG_START = b"\xff\xd8\xff"
_PROGRESS = {"delay": 2, "leave": False, "disable": None}


def read_images(records: Sequence[Record], size: int) -> np.ndarray:
    """Reads the pictures of N records into memory: (N, size, size, 3) uint8 RGB.

    Those of another size are resized (shorter side, bicubic, antialiased) and cropped at the centre.

    Raises:
        InvalidDatasetError: pictures that cannot be read; names all of them, with file and member.
    """
    images = np.empty((len(records), size, size, 3), np.uint8)

    def read_chunk(start: int) -> list[Problem]:
        problems = []
        for i in range(start, min(start + _CHUNK, len(records))):
            try:
                images[i] = _fitted(_pixels(records[i]), size)
            except Exception as error:  # Pillow and zipfile raise whatever their parsers stumble over
                problems.append(Problem(_source(records[i]), str(error) or type(error).__name__))
        return problems

    starts = range(0, len(records), _CHUNK)
    if len(starts) > 1:
        found = thread_map(read_chunk, starts, max_workers=_THREADS, desc="Reading images", **_PROGRESS)
    else:  # also called in threads, where tqdm's are not to be made
        found = map(read_chunk, starts)
    problems = [problem for of_chunk in found for problem in of_chunk]
    if problems:
        heading = f"{len(problems)} of {len(records)} images cannot be decoded:"
        raise InvalidDatasetError(heading, problems, "Replace these files, or take them out of the data set.")
    return images


def read_sizes(records: Sequence[Record]) -> list[tuple[int, int]]:
    """Width and height of each picture, as it is stored, from its header."""
    sizes = []
    for record in records:
        if "image" in record:
            sizes.append(record["image"].shape[1::-1])
        else:
            with _open(record) as file, Image.open(file) as picture:
                sizes.append(picture.size)
    return sizes


def drop_unreadable(records: list[Record], source: PathLike, on_invalid: str) -> list[Record]:
    """The records whose pictures can be decoded, JPEGs at an eighth of their size; what was found is remembered.

    Args:
        source: the data's name in messages.
        on_invalid: "error" raises; otherwise problems are logged, and their images left out.

    Raises:
        InvalidDatasetError: there are problems and `on_invalid` is "error", or no record is left.
    """
    faults = thread_map(_fault, records, max_workers=_THREADS, desc="Checking pictures", chunksize=1, **_PROGRESS)
    findings = Findings(on_invalid)
    for record, fault in zip(records, faults):
        if fault:
            findings.add(record["image_id"], Problem(_source(record), fault), unusable=True)
    return findings.usable(records, len(records), str(source), list)


_known: dict[tuple[str, str, int], str] = {}  # faults by file, member and time: data sets are loaded several times


def _fault(record: Record) -> str:
    """What is wrong with a picture, or ""."""
    try:
        file = record["file_name"]
        key = file, record.get("member", ""), os.stat(file).st_mtime_ns
        if key not in _known:
            _known[key] = _decode(record)
        return _known[key]
    except Exception as error:  # Pillow and zipfile raise whatever their parsers stumble over
        return f"not readable as an image: {error}"


def _decode(record: Record) -> str:
    with _open(record) as file, Image.open(file) as image:
        image.draft("RGB", (max(1, image.width // 8), max(1, image.height // 8)))
        image.load()
        return "" if image.mode.startswith("I;16") else depth_fault(image) or ""


def open_archive(path: PathLike) -> zipfile.ZipFile:
    """Opens a zip archive for reading; raises ValueError, which names it, if it is none."""
    try:
        return zipfile.ZipFile(path)
    except (zipfile.BadZipFile, NotImplementedError) as error:
        raise ValueError(f"{path} cannot be read as a zip archive ({error}): download or pack it anew") from error


@lru_cache(8)
def _archive(path: str, changed: int) -> zipfile.ZipFile:
    """One handle serves all threads: for small pictures, to list the members takes longer than to read them."""
    return open_archive(path)


def _open(record: Record) -> IO[bytes]:
    path = record["file_name"]
    if "member" not in record:
        return open(path, "rb")
    member = _archive(path, os.stat(path).st_mtime_ns).open(record["member"])
    return io.BufferedReader(member, 1 << 16)  # type: ignore[type-var]  # a ZipExtFile, which zipfile does not tell


def _source(record: Record) -> str:
    return ": ".join(record[key] for key in ("file_name", "member") if key in record)


def _pixels(record: Record) -> np.ndarray:
    """(H, W, 3) uint8 RGB."""
    if "image" in record:
        return record["image"]
    with _open(record) as file:
        data = file.read()
    # OpenCV gives Pillow's pixels of a JPEG in a quarter of the time; it refuses one that is cut off.
    image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR) if data.startswith(_JPEG_START) else None
    if image is not None:
        return image[:, :, ::-1]
    with Image.open(io.BytesIO(data)) as opened:
        picture = ImageOps.exif_transpose(opened)
        if picture.mode.startswith("I;16"):  # `convert` would clip it at 255
            picture = Image.fromarray((np.asarray(picture) >> 8).astype(np.uint8))
        fault = depth_fault(picture)
        if fault:
            raise ValueError(fault)
        return np.asarray(picture.convert("RGB"))


def _fitted(pixels: np.ndarray, size: int) -> np.ndarray:
    if pixels.shape[:2] == (size, size):
        return pixels
    image = torch.from_numpy(np.array(pixels)).permute(2, 0, 1)
    image = F.resize(image, [size], interpolation=InterpolationMode.BICUBIC, antialias=True)
    return F.center_crop(image, [size, size]).permute(1, 2, 0).numpy()
