"""The pictures that classification records name: are they readable, and all of them as one array.

A record has `image` (uint8 (H, W, 3) RGB), or `file_name` and, if that is a zip archive, the `member` in
it, which is read in place and never unpacked. Pictures are turned as their EXIF data says, as Detectron2
does it.
"""

import io
import os
import sys
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager

import cv2
import numpy as np
import torch
from PIL import Image, ImageOps
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional as F
from tqdm import tqdm
from tqdm.contrib.concurrent import thread_map

from .validation import InvalidDatasetError, Problem

Archives = Mapping[str, zipfile.ZipFile]

_CHUNK = 128  # images a thread reads at a time
# Decoding leaves Python's lock for large pictures only; more threads would wait for each other.
_THREADS = min(4, os.cpu_count() or 1)
_JPEG_START = b"\xff\xd8\xff"
# A log file need not hold every step.
_PROGRESS = {"delay": 2, "leave": False, "mininterval": 0.1 if sys.stderr.isatty() else 30}


def read_images(records: Sequence[dict], size: int) -> np.ndarray:
    """Reads the pictures of N records into memory: (N, size, size, 3) uint8 RGB.

    A picture of another size is resized as torchvision's `Resize` does it (shorter side, bicubic,
    antialiased) and cropped at its centre.

    Raises:
        InvalidDatasetError: pictures that cannot be read; names all of them, with file and member.
        ValueError: an archive is no zip archive.
    """
    images = np.empty((len(records), size, size, 3), np.uint8)
    with _open_archives(records) as archives:

        def read_chunk(start: int) -> list[Problem]:
            problems = []
            for i in range(start, min(start + _CHUNK, len(records))):
                try:
                    images[i] = _fitted(_pixels(records[i], archives), size)
                except Exception as error:  # Pillow and zipfile raise whatever their parsers stumble over
                    problems.append(Problem(_source(records[i]), str(error) or type(error).__name__))
            return problems

        starts = range(0, len(records), _CHUNK)
        unit = f" x {_CHUNK} images"
        found = thread_map(read_chunk, starts, max_workers=_THREADS, desc="Reading images", unit=unit, **_PROGRESS)
    problems = [problem for of_chunk in found for problem in of_chunk]
    if problems:
        raise InvalidDatasetError(
            f"{len(problems)} of {len(records)} images cannot be decoded:",
            problems,
            "Replace these files, or take them out of the data set.",
        )
    return images


def find_unreadable(records: Sequence[dict]) -> dict[int, Problem]:
    """Reads the header of every picture, not the pixels: position in `records` -> problem."""
    problems = {}
    with _open_archives(records) as archives:
        for i, record in enumerate(tqdm(records, "Reading headers", unit="file", **_PROGRESS)):
            try:
                with _open(record, archives) as file, Image.open(file):
                    pass  # Pillow parses the header when it opens a file
            except Exception as error:
                problems[i] = Problem(_source(record), f"not readable as an image: {error}")
    return problems


def open_archive(path: "str | os.PathLike[str]") -> zipfile.ZipFile:
    """Opens a zip archive for reading; raises ValueError, which names it, if it is none."""
    try:
        return zipfile.ZipFile(path)
    except (zipfile.BadZipFile, NotImplementedError) as error:
        raise ValueError(f"{path} cannot be read as a zip archive ({error}): download or pack it anew") from error


@contextmanager
def _open_archives(records: Sequence[dict]) -> Iterator[Archives]:
    """The archives that the records name, by path; one handle each serves all threads."""
    paths = {record["file_name"] for record in records if "member" in record}
    with ExitStack() as stack:
        yield {path: stack.enter_context(open_archive(path)) for path in paths}


def _open(record: dict, archives: Archives) -> io.BufferedIOBase:
    if "member" not in record:
        return open(record["file_name"], "rb")
    return io.BufferedReader(archives[record["file_name"]].open(record["member"]), 1 << 16)


def _source(record: dict) -> str:
    return ": ".join(record[key] for key in ("file_name", "member") if key in record)


def _pixels(record: dict, archives: Archives) -> np.ndarray:
    """(H, W, 3) uint8 RGB."""
    if "image" in record:
        return record["image"]
    with _open(record, archives) as file:
        data = file.read()
    # OpenCV gives Pillow's pixels of a JPEG in a quarter of the time; it refuses one that is cut off.
    image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR) if data.startswith(_JPEG_START) else None
    if image is not None:
        return image[:, :, ::-1]
    with Image.open(io.BytesIO(data)) as picture:
        picture = ImageOps.exif_transpose(picture)
        if picture.mode.startswith("I;16"):  # `convert` would clip it at 255
            picture = Image.fromarray((np.asarray(picture) >> 8).astype(np.uint8))
        return np.asarray(picture.convert("RGB"))


def _fitted(pixels: np.ndarray, size: int) -> np.ndarray:
    if pixels.shape[:2] == (size, size):
        return pixels
    image = torch.from_numpy(np.array(pixels)).permute(2, 0, 1)
    image = F.resize(image, [size], interpolation=InterpolationMode.BICUBIC, antialias=True)
    return F.center_crop(image, [size, size]).permute(1, 2, 0).numpy()
