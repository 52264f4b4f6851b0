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
import stat
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple
from xml.etree.ElementTree import Element

from defusedxml.ElementTree import ParseError, parse
from detectron2.structures import BoxMode
from tqdm import tqdm

from .pictures import Picture, Spellings, inspect_picture, inspect_pictures
from .validation import (
    LOGGED_LINES,
    Box,
    Findings,
    InvalidDatasetError,
    PathLike,
    Problem,
    Record,
    check_on_invalid,
    first_lines,
    plain_number,
)

logger = logging.getLogger(__name__)

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp")

# defusedxml's own errors are ValueErrors; an encoding that Python lacks is a LookupError
_XML_ERRORS = (ParseError, ValueError, LookupError, OSError)
_CORNERS = ("xmin", "ymin", "xmax", "ymax")
_DIFFICULT = {"": False, "0": False, "1": True, "false": False, "true": True}
_TWO_COLUMNS = re.compile(r"(\S.*?)\s+(?:-1|0|1)")
_LARGEST_XML = 8 << 20  # bytes; an object takes some 300
_MOST_OBJECTS = 50_000
# Elements, in lower case, of boxes in files of another structure
_LIKE_BOXES = {"bndbox", "boundingbox", "box", "bbox", "object", "points", "polygon", "rect", "robndbox", "x1", "xmin"}


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
    filename: str = ""  # of the picture, as the file says
    rotated: int = 0  # objects whose box is to be turned, in CVAT's attributes


def read_image_set(dirname: PathLike, split: str) -> list[str]:
    """Reads the image ids of `ImageSets/Main/<split>.txt`, in their order, each once.

    Takes one id a line, or VOC's per-class form, an id and -1, 0 or 1 (ignored). Of a line that names a picture, as in
    0000.jpg, the id is the name without ending. Ids that repeat are logged.

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
    # Only if all lines have the flag: ids may have blanks, and end in " 1".
    columns = [match[1] for match in map(_TWO_COLUMNS.fullmatch, lines) if match]
    annotations, files = os.path.join(dirname, "Annotations"), Spellings()
    has_flags = len(columns) == len(lines) and not _is_annotated(annotations, files, lines[0])
    ids = [_without_suffix(annotations, files, _plain_id(line)) for line in (columns if has_flags else lines)]
    counts = Counter(ids)
    repeated = [f"{i} ({n} times)" for i, n in counts.items() if n > 1]
    if repeated:
        shown = "\n".join(first_lines(repeated, LOGGED_LINES))
        logger.warning(f"{path} lists {len(repeated)} ids more than once; each is used once:\n{shown}")
    return list(counts)


def _plain_id(line: str) -> str:
    """A line of a list without the quotes and back-slashes that tools on Windows write."""
    quoted = len(line) > 2 and line[0] == line[-1] == '"'
    return (line[1:-1] if quoted else line).replace("\\", "/")


def _without_suffix(folder: str, files: Spellings, image_id: str) -> str:
    stem, suffix = os.path.splitext(image_id)
    return stem if suffix.lower() in IMAGE_SUFFIXES and not _is_annotated(folder, files, image_id) else image_id


def _is_annotated(folder: str, files: Spellings, image_id: str) -> bool:
    path = os.path.join(folder, f"{image_id}.xml")
    return path in files.of(path)


def collect_class_names(dirname: PathLike) -> list[str]:
    """The class names of all annotations of a folder, sorted, so that all its splits number them alike.

    Files that cannot be read are passed over: loading a split reports those that belong to it.

    Raises:
        FileNotFoundError: there is no `Annotations` folder.
        ValueError: no annotation names a class.
    """
    names: set[str] = set()
    unreadable: list[str] = []
    folders = {os.path.join("Annotations", own) for own in {"", *_subfolders_in_lists(dirname)}}
    files = sorted(
        file for folder in folders for own in index_files(dirname, folder, (".xml",)).values() for file in own
    )
    for file in _progress(files, f"Classes of {dirname}"):
        try:
            root = _root(file)
        except _XML_ERRORS as error:
            unreadable.append(f"{file}: {error}")
            continue
        names.update(_text(element, "name") for element in root.findall("object"))
    names.discard("")
    if not names:
        folder = Path(dirname) / "Annotations"
        why = f" ({len(unreadable)} cannot be read, {unreadable[0]})" if unreadable else ""
        raise ValueError(f"no annotation in {folder} names a class{why}: give the class names yourself")
    return sorted(names)


def _subfolders_in_lists(dirname: PathLike) -> set[str]:
    """Those that ids in `ImageSets/Main` lie in, and that are there."""
    found: set[str] = set()
    for path in (Path(dirname) / "ImageSets/Main").glob("*.txt"):
        if path.is_file():
            lines = path.read_text("utf-8", errors="replace").splitlines()
            found.update(os.path.dirname(_plain_id(line.strip())) for line in lines)
    return {own for own in found if own and os.path.isdir(os.path.join(dirname, "Annotations", own))}


def read_annotation(path: PathLike) -> VOCAnnotation:
    """Reads one annotation file, and checks what the file alone can tell.

    Raises:
        InvalidDatasetError: the file is missing, is not XML, is larger than any picture's, or has boxes in a structure
            that is not VOC's.
    """
    path = os.fspath(path)
    try:
        root = _root(path)
    except FileNotFoundError as error:
        raise _broken(path, "no such annotation") from error
    except _XML_ERRORS as error:
        raise _broken(path, f"not readable as XML: {error}") from error
    size: tuple[int, int] | None = None
    objects: list[VOCObject] = []
    problems: list[Problem] = []
    rotated = 0
    try:
        size = _read_size(root)
    except ValueError as error:
        problems.append(Problem(path, str(error)))
    elements = root.findall("object")
    if not elements:
        _check_no_boxes(root, path)
    for number, element in enumerate(elements, start=1):
        try:
            objects.append(_read_object(element, number))
            rotated += _is_rotated(element)
        except ValueError as error:
            problems.append(Problem(path, str(error), number, _text(element, "name") or None))
    return VOCAnnotation(size, objects, problems, _text(root, "filename"), rotated)


def _root(path: PathLike) -> Element:
    """The root element of an XML file that has a size one can expect, all its elements without namespace."""
    status = os.stat(path)
    if not stat.S_ISREG(status.st_mode):
        raise ValueError("it is no regular file")
    if status.st_size > _LARGEST_XML:
        raise ValueError(f"{status.st_size:,} bytes are too many for one picture; up to {_LARGEST_XML:,} are read")
    root: Element = parse(path).getroot()
    for element in root.iter():
        element.tag = element.tag.rpartition("}")[2]
    objects = len(root.findall("object"))
    if objects > _MOST_OBJECTS:
        raise ValueError(f"{objects:,} objects are too many for one picture; up to {_MOST_OBJECTS:,} are read")
    return root


def _check_no_boxes(root: Element, path: str) -> None:
    """Raises for a file that has no objects, and boxes all the same; without either it is an empty image."""
    like = sorted({element.tag for element in root.iter() if element.tag.lower() in _LIKE_BOXES})
    if like:
        tags = ", ".join(f"<{tag}>" for tag in like)
        raise _broken(path, f"no <object> under <{root.tag}>, but {tags}: boxes in a structure that is not VOC's")


def _is_rotated(element: Element) -> bool:
    """Whether CVAT's attributes turn the box."""
    for attribute in element.iterfind("attributes/attribute"):
        if _text(attribute, "name") == "rotation":
            return _text(attribute, "value").strip("-0.") != ""
    return False


def load_voc_dataset(
    dirname: PathLike, split: str, class_names: Sequence[str], on_invalid: str = "clip"
) -> list[Record]:
    """Loads a split as Detectron2's standard dataset dicts. Every picture is decoded once.

    Coordinates up to one pixel beyond the picture are clipped in silence: they come from writers that count from 0.
    Difficult objects are included, as in Detectron2, with `difficult` 1. Objects of classes that are not among
    `class_names` are left out, which is said with their number.

    Args:
        dirname: the VOC folder.
        split: name of the list in `ImageSets/Main`, without `.txt`.
        class_names: in the order of their category ids.
        on_invalid: what to do about problems, once all of them are known. "clip" cuts boxes that stick out, by no more
            than half of their area, at the border, says how many, and raises for all other problems. "error" raises
            for those too. "skip_objects" clips, and drops images that cannot be used (no picture, no readable
            annotation, sizes that contradict each other) or that would be trained on without one of their objects.
            "skip_images" drops every image that has any problem.

    Raises:
        InvalidDatasetError: there are problems and `on_invalid` is "clip" or "error", or no image is left.
        FileNotFoundError: the list or one of VOC's folders is missing.
        ValueError: `on_invalid` is none of the four, or a class name is given twice, or is not there while others are.
    """
    check_on_invalid(on_invalid)
    repeated = [name for name, n in Counter(class_names).items() if n > 1]
    if repeated:
        raise ValueError(f"class names given more than once: {', '.join(repeated)}")
    image_ids = read_image_set(dirname, split)
    reader = _Reader(dirname, class_names, on_invalid)
    sources = {i: reader.find(i) for i in _progress(image_ids, f"Reading {dirname} {split}")}
    inspect_pictures([s.picture for s in sources.values() if s.picture], f"Pictures of {dirname} {split}")
    found = [reader.read(image_id, source) for image_id, source in sources.items()]
    where = f"split {split!r} of {dirname}"
    reader.findings.check_reading("xmin, ymin, width, height", "xmin, ymin, xmax, ymax in pixels", where)
    if reader.findings.left_out:
        reader.findings.check_left_out(class_names, collect_class_names(dirname), dirname)
    records = [record for record in found if record is not None]
    return reader.findings.usable(records, len(image_ids), f"{where} (classes: {', '.join(class_names)})", list)


class _Source(NamedTuple):
    """An image's files."""

    picture: str | None  # None if there is none of use
    annotation: VOCAnnotation | None
    file: str  # that the annotation is in
    problems: list[Problem]  # why one of the two is None


class _Reader:
    """Reads single images of a folder, whose files it lists once instead of guessing at names."""

    def __init__(self, dirname: PathLike, class_names: Sequence[str], on_invalid: str):
        self.findings = Findings(on_invalid)
        for name in ("JPEGImages", "Annotations"):
            _subfolder(dirname, name)
        self._dirname = dirname
        self._spellings = Spellings()
        self._category_ids = {name: i for i, name in enumerate(class_names)}
        self._folded = {name.casefold() for name in class_names}

    def find(self, image_id: str) -> _Source:
        """Reads the annotation of an image and finds its picture."""
        picture, annotation = None, None
        problems: list[Problem] = []
        file = os.path.join(self._dirname, "Annotations", f"{image_id}.xml")
        file = next(iter(self._files("Annotations", image_id, (".xml",))), file)
        try:
            annotation = read_annotation(file)
        except InvalidDatasetError as error:
            problems = error.problems
        try:
            picture = self._picture(image_id, annotation.filename if annotation else "")
        except InvalidDatasetError as error:
            problems = error.problems + problems
        return _Source(picture, annotation, file, problems)

    def read(self, image_id: str, source: _Source) -> Record | None:
        """The image with its good objects; None if it is of no use."""
        file_name, annotation, file, problems = source
        for problem in problems:
            self.findings.add(image_id, problem, unusable=True)
        if not file_name or not annotation:
            return None
        try:
            picture = inspect_picture(file_name)
        except (OSError, ValueError) as error:
            self.findings.add(image_id, Problem(file_name, str(error)), unusable=True)
            return None
        self.findings.note_picture(image_id, picture)
        fault = picture.size_fault(annotation.size, "the picture's")
        if fault:
            self.findings.add(image_id, Problem(file, fault), unusable=True)
            return None
        for problem in annotation.problems:
            if problem.object_number is None:
                self.findings.add(image_id, problem)
            else:
                self.findings.add_object(image_id, problem)
        if annotation.rotated:
            self.findings.note(image_id, "images have boxes that CVAT's attributes rotate; they are read unrotated")
        boxes: list[Record] = []
        for obj in annotation.objects:
            if obj.name not in self._category_ids and obj.name.casefold() not in self._folded:
                self.findings.left_out[obj.name] += 1
                continue
            try:
                boxes.append(self._object(image_id, obj, picture))
            except ValueError as error:
                self.findings.add_object(image_id, Problem(file, str(error), obj.number, obj.name), error)
        size = {"height": picture.height, "width": picture.width}
        return {"file_name": file_name, "image_id": image_id, **size, "annotations": boxes}

    def _files(self, folder: str, image_id: str, suffixes: Sequence[str]) -> list[str]:
        """The files of an id, or, if there is none, those whose name differs in upper case or Unicode's form."""
        # Joined like Detectron2 does it, which keeps file_name the same string as there.
        wanted = os.path.join(self._dirname, folder, image_id)
        files = [file for suffix in suffixes for file in self._spellings.of(wanted + suffix)]
        return [file for file in files if os.path.splitext(file)[0] == wanted] or files

    def _picture(self, image_id: str, filename: str) -> str:
        files = self._files("JPEGImages", image_id, IMAGE_SUFFIXES)
        if len(files) > 1:
            named = filename.replace("\\", "/").rpartition("/")[2]
            files = [file for file in files if os.path.basename(file) == named] or files
        if len(files) == 1:
            return files[0]
        file = os.path.join(self._dirname, "JPEGImages", image_id)
        if not files:
            raise _broken(file, f"no image of this id with one of {', '.join(IMAGE_SUFFIXES)}")
        names = ", ".join(os.path.basename(file) for file in files)
        raise _broken(file, f"{names} have this id, and <filename> of the annotation names none of them")

    def _object(self, image_id: str, obj: VOCObject, picture: Picture) -> Record:
        if obj.name not in self._category_ids:
            raise ValueError("unknown class, which is one that is asked for but for upper case")
        xmin, ymin, xmax, ymax = obj.box
        try:
            size = picture.width, picture.height
            sides = edges((xmin, ymin, xmin + xmax, ymin + ymax))
            box, _ = self.findings.fit_box(image_id, edges(obj.box), *size, sides)
            if xmin > xmax or ymin > ymax:  # by less than a pixel, it has an area all the same
                raise ValueError("has no area")
        except ValueError as error:
            raise ValueError("box xmin {:g}, ymin {:g}, xmax {:g}, ymax {:g} ".format(*obj.box) + str(error)) from error
        return {
            "category_id": self._category_ids[obj.name],
            "bbox": list(box),
            "bbox_mode": BoxMode.XYXY_ABS,
            "difficult": int(obj.difficult),
            "iscrowd": 0,
        }


def edges(box: Box) -> Box:
    """A box as written, in Detectron2's convention."""
    return box[0] - 1.0, box[1] - 1.0, box[2], box[3]


def index_files(dirname: PathLike, name: str, suffixes: Sequence[str]) -> dict[str, list[str]]:
    """Maps id -> paths for the files of a VOC folder's subfolder with one of the suffixes, in any case.

    Raises:
        FileNotFoundError: there is no such subfolder.
    """
    index: dict[str, list[str]] = {}
    for file in sorted(os.listdir(_subfolder(dirname, name))):
        stem, suffix = os.path.splitext(file)
        if suffix.lower() in suffixes:
            index.setdefault(stem, []).append(os.path.join(dirname, name, file))
    return index


def _broken(file: str, message: str) -> InvalidDatasetError:
    return InvalidDatasetError("Broken file:", [Problem(file, message)], "Correct the file or write it anew.")


def _read_size(root: Element) -> tuple[int, int] | None:
    texts = {tag: _text(root, f"size/{tag}") for tag in ("width", "height")}
    sizes = [_number(text, f"size/{tag}") if text else 0.0 for tag, text in texts.items()]
    # Some labelling tools write 0 or -1 for a size that they do not know.
    return (round(sizes[0]), round(sizes[1])) if min(sizes) > 0 else None


def _read_object(element: Element, number: int) -> VOCObject:
    name = _text(element, "name")
    if not name:
        raise ValueError("has no name")
    bndbox = element.find("bndbox")
    if bndbox is None:
        raise ValueError("has no bndbox")
    # Of elements that are there twice nobody knows which is meant, or whether an object is missing.
    for parent, tags in ((element, ("name", "bndbox")), (bndbox, _CORNERS)):
        twice = [tag for tag in tags if len(parent.findall(tag)) > 1]
        if twice:
            raise ValueError(f"has more than one {twice[0]}")
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
        value = plain_number(text)
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
    bar: Iterable[str] = tqdm(items, desc=description, unit="file", delay=2, leave=False, disable=None)
    return bar
