"""Small copies of the training images: every picture is decoded once, and read from one file from then on.

C channels; a copy is (C, h, w) uint8 in the order of INPUT.FORMAT, at the largest size a run reads its image at. A run
that reads at one size gets the very pixels that Detectron2's mapper gives. With several sizes it does so in pruning
only, where they are resized from the largest.
"""

import logging
import os
import threading
import weakref
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from detectron2.config import CfgNode
from detectron2.data import detection_utils
from detectron2.data.transforms import ResizeShortestEdge
from detectron2.utils import comm
from PIL import Image
from tqdm import tqdm

logger = logging.getLogger(__name__)

FILE = ".small_copies_*"  # in OUTPUT_DIR; * is the process
_CHANNELS = {"RGB": 3, "BGR": 3, "L": 1}  # of the formats whose pixels are bytes
_made: dict[tuple[Any, ...], "SmallCopies"] = {}  # of this process, by what they were made for


class Copy(NamedTuple):
    """Where a copy lies, and the size (height, width) of its picture."""

    path: str
    start: int
    height: int
    width: int
    picture: tuple[int, int]


class SmallCopies:
    """Copies in a file that goes with the object; a picture that has none is made smaller whenever it is read.

    So what is read does not depend on `budget`, the bytes that the file may hold. Other processes of the machine read
    the file as well.
    """

    def __init__(self, path: "str | Path", sizes: Iterable[tuple[int, int]], image_format: str, budget: float):
        self._path, self._sizes, self._format, self._left = str(path), tuple(sizes), image_format, budget
        self._copies: dict[str, Copy] = {}
        self._maps: dict[str, np.memmap] = {}
        self._end, self._lock = 0, threading.Lock()
        self._file = -1

    def __getstate__(self) -> dict[str, Any]:
        """For a worker process, which only reads."""
        return {**vars(self), "_lock": None, "_maps": {}, "_left": 0}

    @property
    def full(self) -> bool:
        return self._left <= 0

    def shape_of(self, height: int, width: int) -> tuple[int, int]:
        """(h, w) of the copy of such a picture: the largest that is read, or the picture's own if that is no larger."""
        if not all(short for short, _ in self._sizes):
            return height, width
        shapes = [ResizeShortestEdge.get_output_shape(height, width, short, longest) for short, longest in self._sizes]
        largest = max(shapes, key=lambda shape: shape[0] * shape[1])
        return largest if largest[0] * largest[1] < height * width else (height, width)

    def read(self, file: str) -> tuple[np.ndarray, tuple[int, int]]:
        """The copy of a picture, (h, w, C), not to be written to, and the picture's own height and width."""
        copy = self._copies.get(file)
        if copy is None:
            with detection_utils.PathManager.open(file, "rb") as opened, Image.open(opened) as picture:
                pixels, size = self._shrunk(picture)
        else:
            pixels, size = self._stored(copy), copy.picture
        return pixels.transpose(1, 2, 0), size

    def add(self, file: str, picture: Image.Image) -> None:
        """Decodes an opened picture, and keeps its copy while there is room."""
        pixels, size = self._shrunk(picture)
        with self._lock:
            start, fits = self._end, pixels.nbytes <= self._left
            if fits:
                self._end += pixels.nbytes
                self._left -= pixels.nbytes
            else:
                self._left = 0
        if fits:
            try:
                self._open()
                os.pwrite(self._file, pixels.tobytes(), start)
                self._copies[file] = Copy(self._path, start, pixels.shape[1], pixels.shape[2], size)
            except OSError as error:
                self._left = 0
                logger.warning(f"{self._path}: {error.strerror}; images without a copy are decoded in each pass")

    def fill(self, files: Iterable[str]) -> None:
        """Makes the copies that are missing, each process of a machine a part; all processes have to call it."""
        missing = [file for file in dict.fromkeys(files) if file not in self._copies and os.path.isfile(file)]
        ranks, rank = comm.get_local_size(), comm.get_local_rank()

        def make(file: str) -> None:
            if not self.full:
                with Image.open(file) as picture:
                    self.add(file, picture)

        own = missing[rank::ranks]
        with ThreadPoolExecutor(max(1, min(8, (os.cpu_count() or 1) // ranks))) as pool:
            for _ in tqdm(pool.map(make, own), "Small copies", len(own), unit="picture", delay=2, leave=False):
                pass
        if ranks > 1:
            first = comm.get_rank() - rank
            for copies in comm.all_gather(self._copies)[first : first + ranks]:
                self._copies.update(copies)

    def _shrunk(self, picture: Image.Image) -> tuple[np.ndarray, tuple[int, int]]:
        turned = detection_utils._apply_exif_orientation(picture)
        mode = "L" if self._format == "L" else "RGB"
        turned = turned if turned.mode == mode else turned.convert(mode)
        height, width = self.shape_of(turned.height, turned.width)
        size = turned.height, turned.width
        if size != (height, width):
            turned = turned.resize((width, height), Image.Resampling.BILINEAR)
        pixels = np.asarray(turned).reshape(height, width, _CHANNELS[self._format])
        return np.ascontiguousarray(pixels[..., :: -1 if self._format == "BGR" else 1].transpose(2, 0, 1)), size

    def _stored(self, copy: Copy) -> np.ndarray:
        channels = _CHANNELS[self._format]
        end = copy.start + channels * copy.height * copy.width
        if copy.path not in self._maps or len(self._maps[copy.path]) < end:
            self._maps[copy.path] = np.memmap(copy.path, np.uint8, "r")
        return np.asarray(self._maps[copy.path][copy.start : end]).reshape(channels, copy.height, copy.width)

    def _open(self) -> None:
        with self._lock:
            if self._file >= 0:
                return
            Path(self._path).parent.mkdir(parents=True, exist_ok=True)
            self._file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600)
            weakref.finalize(self, _remove, self._path, self._file)


def _remove(path: str, file: int) -> None:
    os.close(file)
    Path(path).unlink(missing_ok=True)


def make_copies(cfg: CfgNode) -> SmallCopies | None:
    """Begins the copies for a run, in its OUTPUT_DIR, and drops those of this process's run before it."""
    _made.clear()
    sizes = _sizes(cfg)
    if cfg.INPUT.FORMAT not in _CHANNELS or cfg.INPUT.CROP.ENABLED or (len(sizes) > 1 and not cfg.ADAPRUNER.ENABLED):
        return None
    path = Path(cfg.OUTPUT_DIR, FILE.replace("*", str(comm.get_rank())))
    budget = cfg.DATALOADER.CACHE_GB * 2**30 / comm.get_local_size()
    return _made.setdefault(_purpose(cfg), SmallCopies(path, sizes, cfg.INPUT.FORMAT, budget))


def copies_of(cfg: CfgNode) -> SmallCopies | None:
    """The copies that this process has made for the run, if any."""
    return _made.get(_purpose(cfg))


def _purpose(cfg: CfgNode) -> tuple[Any, ...]:
    return cfg.OUTPUT_DIR, cfg.INPUT.FORMAT, _sizes(cfg)


def _sizes(cfg: CfgNode) -> tuple[tuple[int, int], ...]:
    """(shorter side, limit of the longer) of every size that training images are read at, in training or in testing."""
    options = cfg.INPUT
    shorter = options.MIN_SIZE_TRAIN if isinstance(options.MIN_SIZE_TRAIN, tuple | list) else (options.MIN_SIZE_TRAIN,)
    sizes = {(short, options.MAX_SIZE_TRAIN) for short in shorter}
    return tuple(sorted(sizes | {(options.MIN_SIZE_TEST, options.MAX_SIZE_TEST)}))
