"""The pictures of a data set: found in folders and under another spelling, and decoded once before a training.

A broken picture would end a training after hours, by whichever batch it lies in. Where small copies are made, this is
the one time it is decoded. Else JPEGs are decoded to an eighth of their size, which reads the whole file in a third to
three quarters of the time.
"""

import os
import stat
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image
from tqdm import tqdm

from .small_copies import SIDEWAYS, SmallCopies, orientation_of

# What Pillow makes RGB of without loss. Its 16-bit, 32-bit and float modes would be cut off at 255.
_MODES = ("1", "L", "LA", "La", "P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr", "HSV")
_AT_A_TIME = 4096  # pictures; one that waits for its turn takes a kilobyte
_INTEGERS = ("I", "I;16", "I;16B", "I;16L")


class Picture(NamedTuple):
    """A picture that can be read."""

    width: int  # as `detection_utils.read_image` gives it, turned as EXIF says
    height: int
    orientation: int  # EXIF's; 1 if it is read as it is stored
    identity: tuple[int, int]  # the same for two names of one file

    def size_fault(self, stated: tuple[float, float] | None, whose: str) -> str | None:
        """What is wrong with a size (width, height) that an annotation file states. None if nothing is."""
        if stated in (None, (self.width, self.height)):
            return None
        # Nobody knows which of the two the boxes were drawn on.
        fault = f"size is {stated[0]} x {stated[1]}, but {whose} is {self.width} x {self.height}"
        if self.orientation in SIDEWAYS and stated == (self.height, self.width):
            fault += " once it is turned as its EXIF data says: write it turned, or take the EXIF orientation out"
        return fault


# What is known of files by path, time and size: data sets are loaded several times in a run.
_known: dict[tuple[str, int, int], "Picture | str"] = {}
_copies: SmallCopies | None = None  # where copies of what is decoded go


@contextmanager
def copied_to(copies: SmallCopies | None) -> Iterator[None]:
    """Within it, pictures that are decoded leave a small copy."""
    global _copies
    before, _copies = _copies, copies
    try:
        yield
    finally:
        _copies = before


def inspect_pictures(files: Iterable[str], description: str) -> None:
    """Decodes pictures in parallel, so that `inspect_picture` knows them."""
    unknown = [file for file in files if not _is_known(file)]
    with (
        ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool,
        tqdm(desc=description, total=len(unknown), unit="picture", delay=2, leave=False, disable=None) as bar,
    ):
        for start in range(0, len(unknown), _AT_A_TIME):
            for _ in pool.map(_look, unknown[start : start + _AT_A_TIME]):
                bar.update()


def _is_known(file: str) -> bool:
    try:
        return _key(file, os.stat(file)) in _known
    except (OSError, ValueError):  # a null character in a name
        return False


def _key(file: str, status: os.stat_result) -> tuple[str, int, int]:
    return file, status.st_mtime_ns, status.st_size


def inspect_picture(file: str) -> Picture:
    """Decodes a picture, unless it was before.

    Raises:
        FileNotFoundError: it is not there.
        ValueError: it cannot be read, or not as it looks; says why in one line.
    """
    found = _look(file)
    if isinstance(found, FileNotFoundError):
        raise found
    if isinstance(found, str):
        raise ValueError(found)
    return found


def _look(file: str) -> "Picture | str | FileNotFoundError":
    try:
        status = os.stat(file)
        key = _key(file, status)
        if key not in _known:
            _known[key] = _decode(file, status)
        return _known[key]
    except FileNotFoundError as error:
        return error
    except Exception as error:  # Pillow's plugins raise anything
        reason = " ".join(str(error).split()) or type(error).__name__
        return f"not readable as an image: {reason}"


def _decode(file: str, status: os.stat_result) -> "Picture | str":
    if not stat.S_ISREG(status.st_mode):
        return "not readable as an image: it is no regular file"
    with Image.open(file) as image:
        width, height = image.size
        orientation = orientation_of(image)
        copies = None if _copies is None or _copies.full else _copies
        if not copies:
            image.draft("L", (max(1, width // 8), max(1, height // 8)))
        fault = depth_fault(image) or _turned_fault(image, orientation)
        if copies and not fault:
            copies.add(file, image)  # which loads it
        image.load()
        if fault:
            return fault
    picture = Picture(width, height, orientation, (status.st_dev, status.st_ino))
    return picture._replace(width=height, height=width) if orientation in SIDEWAYS else picture


def _turned_fault(image: Image.Image, orientation: int) -> str | None:
    """What is wrong with a TIFF that EXIF turns: Pillow turns it when it is loaded, and Detectron2 once more."""
    if image.format != "TIFF" or orientation == 1:
        return None
    return f"it is a TIFF with EXIF orientation {orientation}, which Detectron2 turns twice: write the picture turned"


def depth_fault(image: Image.Image) -> str | None:
    """What is wrong with the mode of a picture whose pixels are to become bytes."""
    if image.mode in _MODES:
        return None
    if image.mode in _INTEGERS:
        low, high = np.asarray(image.getextrema())
        if low >= 0 and high <= 255:
            return None
    return (
        f"its pixels are of Pillow's mode {image.mode}, which would become black or white ones: "
        "scale it to 8 bits a channel"
    )


def walk(root: "str | os.PathLike[str]") -> Iterator[str]:
    """What is below a folder, but in hidden ones, also behind links, but for those that lead back.

    Paths with slashes; that of a folder ends with one.
    """

    def refuse(error: OSError) -> None:
        raise error  # os.walk would pass a folder over that it cannot read, and its images with it

    above = {
        os.fspath(root): {_identity(root)}
    }  # of each folder that is still to be walked: itself, and those it is in
    for here, folders, files in os.walk(root, followlinks=True, onerror=refuse):
        own = above.pop(here)
        inside = {name: _identity(os.path.join(here, name)) for name in folders if not is_hidden(name)}
        folders[:] = [name for name, identity in inside.items() if identity not in own]
        above.update({os.path.join(here, name): own | {inside[name]} for name in folders})
        below = Path(here).relative_to(root)
        yield from ((below / name).as_posix() for name in files)
        yield from (f"{(below / name).as_posix()}/" for name in folders)


def _identity(path: "str | os.PathLike[str]") -> tuple[int, int]:
    status = os.stat(path)
    return status.st_dev, status.st_ino


def is_hidden(name: str) -> bool:
    """Whether a file or folder of that name is none of the data set's; macOS adds such to folders and archives."""
    return name.startswith(".") or name == "__MACOSX"


class Spellings:
    """File names as they are, by names that differ in upper case or in Unicode's form. Lists each folder once."""

    def __init__(self) -> None:
        self._folders: dict[str, dict[str, list[str]]] = {}

    def of(self, path: str) -> list[str]:
        """The files of that folder whose name is spelled like that, or another way."""
        folder, name = os.path.split(path)
        if folder not in self._folders:
            self._folders[folder] = _names_in(folder)
        return [os.path.join(folder, own) for own in self._folders[folder].get(_folded(name), [])]


def _names_in(folder: str) -> dict[str, list[str]]:
    found = defaultdict(list)
    try:
        for name in sorted(os.listdir(folder)):
            found[_folded(name)].append(name)
    except (OSError, ValueError):  # no such folder, or no name of one
        pass
    return found


def _folded(name: str) -> str:
    return unicodedata.normalize("NFC", name).casefold()
