"""Small copies of the training images: every picture is decoded once, and read from one file from then on.

C channels; a copy is (C, h, w) uint8 in the order of INPUT.FORMAT, at the largest size a run reads its image at.

Training and testing get the very pixels that Detectron2's mapper gives, or no copies. A pruning run has them with several
sizes too, which are resized from the largest. It decodes JPEGs that are at least four times as wide and high as their copy
at a half, a quarter or an eighth of their size, which is still twice the copy's: libjpeg then skips what nobody sees.
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
_MORE = 2  # what is resized to a copy has sides of at least so many times the copy's
_EXIF_ORIENTATION = 0x0112
SIDEWAYS = (5, 6, 7, 8)  # orientations whose height is stored as width
_CHANNELS = {"RGB": 3, "BGR": 3, "L": 1}  # of the formats whose pixels are bytes
_made: dict[tuple[Any, ...], "SmallCopies"] = {}  # of this process, by what they were made for


def orientation_of(picture: Image.Image) -> int:
    """EXIF's, 1 to 8; 1 if the picture is read as it is stored."""
    try:
        orientation = picture.getexif().get(_EXIF_ORIENTATION, 1)
    except Exception:  # Detectron2 too takes a picture with broken EXIF data as it is
        return 1
    return orientation if orientation in range(1, 9) else 1


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

    Args:
        path: of the file.
        sizes: (shorter side, limit of the longer) of what is read.
        image_format: as INPUT.FORMAT.
        budget: bytes.
        scaled: whether JPEGs are decoded at a fraction of their size where that is more than enough.
    """

    def __init__(
        self,
        path: "str | Path",
        sizes: Iterable[tuple[int, int]],
        image_format: str,
        budget: float,
        scaled: bool = False,
    ):
        self._path, self._sizes, self._format, self._left = str(path), tuple(sizes), image_format, budget
        self._scaled = scaled
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
        """Decodes a picture that is opened and not loaded, and keeps its copy while there is room."""
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
        stored = picture.height, picture.width
        size = stored[::-1] if orientation_of(picture) in SIDEWAYS else stored
        if self._scaled:
            picture = self._decoded_smaller(picture)
        turned = self._in_mode(detection_utils._apply_exif_orientation(picture))
        height, width = self.shape_of(*size)
        if turned.size != (width, height):
            turned = turned.resize((width, height), Image.Resampling.BILINEAR)
        pixels = np.asarray(turned).reshape(height, width, _CHANNELS[self._format])
        return np.ascontiguousarray(pixels[..., :: -1 if self._format == "BGR" else 1].transpose(2, 0, 1)), size

    def _decoded_smaller(self, picture: Image.Image) -> Image.Image:
        """The picture as it is stored, at the size of its copy if it is decoded at a fraction of its own."""
        height, width = self.shape_of(picture.height, picture.width)
        own = picture.size
        if not (height and width):  # too elongated: who resizes it says so
            return picture
        drafted = picture.draft(None, (_MORE * width, _MORE * height))  # None, but of JPEGs
        if drafted is None or picture.size == own:
            return picture
        # Sides that are no multiple of the fraction are rounded up: the box is what the picture takes of them.
        return self._in_mode(picture).resize((width, height), Image.Resampling.BILINEAR, box=drafted[1])

    def _in_mode(self, picture: Image.Image) -> Image.Image:
        mode = "L" if self._format == "L" else "RGB"
        return picture if picture.mode == mode else picture.convert(mode)

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
    return _made.setdefault(_purpose(cfg), SmallCopies(path, sizes, cfg.INPUT.FORMAT, budget, cfg.ADAPRUNER.ENABLED))


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
