"""Reads PASCAL VOC folders of any classes as Detectron2's dataset dicts.

Detectron2's own reader (`detectron2/data/datasets/pascal_voc.py`) defines the box convention. This one reads what that
one stumbles over, and reports every problem of every file at once.

Boxes of a W x H picture:
    as written   xmin, ymin, xmax, ymax as 1-based inclusive pixel numbers, [1, W] and [1, H]
    Detectron2's XYXY_ABS with xmin and ymin one less: the edges of those pixels in [0, W], [0, H]
"""

import logging
import math
import os
import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import NamedTuple, TypeVar
from xml.etree.ElementTree import Element

from defusedxml.ElementTree import ParseError, parse
from detectron2.structures import BoxMode
from tqdm import tqdm

from .validation import (
    LOGGED_LINES,
    UNREADABLE,
    Findings,
    InvalidDatasetError,
    PathLike,
    Problem,
    Record,
    check_on_invalid,
    find_box_fault,
    first_lines,
    picture_size,
)

logger = logging.getLogger(__name__)

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp")  # of two files with one stem, the earlier wins

# defusedxml's own errors are ValueErrors; an encoding that Python lacks is a LookupError
_XML_ERRORS = (ParseError, ValueError, LookupError, OSError)
_CORNERS = ("xmin", "ymin", "xmax", "ymax")
_DIFFICULT = {"": False, "0": False, "1": True, "false": False, "true": True}
_TWO_COLUMNS = re.compile(r"(\S.*?)\s+(?:-1|0|1)")

Box = tuple[float, float, float, float]
_Part = TypeVar("_Part")


class VOCObject(NamedTuple):
    """One `<object>` of an annotation file."""

    name: str  # its class
    box: Box  # (xmin, ymin, xmax, ymax) as written, unclipped
    difficult: bool  # finding it is neither rewarded nor punished
    number: int  # its place in the file, counted from 1


class VOCAnnotation(NamedTuple):
    """What one annotation file says."""

    size: tuple[int, int] | None  # width and height of the picture; None if the file does not say
    objects: list[VOCObject]  # those that could be read
    problems: list[Problem]  # one for each that could not, and for a size that is no number


def read_image_set(dirname: PathLike, split: str) -> list[str]:
    """Reads the image ids of `ImageSets/Main/<split>.txt`, in their order, each once.

    Takes one id a line, or VOC's per-class form, an id and -1, 0 or 1 (ignored). Ids that repeat are logged.

    Raises:
        FileNotFoundError: there is no such list; names the lists that exist.
        ValueError: the list is empty or is not UTF-8 text.
    """
    folder = _subfolder(dirname, "ImageSets/Main")
    path = folder / f"{split}.txt"
    if not path.is_file():
        lists = ", ".join(sorted(p.stem for p in folder.glob("*.txt"))) or "none"
        raise FileNotFoundError(f"{path} does not exist; lists in that folder: {lists}")
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not UTF-8 text ({error}): save it as UTF-8") from error
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if not lines:
        raise ValueError(f"{path} lists no image")
    # Only if all lines have the flag: ids may have blanks, and one of them may end in " 1".
    columns = [match[1] for match in map(_TWO_COLUMNS.fullmatch, lines) if match]
    counts = Counter(columns if len(columns) == len(lines) else lines)
    repeated = [f"{i} ({n} times)" for i, n in counts.items() if n > 1]
    if repeated:
        shown = "\n".join(first_lines(repeated, LOGGED_LINES))
        logger.warning(f"{path} lists {len(repeated)} ids more than once; each is used once:\n{shown}")
    return list(counts)


def collect_class_names(dirname: PathLike) -> list[str]:
    """The class names of all annotations of a folder, sorted, so that all its splits number them alike.

    Files that cannot be read are passed over: loading a split reports those that belong to it.

    Raises:
        FileNotFoundError: there is no `Annotations` folder.
        ValueError: no annotation names a class.
    """
    names: set[str] = set()
    for file in _progress(sorted(index_files(dirname, "Annotations", (".xml",)).values()), f"Classes of {dirname}"):
        try:
            root = parse(file).getroot()
        except _XML_ERRORS:
            continue
        names.update(_text(element, "name") for element in root.findall("object"))
    names.discard("")
    if not names:
        folder = Path(dirname) / "Annotations"
        raise ValueError(f"no annotation in {folder} names a class: give the class names yourself")
    return sorted(names)


def read_annotation(path: PathLike) -> VOCAnnotation:
    """Reads one annotation file, and checks what the file alone can tell.

    Raises:
        InvalidDatasetError: the file is missing or is not XML.
    """
    path = os.fspath(path)
    try:
        root = parse(path).getroot()
    except _XML_ERRORS as error:
        raise _broken(path, f"not readable as XML: {error}") from error
    size: tuple[int, int] | None = None
    objects: list[VOCObject] = []
    problems: list[Problem] = []
    try:
        size = _read_size(root)
    except ValueError as error:
        problems.append(Problem(path, str(error)))
    for number, element in enumerate(root.findall("object"), start=1):
        try:
            objects.append(_read_object(element, number))
        except ValueError as error:
            problems.append(Problem(path, str(error), number, _text(element, "name") or None))
    return VOCAnnotation(size, objects, problems)


def load_voc_dataset(
    dirname: PathLike, split: str, class_names: Sequence[str], on_invalid: str = "error"
) -> list[Record]:
    """Loads a split as Detectron2's standard dataset dicts.

    Coordinates up to one pixel beyond the picture are clipped in silence: they come from writers that count from 0.
    Difficult objects are included, as in Detectron2, with `difficult` 1.

    Args:
        dirname: the VOC folder.
        split: name of the list in `ImageSets/Main`, without `.txt`.
        class_names: in the order of their category ids.
        on_invalid: what to do about problems, once all of them are known. "error" raises. "skip_objects" drops the bad
            objects, and the images that cannot be used at all (no picture, no readable annotation, sizes that
            contradict each other); an image that loses all its objects stays. "skip_images" drops every image that has
            any problem.

    Raises:
        InvalidDatasetError: there are problems and `on_invalid` is "error", or no image is left.
        FileNotFoundError: the list or one of VOC's folders is missing.
        ValueError: `on_invalid` is none of the three, or a class name is given twice.
    """
    check_on_invalid(on_invalid)
    repeated = [name for name, n in Counter(class_names).items() if n > 1]
    if repeated:
        raise ValueError(f"class names given more than once: {', '.join(repeated)}")
    image_ids = read_image_set(dirname, split)
    reader = _Reader(dirname, class_names)
    found = [reader.read(image_id) for image_id in _progress(image_ids, f"Reading {dirname} {split}")]
    records = [record for record in found if record is not None]
    where = f"split {split!r} of {dirname} (classes: {', '.join(class_names)})"
    return reader.findings.usable(records, len(image_ids), where, on_invalid)


class _Reader:
    """Reads single images of a folder, whose files it lists once instead of guessing at names."""

    def __init__(self, dirname: PathLike, class_names: Sequence[str]):
        self.findings = Findings()
        self._dirname = dirname
        self._pictures = index_files(dirname, "JPEGImages", IMAGE_SUFFIXES)
        self._annotations = index_files(dirname, "Annotations", (".xml",))
        self._category_ids = {name: i for i, name in enumerate(class_names)}

    def read(self, image_id: str) -> Record | None:
        """The image with its good objects; None if it is of no use."""
        size = self._found(self._picture_size, image_id)
        annotation = self._found(self._annotation, image_id)
        if size is None or annotation is None:
            return None
        width, height = size
        file = self._annotations[image_id]
        for problem in annotation.problems:
            self.findings.add(image_id, problem, bad_object=problem.object_number is not None)
        if annotation.size and annotation.size != size:
            # Nobody knows which of the two the boxes were drawn on.
            message = "size is {} x {}, but the picture's is {} x {}".format(*annotation.size, width, height)
            self.findings.add(image_id, Problem(file, message), unusable=True)
            return None
        objects = []
        for obj in annotation.objects:
            try:
                objects.append(self._object(obj, width, height))
            except ValueError as error:
                self.findings.add(image_id, Problem(file, str(error), obj.number, obj.name), bad_object=True)
        path = self._pictures[image_id]
        return {"file_name": path, "image_id": image_id, "height": height, "width": width, "annotations": objects}

    def _found(self, read: Callable[[str], _Part], image_id: str) -> _Part | None:
        try:
            return read(image_id)
        except InvalidDatasetError as error:
            self.findings.add(image_id, error.problems[0], unusable=True)
            return None

    def _picture_size(self, image_id: str) -> tuple[int, int]:
        if image_id not in self._pictures:
            file = os.path.join(self._dirname, "JPEGImages", image_id)
            raise _broken(file, f"no image of this id with one of {', '.join(IMAGE_SUFFIXES)}")
        try:
            return picture_size(self._pictures[image_id])
        except UNREADABLE as error:
            raise _broken(self._pictures[image_id], f"not readable as an image: {error}") from error

    def _annotation(self, image_id: str) -> VOCAnnotation:
        if image_id not in self._annotations:
            raise _broken(os.path.join(self._dirname, "Annotations", f"{image_id}.xml"), "no such annotation")
        return read_annotation(self._annotations[image_id])

    def _object(self, obj: VOCObject, width: int, height: int) -> Record:
        if obj.name not in self._category_ids:
            raise ValueError("unknown class")
        xmin, ymin, xmax, ymax = obj.box
        left, top, right, bottom = edges(obj.box)
        inverted = xmin > xmax or ymin > ymax  # by less than a pixel, it has an area all the same
        fault = "has no area" if inverted else find_box_fault(edges(obj.box), width, height)
        if fault:
            raise ValueError("box xmin {:g}, ymin {:g}, xmax {:g}, ymax {:g} ".format(*obj.box) + fault)
        return {
            "category_id": self._category_ids[obj.name],
            "bbox": [max(left, 0.0), max(top, 0.0), min(right, float(width)), min(bottom, float(height))],
            "bbox_mode": BoxMode.XYXY_ABS,
            "difficult": int(obj.difficult),
            "iscrowd": 0,
        }


def edges(box: Box) -> Box:
    """A box as written, in Detectron2's convention."""
    return box[0] - 1.0, box[1] - 1.0, box[2], box[3]


def index_files(dirname: PathLike, name: str, suffixes: Sequence[str]) -> dict[str, str]:
    """Maps id -> path for the files of a VOC folder's subfolder with one of the suffixes, in any case.

    Of two files with one id, the one whose suffix comes first in `suffixes` wins.

    Raises:
        FileNotFoundError: there is no such subfolder.
    """
    index: dict[str, tuple[int, str]] = {}
    for file in sorted(os.listdir(_subfolder(dirname, name))):
        stem, suffix = os.path.splitext(file)
        if suffix.lower() in suffixes:
            candidate = (suffixes.index(suffix.lower()), file)
            index[stem] = min(candidate, index.get(stem, candidate))
    # Joined like Detectron2 does it, which keeps file_name the same string as there.
    return {stem: os.path.join(dirname, name, file) for stem, (_, file) in index.items()}


def _broken(file: str, message: str) -> InvalidDatasetError:
    return InvalidDatasetError("Broken file:", [Problem(file, message)], "Correct the file or write it anew.")


def _read_size(root: Element) -> tuple[int, int] | None:
    texts = {tag: _text(root, f"size/{tag}") for tag in ("width", "height")}
    sizes = [_number(text, f"size/{tag}") if text else 0.0 for tag, text in texts.items()]
    # Some labelling tools write 0 x 0 for a size that they do not know.
    return (round(sizes[0]), round(sizes[1])) if all(sizes) else None


def _read_object(element: Element, number: int) -> VOCObject:
    name = _text(element, "name")
    if not name:
        raise ValueError("has no name")
    bndbox = element.find("bndbox")
    if bndbox is None:
        raise ValueError("has no bndbox")
    xmin, ymin, xmax, ymax = (_number(_text(bndbox, tag), tag) for tag in _CORNERS)
    difficult = _text(element, "difficult").lower()
    if difficult not in _DIFFICULT:
        raise ValueError(f"difficult is {difficult!r}, not 0 or 1")
    return VOCObject(name, (xmin, ymin, xmax, ymax), _DIFFICULT[difficult], number)


def _text(element: Element, tag: str) -> str:
    """The stripped text of a child, empty if there is no such child."""
    return (element.findtext(tag) or "").strip()


def _number(text: str, tag: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise ValueError(f"{tag} is {text!r}, not a number" if text else f"has no {tag}")
    return value


def _subfolder(dirname: PathLike, name: str) -> Path:
    folder = Path(dirname) / name
    if not folder.is_dir():
        raise FileNotFoundError(
            f"{folder} does not exist; a PASCAL VOC folder has JPEGImages/, Annotations/ and ImageSets/Main/"
        )
    return folder


def _progress(items: Sequence[str], description: str) -> Iterable[str]:
    bar: Iterable[str] = tqdm(items, desc=description, unit="file", delay=2, leave=False)
    return bar
