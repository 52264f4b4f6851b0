"""Reads PASCAL VOC folders of any classes: training dicts for Detectron2, ground truth for scoring.

Detectron2's own reader (`detectron2/data/datasets/pascal_voc.py`) defines the box convention.
This one reads what that one stumbles over, and checks the whole image set before any training
starts: every problem of every file comes in one report.

Box conventions, W x H the size of the picture:
    as written   xmin, ymin, xmax, ymax as 1-based inclusive pixel numbers, [1, W] and [1, H];
                 a box with xmin == xmax is one pixel wide
    Detectron2's XYXY_ABS with xmin and ymin one less: the edges of those pixels in [0, W], [0, H]
"""

import logging
import math
import os
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from defusedxml.ElementTree import ParseError, parse
from detectron2.structures import BoxMode
from PIL import Image
from tqdm import tqdm

from .validation import (
    LOGGED_LINES,
    ON_INVALID,
    InvalidDatasetError,
    PathLike,
    Problem,
    check_on_invalid,
    first_lines,
    picture_size,
    raise_or_warn,
)

__all__ = [
    "InvalidDatasetError",
    "ON_INVALID",
    "Problem",
    "VOCAnnotation",
    "VOCObject",
    "check_on_invalid",
    "collect_class_names",
    "index_files",
    "load_voc_dataset",
    "read_annotation",
    "read_image_set",
]

logger = logging.getLogger(__name__)

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp")  # of two files with one stem, the earlier wins

_DIFFICULT = {"": 0, "0": 0, "1": 1, "false": 0, "true": 1}
_TWO_COLUMNS = re.compile(r"(\S.*?)\s+(?:-1|0|1)")

Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class VOCObject:
    """One `<object>` of an annotation file.

    Attributes:
        name: its class.
        box: (xmin, ymin, xmax, ymax) as written in the file: 1-based pixel numbers, unclipped.
        difficult: VOC's flag; evaluation neither rewards nor punishes finding such an object.
        number: its place in the file, counted from 1.
    """

    name: str
    box: Box
    difficult: bool
    number: int


@dataclass(frozen=True)
class VOCAnnotation:
    """What one annotation file says.

    Attributes:
        width, height: of the picture in pixels; None if the file does not say.
        objects: those that could be read.
        problems: one for each object that could not be read, and for a size that is no number.
    """

    width: int | None
    height: int | None
    objects: tuple[VOCObject, ...]
    problems: tuple[Problem, ...]


@dataclass(frozen=True)
class _Record:
    """One image of a split with the objects that passed every check."""

    image_id: str
    file_name: str
    width: int
    height: int
    objects: tuple[VOCObject, ...]


def read_image_set(dirname: PathLike, split: str) -> list[str]:
    """Reads the image ids of `ImageSets/Main/<split>.txt`.

    Takes one id a line, or VOC's per-class form, in which every line is an id and -1, 0 or 1 (the
    flag is ignored). An id that is listed again is used once, with a warning in the log.

    Args:
        dirname: the VOC folder.
        split: name of the list, without `.txt`.

    Returns:
        the ids in the order of the list, each once.

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
    columns = [_TWO_COLUMNS.fullmatch(line) for line in lines]
    ids = [match[1] for match in columns] if all(columns) else lines
    counts = Counter(ids)
    repeated = [f"{i} ({n} times)" for i, n in counts.items() if n > 1]
    if repeated:
        logger.warning(
            "%s lists %d ids more than once; each is used once:\n%s",
            path,
            len(repeated),
            "\n".join(first_lines(repeated, LOGGED_LINES)),
        )
    return list(counts)


def collect_class_names(dirname: PathLike) -> list[str]:
    """Collects the class names of all annotations of a folder, whatever split they belong to.

    Files that cannot be read are passed over: they may belong to no split, and loading a split
    reports those that do.

    Args:
        dirname: the VOC folder.

    Returns:
        the names, sorted, so that every split of the folder numbers its classes alike.

    Raises:
        FileNotFoundError: there is no `Annotations` folder.
        ValueError: no annotation names a class.
    """
    folder = _subfolder(dirname, "Annotations")
    names = set()
    for file in _progress(sorted(index_files(folder, (".xml",)).values()), f"Classes of {dirname}"):
        try:
            root = parse(folder / file).getroot()
        except (ParseError, ValueError, LookupError, OSError):
            continue
        names.update(_text(element, "name") for element in root.findall("object"))
    names.discard("")
    if not names:
        raise ValueError(f"no annotation in {folder} names a class: give the class names yourself")
    return sorted(names)


def read_annotation(path: PathLike) -> VOCAnnotation:
    """Reads one annotation file.

    Checks what the file alone can tell. Whether a box lies within the picture and whether a class
    is known is for `load_voc_dataset` to say.

    Args:
        path: of the XML file.

    Returns:
        its content, with the objects that could not be read listed in `problems`.

    Raises:
        InvalidDatasetError: the file is missing or is not XML.
    """
    path = os.fspath(path)
    try:
        root = parse(path).getroot()
    # defusedxml's own errors are ValueErrors; an encoding that Python lacks is a LookupError.
    except (ParseError, ValueError, LookupError, OSError) as error:
        problem = Problem(path, f"not readable as XML: {error}")
        raise InvalidDatasetError("Broken annotation file:", [problem], "Correct the file or write it anew.") from error
    objects, problems = [], []
    try:
        width, height = _read_size(root)
    except ValueError as error:
        width, height = None, None
        problems.append(Problem(path, str(error)))
    for number, element in enumerate(root.findall("object"), start=1):
        try:
            objects.append(_read_object(element, number))
        except ValueError as error:
            problems.append(Problem(path, str(error), number, _text(element, "name") or None))
    return VOCAnnotation(width, height, tuple(objects), tuple(problems))


def load_voc_dataset(
    dirname: PathLike, split: str, class_names: Sequence[str], on_invalid: str = "error"
) -> list[dict]:
    """Loads a split as Detectron2's standard dataset dicts.

    Boxes follow Detectron2's convention (see the top of this file). Coordinates up to one pixel
    beyond the picture are clipped in silence: they come from writers that count from 0. Difficult
    objects are included, as in Detectron2.

    Args:
        dirname: the VOC folder.
        split: name of the list in `ImageSets/Main`, without `.txt`.
        class_names: in the order of their category ids.
        on_invalid: what to do about problems, once all of them are known. "error" raises.
            "skip_objects" drops the bad objects, and the images that cannot be used at all (no
            picture, no readable annotation, sizes that contradict each other); an image that
            loses all its objects stays, without annotations. "skip_images" drops every image that
            has any problem.

    Returns:
        one dict an image: file_name, image_id (str), height, width (of the picture as Detectron2
        reads it) and annotations, each with category_id, bbox, bbox_mode (XYXY_ABS), difficult
        (0 or 1) and iscrowd (0).

    Raises:
        InvalidDatasetError: there are problems and `on_invalid` is "error", or no image is left.
        FileNotFoundError: the list or one of VOC's folders is missing.
        ValueError: `on_invalid` is none of the three, or a class name is given twice.
    """
    records = _load_records(dirname, split, class_names, on_invalid)
    category_ids = {name: i for i, name in enumerate(class_names)}
    return [_dataset_dict(record, category_ids) for record in records]


def _load_records(dirname: PathLike, split: str, class_names: Sequence[str], on_invalid: str) -> list[_Record]:
    check_on_invalid(on_invalid)
    repeated = [name for name, n in Counter(class_names).items() if n > 1]
    if repeated:
        raise ValueError(f"class names given more than once: {', '.join(repeated)}")
    image_ids = read_image_set(dirname, split)
    reader = _RecordReader(dirname, class_names)
    records, problems, num_objects = [], [], 0
    for image_id in _progress(image_ids, f"Reading {dirname} {split}"):
        record, found = reader.read(image_id)
        problems += found
        num_objects += sum(problem.object_number is not None for problem in found)
        if record is not None and not (found and on_invalid == "skip_images"):
            records.append(record)
    if problems:
        where = f"split {split!r} of {dirname} (classes: {', '.join(class_names)})"
        raise_or_warn(problems, where, on_invalid, len(image_ids), len(records), num_objects)
    return records


class _RecordReader:
    """Reads single images of a folder, whose files it lists once instead of guessing at names."""

    def __init__(self, dirname: PathLike, class_names: Sequence[str]):
        # Joined like Detectron2 does it, which keeps file_name the same string as there.
        self._image_dir = os.path.join(dirname, "JPEGImages")
        self._annotation_dir = os.path.join(dirname, "Annotations")
        self._images = index_files(_subfolder(dirname, "JPEGImages"), IMAGE_SUFFIXES)
        self._annotations = index_files(_subfolder(dirname, "Annotations"), (".xml",))
        self._class_names = frozenset(class_names)

    def read(self, image_id: str) -> tuple[_Record | None, list[Problem]]:
        """Returns the image with its good objects (None if it is of no use), and the problems."""
        problems: list[Problem] = []
        size = self._read_picture_size(image_id, problems)
        annotation = self._read_annotation(image_id, problems)
        if size is None or annotation is None:
            return None, problems
        problems += annotation.problems
        stated = (annotation.width, annotation.height)
        if None not in stated and stated != size:
            message = "size is {} x {}, but the picture's is {} x {}".format(*stated, *size)
            problems.append(Problem(self._annotation_file(image_id), message))
            # Nobody knows which of the two the boxes were drawn on.
            return None, problems
        objects = []
        for obj in annotation.objects:
            message = self._find_fault(obj, *size)
            if message is None:
                objects.append(obj)
            else:
                file = self._annotation_file(image_id)
                problems.append(Problem(file, message, obj.number, obj.name))
        file_name = os.path.join(self._image_dir, self._images[image_id])
        return _Record(image_id, file_name, *size, tuple(objects)), problems

    def _annotation_file(self, image_id: str) -> str:
        return os.path.join(self._annotation_dir, self._annotations[image_id])

    def _read_picture_size(self, image_id: str, problems: list[Problem]) -> tuple[int, int] | None:
        if image_id not in self._images:
            file = os.path.join(self._image_dir, image_id)
            problems.append(Problem(file, f"no image of this id with one of {', '.join(IMAGE_SUFFIXES)}"))
            return None
        file = os.path.join(self._image_dir, self._images[image_id])
        try:
            return picture_size(file)
        except (OSError, Image.DecompressionBombError) as error:
            problems.append(Problem(file, f"not readable as an image: {error}"))
            return None

    def _read_annotation(self, image_id: str, problems: list[Problem]) -> VOCAnnotation | None:
        if image_id not in self._annotations:
            file = os.path.join(self._annotation_dir, f"{image_id}.xml")
            problems.append(Problem(file, "no such annotation"))
            return None
        try:
            return read_annotation(self._annotation_file(image_id))
        except InvalidDatasetError as error:
            problems += error.problems
            return None

    def _find_fault(self, obj: VOCObject, width: int, height: int) -> str | None:
        if obj.name not in self._class_names:
            return "unknown class"
        return _find_box_fault(obj.box, width, height)


def _find_box_fault(box: Box, width: int, height: int) -> str | None:
    xmin, ymin, xmax, ymax = box
    written = "box xmin {:g}, ymin {:g}, xmax {:g}, ymax {:g}".format(*box)
    if xmin > xmax or ymin > ymax:
        return f"{written} has no area"
    if xmin < 0 or ymin < 0 or xmax > width + 1 or ymax > height + 1:
        return f"{written} is outside the {width} x {height} image"
    left, top, right, bottom = _to_detectron2_box(box, width, height)
    if left >= right or top >= bottom:
        return f"{written} has no area within the {width} x {height} image"
    return None


def _to_detectron2_box(box: Box, width: int, height: int) -> list[float]:
    xmin, ymin, xmax, ymax = box
    right, bottom = min(xmax, float(width)), min(ymax, float(height))
    return [max(xmin - 1.0, 0.0), max(ymin - 1.0, 0.0), right, bottom]


def _dataset_dict(record: _Record, category_ids: dict[str, int]) -> dict:
    annotations = [
        {
            "category_id": category_ids[obj.name],
            "bbox": _to_detectron2_box(obj.box, record.width, record.height),
            "bbox_mode": BoxMode.XYXY_ABS,
            "difficult": int(obj.difficult),
            "iscrowd": 0,
        }
        for obj in record.objects
    ]
    return {
        "file_name": record.file_name,
        "image_id": record.image_id,
        "height": record.height,
        "width": record.width,
        "annotations": annotations,
    }


def _read_size(root) -> tuple[int | None, int | None]:
    texts = {tag: _text(root, f"size/{tag}") for tag in ("width", "height")}
    sizes = {tag: _number(text, f"size/{tag}") if text else 0.0 for tag, text in texts.items()}
    # Some labelling tools write 0 x 0 for a size that they do not know.
    if not all(sizes.values()):
        return None, None
    return round(sizes["width"]), round(sizes["height"])


def _read_object(element, number: int) -> VOCObject:
    name = _text(element, "name")
    if not name:
        raise ValueError("has no name")
    bndbox = element.find("bndbox")
    if bndbox is None:
        raise ValueError("has no bndbox")
    box = tuple(_number(_text(bndbox, tag), tag) for tag in ("xmin", "ymin", "xmax", "ymax"))
    difficult = _text(element, "difficult").lower()
    if difficult not in _DIFFICULT:
        raise ValueError(f"difficult is {difficult!r}, not 0 or 1")
    return VOCObject(name, box, bool(_DIFFICULT[difficult]), number)


def _text(element, tag: str) -> str:
    """Returns the stripped text of a child, empty if there is no such child."""
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


def index_files(folder: Path, suffixes: Sequence[str]) -> dict[str, str]:
    """Maps id -> file name for the files of a folder that have one of the suffixes, in any case.

    Of two files with one id, the one whose suffix comes first in `suffixes` wins.
    """
    index: dict[str, tuple[int, str]] = {}
    for file in sorted(os.listdir(folder)):
        stem, suffix = os.path.splitext(file)
        if suffix.lower() in suffixes:
            candidate = (suffixes.index(suffix.lower()), file)
            index[stem] = min(candidate, index.get(stem, candidate))
    return {stem: file for stem, (_, file) in index.items()}


def _progress(items: Sequence[str], description: str):
    return tqdm(items, desc=description, unit="file", delay=2, leave=False)
