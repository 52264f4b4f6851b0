"""The pictures that classification records name: are they readable, and all of them as one array.

A picture is a file, or a member of a zip archive, which is read in place and never unpacked.
Pictures are turned as their EXIF data says, as Detectron2 does it.

Shapes: N images, S x S pixels each once read, H x W before.
"""

import io
import logging
import os
import sys
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from typing import BinaryIO

import cv2
import numpy as np
import torch
from PIL import Image, ImageOps
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional as F
from tqdm import tqdm

from .validation import InvalidDatasetError, Problem

logger = logging.getLogger(__name__)

Archives = Mapping[str, zipfile.ZipFile]

_CHUNK = 128  # images a thread reads at a time
_BUFFER = 1 << 16  # bytes; Pillow reads headers in small pieces
_JPEG_START = b"\xff\xd8\xff"
# What Pillow, zipfile (an encrypted or damaged member) and the file system raise.
_UNREADABLE = (
    OSError,
    EOFError,
    KeyError,
    RuntimeError,
    SyntaxError,
    ValueError,
    Image.DecompressionBombError,
    cv2.error,
    zipfile.BadZipFile,
    zlib.error,
)


def read_images(records: Sequence[dict], size: int) -> np.ndarray:
    """Reads the pictures of N records into memory.

    A picture that is not S x S is resized as torchvision's `Resize` does it (shorter side to S,
    bicubic, antialiased) and cropped at its centre.

    Args:
        records: each with `image`, uint8 (H, W, 3) RGB, or with `file_name` and, if that is a zip
            archive, the `member` in it.
        size: S, in pixels.

    Returns:
        (N, S, S, 3) uint8, RGB, in the order of the records.

    Raises:
        InvalidDatasetError: pictures that cannot be read; names all of them, with file and member.
        ValueError: an archive is no zip archive.
    """
    _warn_of_size(len(records), size)
    images = np.empty((len(records), size, size, 3), np.uint8)
    with open_archives(records) as archives, ThreadPoolExecutor(_num_threads()) as pool:

        def read_chunk(first: int) -> list[Problem]:
            chunk = range(first, min(first + _CHUNK, len(records)))
            found = (_read_into(images[i], records[i], archives) for i in chunk)
            return [problem for problem in found if problem is not None]

        problems = []
        with _progress(total=len(records), desc="Reading images", unit="image") as bar:
            for found in pool.map(read_chunk, range(0, len(records), _CHUNK)):
                problems += found
                bar.update(min(_CHUNK, bar.total - bar.n))
    if problems:
        raise InvalidDatasetError(
            f"{len(problems)} of {len(records)} images cannot be decoded:",
            problems,
            "Replace these files, or take them out of the data set.",
        )
    return images


def find_unreadable(records: Sequence[dict], description: str) -> dict[int, Problem]:
    """Reads the header of every picture; the pixels stay undecoded.

    Args:
        records: with `file_name` and perhaps `member`, see `read_images`.
        description: of what is read, for the progress bar.

    Returns:
        position in `records` -> problem, of those that are no pictures.
    """
    problems = {}
    with open_archives(records) as archives:
        for i, record in enumerate(_progress(records, desc=description, unit="file")):
            try:
                with _open(record, archives) as file, Image.open(file):
                    pass  # Pillow parses the header when it opens a file
            except _UNREADABLE as error:
                problems[i] = Problem(image_source(record), f"not readable as an image: {error}")
    return problems


def _progress(*args, **options) -> tqdm:
    every = 0.1 if sys.stderr.isatty() else 30  # seconds; a log file need not hold every step
    return tqdm(*args, **options, delay=2, leave=False, mininterval=every)


def image_source(record: dict) -> str:
    """Where a record's picture comes from: `file`, `archive: member`, or its id if it is in memory."""
    if "image" in record:
        return f"image {record['image_id']}"
    member = record.get("member")
    return record["file_name"] if member is None else f"{record['file_name']}: {member}"


def open_archive(path: "str | os.PathLike[str]") -> zipfile.ZipFile:
    """Opens a zip archive for reading; raises ValueError, which names it, if it is none."""
    try:
        return zipfile.ZipFile(path)
    except (zipfile.BadZipFile, NotImplementedError) as error:
        raise ValueError(f"{path} cannot be read as a zip archive ({error}): download or pack it anew") from error


@contextmanager
def open_archives(records: Sequence[dict]) -> Iterator[Archives]:
    """The archives that the records name, by path; one handle each serves all threads.

    A ZipFile that only reads takes a lock for each read. A handle a thread would parse the list of
    members once a thread, which takes longer than the reading for small pictures.
    """
    paths = dict.fromkeys(record["file_name"] for record in records if "member" in record)
    with ExitStack() as stack:
        yield {path: stack.enter_context(open_archive(path)) for path in paths}


def _open(record: dict, archives: Archives) -> BinaryIO:
    if "member" not in record:
        return open(record["file_name"], "rb", buffering=_BUFFER)
    return io.BufferedReader(archives[record["file_name"]].open(record["member"]), _BUFFER)


def _read_into(target: np.ndarray, record: dict, archives: Archives) -> Problem | None:
    """Fills `target`, (S, S, 3); returns what went wrong, if anything did."""
    try:
        if "image" in record:
            pixels = _check_pixels(record["image"])
        else:
            with _open(record, archives) as file:
                pixels = _decode(file.read())
        target[:] = pixels if pixels.shape == target.shape else _fit(pixels, len(target))
    except _UNREADABLE as error:
        return Problem(image_source(record), str(error) or type(error).__name__)
    return None


def _check_pixels(pixels: np.ndarray) -> np.ndarray:
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3:
        raise ValueError(f"is {pixels.dtype} of shape {pixels.shape}, not uint8 of (H, W, 3)")
    return pixels


def _decode(data: bytes) -> np.ndarray:
    """(H, W, 3) uint8 RGB."""
    # OpenCV gives Pillow's pixels at a quarter of the time, and refuses a file that is cut off.
    if data.startswith(_JPEG_START):
        image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
        if image is not None:
            return image[:, :, ::-1]
    with Image.open(io.BytesIO(data)) as image:
        image = ImageOps.exif_transpose(image)
        if image.mode.startswith("I;16"):  # `convert` would clip it at 255
            image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
        return np.asarray(image.convert("RGB"))


def _fit(pixels: np.ndarray, size: int) -> np.ndarray:
    image = torch.from_numpy(np.array(pixels)).permute(2, 0, 1)
    image = F.resize(image, [size], interpolation=InterpolationMode.BICUBIC, antialias=True)
    return F.center_crop(image, [size, size]).permute(1, 2, 0).numpy()


def _num_threads() -> int:
    # Decoding leaves Python's lock for large pictures only; more threads would wait for each other.
    return min(4, os.cpu_count() or 1)


def _warn_of_size(num_images: int, size: int) -> None:
    needed, free = num_images * size * size * 3, _available_memory()
    if free is not None and needed > free / 2:
        logger.warning(
            f"{num_images} images of {size} x {size} pixels need {needed / 2**30:.1f} GiB of memory, and "
            f"{free / 2**30:.1f} GiB are free: a smaller INPUT.IMAGE_SIZE needs less"
        )


def _available_memory() -> int | None:
    """Bytes that the system can give to this process; None where it does not say (not Linux)."""
    try:
        with open("/proc/meminfo", encoding="ascii") as file:
            lines = dict(line.split(":", 1) for line in file)
        return int(lines["MemAvailable"].split()[0]) * 1024
    except (OSError, KeyError):
        return None
