"""Reads COCO's JSON of any classes as Detectron2's dataset dicts.

The dicts are those of Detectron2's own reader (`detectron2/data/datasets/coco.py`), which ends with the first thing it
stumbles over, or finds it out while training, or drops objects without a word. This one checks the whole file before
any training starts: every problem comes in one report.

A box is [x, y, width, height] in pixels, (x, y) its corner with the smallest numbers, where the picture covers [0, W] x
[0, H]; Detectron2 calls this XYWH_ABS.
"""

import logging
import math
import os
import struct
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from functools import lru_cache
from itertools import chain, compress, islice
from typing import Any

import msgspec
import numpy as np
import pycocotools.mask
from detectron2.structures import BoxMode

from ..garbage import without_garbage_collection
from .coco_columns import Array, Columns
from .coco_json import (
    COCOLists,
    PlainAnnotation,
    file_stamp,
    plain_category_id,
    read_coco_lists,
)
from .pictures import Spellings, inspect_picture, inspect_pictures
from .serialized_records import SerializedRecords
from .validation import Findings, InvalidDatasetError, PathLike, Problem, Record, check_on_invalid, lie_inside

logger = logging.getLogger(__name__)


def read_categories(json_file: PathLike) -> dict[int, str]:
    """The class names of a file by their ids, sorted by id.

    Raises:
        ValueError: it cannot be read, holds no category, or an id or a name is missing or repeats.
    """
    return _categories(read_coco_lists(json_file), json_file)


def contiguous_ids(categories: dict[int, str], class_names: Sequence[str]) -> dict[int, int]:
    """The place in `class_names` of each category, by the file's id.

    A class that the file lacks gets an id above all of the file's. Categories that are not among `class_names` are left
    out.
    """
    ids = {name: category_id for category_id, name in categories.items()}
    for name in class_names:
        ids.setdefault(name, max(ids.values(), default=0) + 1)
    return {ids[name]: place for place, name in enumerate(class_names)}


def load_coco_dataset(
    json_file: PathLike, image_root: PathLike, class_names: Sequence[str], on_invalid: str = "clip"
) -> Sequence[Record]:
    """Loads a COCO file as Detectron2's standard dataset dicts, sorted by image id as Detectron2 does.

    Every picture is decoded once. A width or height that is missing or not positive is taken from the picture, a
    back-slash in a file name as a slash, and a name in another spelling (upper case, Unicode) if one file fits.

    Boxes that stick out of the picture by up to one pixel are taken as they are (Detectron2 clips them). Crowds, and
    objects marked `ignore`, are included with `iscrowd` 1: Detectron2 neither trains on them nor counts them in
    evaluation. Keypoints are not read. Objects of the file's classes that are not among `class_names` are left out,
    which is said with their number.

    Args:
        json_file: with `images`, `annotations` and `categories`.
        image_root: the folder that `file_name` of the images is relative to.
        class_names: in the order of their category ids in the dicts.
        on_invalid: what to do about problems, see `load_voc_dataset`.

    Returns:
        one dict an image: file_name, image_id (as in the file), height, width and annotations, each with id (the
            annotation's in the file), category_id, bbox, bbox_mode (XYWH_ABS), iscrowd and, where the file has one,
            segmentation (polygons or a compressed RLE). `compact_records` changes their form. A process reads a file once.

    Raises:
        InvalidDatasetError: there are problems and `on_invalid` is "clip" or "error", or no image is left, or ids are missing,
            without which pycocotools cannot use the file at all.
        ValueError: the file is no COCO file or lists no image, or `on_invalid` is unknown.
        FileNotFoundError: there is no such file.
    """
    check_on_invalid(on_invalid)
    compact, masks = _wanted.get()
    records = _load(
        os.fspath(json_file), file_stamp(json_file), os.fspath(image_root), tuple(class_names), on_invalid, masks
    )
    return records if compact else list(records)


# (as `SerializedRecords`, with masks)
_wanted: ContextVar[tuple[bool, bool]] = ContextVar("what is made of a COCO file", default=(False, True))


@contextmanager
def compact_records(masks: bool) -> Iterator[None]:
    """Within it records stay bytes, which cannot be changed in place, as Detectron2 lets others do with its list of dicts.

    Args:
        masks: whether segmentations are kept, which are nine tenths of what a COCO file holds. They are always checked.
    """
    before = _wanted.set((True, masks))
    try:
        yield
    finally:
        _wanted.reset(before)


@lru_cache(maxsize=4)
def _load(
    json_file: str,
    stamp: tuple[int, ...],
    image_root: str,
    class_names: tuple[str, ...],
    on_invalid: str,
    with_masks: bool,
) -> SerializedRecords:
    lists = read_coco_lists(json_file)
    categories = _categories(lists, json_file)
    reader = _Reader(json_file, image_root, categories, class_names, on_invalid, with_masks)
    reader.read(lists)
    del lists  # the text of the file, before the records are made
    return reader.usable_records()


def _categories(lists: COCOLists, json_file: PathLike) -> dict[int, str]:
    names: dict[int, str] = {}
    taken: set[str] = set()
    root = _root_category(lists)
    for place, category in enumerate(lists.categories, start=1):
        if category is root:
            continue
        entry = category if isinstance(category, dict) else {}
        category_id, name = plain_category_id(entry.get("id")), entry.get("name")
        if not isinstance(category_id, int) or isinstance(category_id, bool) or not isinstance(name, str) or not name:
            raise ValueError(f"{json_file}: category {place} needs an integer id and a name: {category}")
        if category_id in names or name in taken:
            raise ValueError(f"{json_file}: category {category_id} ({name}): the id or the name repeats")
        names[category_id] = name
        taken.add(name)
    if not names:
        raise ValueError(f"{json_file}: 'categories' is empty")
    return dict(sorted(names.items()))


def _root_category(lists: COCOLists) -> Record | None:
    """The category 0 that Roboflow puts above the classes: all others name it their supercategory, and no object has it."""
    categories = [own for own in lists.categories if isinstance(own, dict)]
    root = next((own for own in categories if _is_zero(own.get("id")) and isinstance(own.get("name"), str)), None)
    below = [own.get("supercategory") for own in categories if own is not root]
    if root is None or root["name"] in ("", "none") or root.get("supercategory") != "none":
        return None
    if not below or any(name != root["name"] for name in below):
        return None
    if any(_is_zero(_category_of(own)) for own in lists.annotations):
        return None
    logger.info(f"category 0 ({root['name']}) is above the others and has no object: no class")
    return root


def _is_zero(category_id: Any) -> bool:
    return str(plain_category_id(category_id)) == "0"


def _category_of(annotation: Any) -> Any:
    if isinstance(annotation, PlainAnnotation):
        return annotation.category_id
    return annotation.get("category_id") if isinstance(annotation, dict) else ""


_PARTS = {"images": ("id",), "annotations": ("id", "image_id", "category_id")}  # ids of the entries of each list
_ID_TYPES = (int, str)
_AT_A_TIME = 128  # annotations, which the processor's cache holds
_HUGE = 10**9  # pixels: no picture has as many


def _id_fault(what: str, place: int, entry: Any) -> str | None:
    """Why an entry lacks the ids by which images and annotations refer to each other; None if it does not."""
    own = entry if isinstance(entry, dict) else {}
    if all([type(own.get(key)) is int for key in _PARTS[what]]):
        return None
    bad = [key for key in _PARTS[what] if type(own.get(key)) not in _ID_TYPES]
    if bad:
        return f"entry {place} of {what}: {', '.join(bad)} missing, or no integer or string"
    if type(own["id"]) is str and any(c < " " for c in own["id"]):
        return f"entry {place} of {what}: id {own['id']!r} has control characters or line breaks"
    return None


class _Reader:
    """Reads the lists of one file: `records` are the dicts by image id, without annotations, which are held as columns.

    As objects a million annotations would take gigabytes.
    """

    def __init__(
        self,
        json_file: str,
        image_root: str,
        categories: dict[int, str],
        class_names: Sequence[str],
        on_invalid: str,
        with_masks: bool,
    ):
        self.records: dict[Any, Record] = {}
        self.findings = Findings(on_invalid)
        self._spellings = Spellings()
        self._json_file = json_file
        self._image_root = image_root
        self._category_ids = contiguous_ids(categories, class_names)
        self._left_out = {key: name for key, name in categories.items() if name not in class_names}
        self._class_names = class_names
        self._categories = categories
        self._id_faults: list[str] = []
        self._num_images = 0
        self._rows: dict[Any, int] = {}  # of the images, as in `records`
        self._columns = Columns(with_masks)

    @without_garbage_collection()
    def read(self, lists: COCOLists) -> None:
        self.read_images(lists.images)
        self.read_annotations(lists.annotations)

    @without_garbage_collection()
    def usable_records(self) -> SerializedRecords:
        """The records that are left; raises as `load_coco_dataset`."""
        if not self._num_images:
            raise ValueError(f"{self._json_file} lists no image")
        if not self._id_faults and len(set(map(type, self.records))) > 1:
            self._id_faults.append("some image ids are integers and some are strings")
        if self._id_faults:
            problems = [Problem(self._json_file, message) for message in self._id_faults]
            heading = f"{len(problems)} ids in {self._json_file} cannot be used:"
            raise InvalidDatasetError(heading, problems, "Correct the file.")
        self.findings.check_reading("[x1, y1, x2, y2]", "[x, y, width, height] in pixels", self._json_file)
        self.findings.check_left_out(self._class_names, self._categories.values(), self._json_file)
        where = f"{self._json_file} (classes: {', '.join(self._class_names)})"
        records = self.findings.usable(self._all_records(), self._num_images, where, SerializedRecords)
        logger.info(f"{self._json_file}: {len(records)} images")
        return records

    def _all_records(self) -> Iterator[Record]:
        """All with their annotations, by image id."""
        image_ids = sorted(self.records)
        rows = [self._rows[image_id] for image_id in image_ids]
        for image_id, annotations in zip(image_ids, self._columns.of_images(rows)):
            yield {**self.records.pop(image_id), "annotations": annotations}

    def _checked_image(self, place: int, image: Any) -> Record | None:
        """What is needed of an image; None if its id is at fault."""
        fault = _id_fault("images", place, image)
        if fault:
            self._id_faults.append(fault)
            return None
        return {key: image[key] for key in ("id", "file_name", "width", "height") if key in image}

    def read_images(self, listed: Iterable[Any]) -> None:
        checked = [self._checked_image(place, own) for place, own in enumerate(listed, start=1)]
        self._num_images = len(checked)
        images = [image for image in checked if image]
        names = (image.get("file_name") for image in images)
        files = {name: self._files(name) for name in names if isinstance(name, str) and name}
        inspect_pictures([own[0] for own in files.values() if len(own) == 1], f"Pictures of {self._json_file}")
        for image in images:
            image_id = image["id"]
            try:
                if image_id in self.records:
                    # Nobody knows which of the two the annotations belong to.
                    raise ValueError("this id occurs more than once")
                self.records[image_id] = {"image_id": image_id}
                self.records[image_id].update(self._picture(image, files))
            except ValueError as error:
                problem = Problem(self._json_file, f"image {image_id!r}: {error}")
                self.findings.add(image_id, problem, unusable=True)

    def _files(self, name: str) -> list[str]:
        """The file of a name; else all that are spelled a little differently."""
        file = os.path.join(self._image_root, name)
        if not os.path.exists(file) and "\\" in name:
            file = os.path.join(self._image_root, name.replace("\\", "/"))
        return [file] if os.path.exists(file) else self._spellings.of(file)

    def _picture(self, image: Record, files: dict[str, list[str]]) -> Record:
        """file_name, height and width of an image, whose file has to have it."""
        name = image.get("file_name")
        if not isinstance(name, str) or not name:
            raise ValueError("has no file_name")
        stated = _stated_size(image)
        if len(files[name]) > 1:
            raise ValueError(f"there is no {name}, but {', '.join(files[name])}: give the one that is meant")
        if not files[name]:
            raise ValueError(f"there is no {os.path.join(self._image_root, name)}{self._elsewhere(name)}")
        (file,) = files[name]
        try:
            picture = inspect_picture(file)
        except ValueError as error:
            raise ValueError(f"{file} is {error}" if str(error).startswith("not ") else f"{file}: {error}") from error
        self.findings.note_picture(image["id"], picture)
        fault = picture.size_fault(stated, f"that of {file}")
        if fault:
            raise ValueError(fault)
        return {"file_name": file, "height": picture.height, "width": picture.width}

    def _elsewhere(self, name: str) -> str:
        base = name.replace("\\", "/").rpartition("/")[2]
        found = os.path.join(self._image_root, base)
        return f", but {found}: 'file_name' has to be relative to the folder of images" if os.path.isfile(found) else ""

    def read_annotations(self, annotations: Iterable[Any]) -> None:
        seen: set[Any] = set()
        spelled = {str(own): own for own in self.records}  # tools write some ids in quotes
        self._rows = {image_id: row for row, image_id in enumerate(self.records)}
        sizes = np.array([*map(self._size, self.records), (0, 0)], np.float64)  # the last of images that are not there
        entries, start = iter(annotations), 1
        while part := list(islice(entries, _AT_A_TIME)):
            for place, annotation in self._left_by_plain(part, start, sizes, seen):
                own = msgspec.structs.asdict(annotation) if type(annotation) is PlainAnnotation else annotation
                fault = _id_fault("annotations", place, own)
                if fault:
                    self._id_faults.append(fault)
                    continue
                annotation_id, image_id, category_id = own["id"], own["image_id"], plain_category_id(own["category_id"])
                image_id = image_id if image_id in self.records else spelled.get(str(image_id), image_id)
                try:
                    self._add(place, own, image_id, category_id, seen)
                except ValueError as error:
                    described = f"annotation {annotation_id!r}{self._class_of(category_id)} of image {image_id!r}"
                    self.findings.add_object(image_id, Problem(self._json_file, f"{described}: {error}"), error)
            start += len(part)

    def _size(self, image_id: Any) -> tuple[int, int]:
        """(width, height) of an image, 0 if it is of no use."""
        record = self.records[image_id]
        return (0, 0) if image_id in self.findings.unusable else (record["width"], record["height"])

    def _left_by_plain(self, part: list[Any], start: int, sizes: Array, seen: set[Any]) -> list[tuple[int, Any]]:
        """Adds, as arrays, the annotations of the usual types in which all is as it should be.

        Args:
            start: place of the first.
            sizes: (N, 2) width and height of the image of each row.

        Returns:
            the others with their places, which have to be looked at one by one.
        """
        left = np.array([type(own) is not PlainAnnotation for own in part])
        places = np.flatnonzero(~left)
        plain = [part[place] for place in places.tolist()] if left.any() else part
        ids = [own.id for own in plain]
        others = {own["id"] for own in compress(part, left) if isinstance(own, dict) and type(own.get("id")) is int}
        if len(others.union(ids)) < len(others) + len(ids) or not seen.isdisjoint(ids) or not ids:
            return list(enumerate(part, start))
        row, category = self._rows.get, self._category_ids.get
        rows = np.array([row(own.image_id, -1) for own in plain])
        categories = np.array([category(own.category_id, -1) for own in plain])
        boxes = np.fromiter(chain.from_iterable([own.bbox for own in plain]), np.float64).reshape(-1, 4)
        masks = [own.segmentation if own.segmentation != [[]] else [] for own in plain]
        width, height = sizes[rows].T
        with np.errstate(over="ignore"):  # what is infinite lies in no picture
            edges = np.concatenate([boxes.T[:2], boxes.T[:2] + boxes.T[2:]])
        good = (categories >= 0) & lie_inside(edges, width, height) & _are_plain(masks, np.minimum(width, height))
        left[places] = ~good
        self.findings.count_boxes(edges[:, good], boxes.T[:, good], width[good], height[good])
        new, crowds = list(compress(ids, good)), [own.iscrowd or own.ignore for own in compress(plain, good)]
        numbers = np.stack([start + places, rows, categories], axis=1)
        self._columns.add(new, numbers[good], crowds, boxes[good], list(compress(masks, good)))
        seen.update(new)
        return [(start + place, part[place]) for place in np.flatnonzero(left).tolist()]

    def _add(self, place: int, annotation: Record, image_id: Any, category_id: Any, seen: set[Any]) -> None:
        annotation_id = annotation["id"]
        record = self.records.get(image_id)
        if record is None:
            raise ValueError("there is no such image in the file")
        if annotation_id in seen:
            raise ValueError("this id occurs more than once")
        seen.add(annotation_id)
        if category_id in self._left_out:
            self.findings.left_out[self._left_out[category_id]] += 1
        elif image_id not in self.findings.unusable:  # what is wrong with those is said
            if category_id not in self._category_ids:
                raise ValueError(f"category {category_id!r} is not in the file")
            box, crowd, mask = self._object(annotation, record)
            numbers = np.array([[place, self._rows[image_id], self._category_ids[category_id]]])
            self._columns.add([annotation_id], numbers, [crowd], np.array([box], np.float64), [mask])

    def _class_of(self, category_id: Any) -> str:
        place = self._category_ids.get(category_id)
        return "" if place is None else f" ({self._class_names[place]})"

    def _object(self, annotation: Record, record: Record) -> tuple[Sequence[float], int, Any]:
        """Box, iscrowd and segmentation of an annotation."""
        box = self._fitted(_checked_box(annotation.get("bbox")), record)
        crowd = _checked_crowd(annotation.get("iscrowd"), annotation.get("ignore"))
        segmentation = _segmentation(annotation.get("segmentation"), record)
        attributes = annotation.get("attributes")
        if isinstance(attributes, dict) and attributes.get("rotation"):
            self.findings.note(record["image_id"], "boxes are rotated by CVAT's attributes; they are read unrotated")
        return box, crowd, segmentation

    def _fitted(self, box: Sequence[float], record: Record) -> Sequence[float]:
        """The part of [x, y, width, height] that lies in the picture."""
        x, y, w, h = box
        try:
            fitted, clipped = self.findings.fit_box(
                record["image_id"], (x, y, x + w, y + h), record["width"], record["height"], box
            )
        except ValueError as error:
            numbers = ", ".join(f"{value:.10g}" for value in box)
            raise type(error)(f"bbox [{numbers}] {error}") from error
        if not clipped:
            return box
        return fitted[0], fitted[1], fitted[2] - fitted[0], fitted[3] - fitted[1]


def _checked_box(box: Any) -> Sequence[float]:
    if not isinstance(box, (list, tuple)) or len(box) != 4:
        raise ValueError(f"bbox is {box!r:.80}, not [x, y, width, height]")
    if not _finite(box) or bool in map(type, box):
        raise ValueError(f"bbox is {box!r:.80}, not four numbers")
    return box


def _checked_crowd(iscrowd: Any, ignore: Any) -> int:
    flags = tuple(0 if flag is None else flag for flag in (iscrowd, ignore))  # null is what some tools write for 0
    if flags[0] not in (0, 1) or flags[1] not in (0, 1):
        raise ValueError(f"iscrowd and ignore are {flags}, not 0 or 1")
    return int(any(flags))


def _stated_size(image: Record) -> tuple[float, float] | None:
    """(width, height) that a file gives; None if it gives none: tools write null, 0 or -1."""
    stated = []
    for key in ("width", "height"):
        value = image.get(key)
        if value is not None and not (isinstance(value, (int, float)) and abs(value) < _HUGE):
            raise ValueError(f"{key} is {value!r:.40}, not a number of pixels")
        stated.append(value or 0)
    return (stated[0], stated[1]) if min(stated) > 0 else None


def coco_content(records: Sequence[Record], class_names: Sequence[str], image_root: PathLike) -> dict[str, Any]:
    """Dataset dicts as the content of a COCO file that gives the same boxes when it is read.

    Images are numbered from 1 in their order, since not every tool takes strings; `file_name` is relative to
    `image_root`. VOC's difficult objects are objects like any other, as Detectron2 trains on them, with `difficult` 1.
    """
    images: list[Record] = []
    annotations: list[Record] = []
    for image_id, record in enumerate(records, start=1):
        size = {key: record[key] for key in ("width", "height")}
        name = os.path.relpath(record["file_name"], image_root)
        images.append({"id": image_id, "file_name": name, **size})
        for own in record.get("annotations", []):
            # float64 arrays, since BoxMode would round lists to float32
            box = np.array([own["bbox"]], np.float64)
            x, y, w, h = BoxMode.convert(box, own["bbox_mode"], BoxMode.XYWH_ABS)[0].tolist()
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": image_id,
                    "category_id": own["category_id"] + 1,
                    "bbox": [x, y, w, h],
                    "area": _area(own.get("segmentation")) or w * h,
                    "iscrowd": own.get("iscrowd", 0),
                    **{key: own[key] for key in ("segmentation", "difficult") if own.get(key)},
                }
            )
    categories = [{"id": place, "name": name} for place, name in enumerate(class_names, start=1)]
    return {"info": {}, "images": images, "annotations": annotations, "categories": categories}


def _area(segmentation: list[list[float]] | Record | None) -> float:
    """That of polygons (the shoelace formula) or of an RLE; 0 if there is neither."""
    if isinstance(segmentation, dict):
        return float(pycocotools.mask.area(segmentation))
    points = [np.reshape(polygon, (-1, 2)).T for polygon in segmentation or ()]
    return float(sum(abs(x @ np.roll(y, 1) - y @ np.roll(x, 1)) / 2 for x, y in points))


def has_segmentation(annotation: Record) -> bool:
    """Whether an object of a COCO file has one; empty ones are what tools write for boxes alone."""
    return bool(annotation.get("segmentation")) and annotation["segmentation"] != [[]]


def _segmentation(segmentation: Any, record: Record) -> list[list[float]] | Record | None:
    """The form Detectron2 works with: polygons of three points or more, or a compressed RLE."""
    if not has_segmentation({"segmentation": segmentation}):
        return None
    if isinstance(segmentation, dict):
        return _compressed_rle(segmentation, [record["height"], record["width"]])
    if not isinstance(segmentation, list) or not all(isinstance(p, list) for p in segmentation):
        raise ValueError("segmentation is neither a list of polygons nor an RLE")
    polygons = [p for p in segmentation if len(p) % 2 == 0 and len(p) >= 6]
    if not polygons:
        raise ValueError("segmentation has no polygon of three points or more; an empty one is fine")
    if not all(map(_finite, polygons)):
        raise ValueError("segmentation has a coordinate that is no number")
    width, height = record["width"], record["height"]
    for polygon in polygons:
        # pycocotools allocates by them without a check, and goes down with the process
        xs, ys = polygon[::2], polygon[1::2]
        if min(xs) < -width or max(xs) > 2 * width or min(ys) < -height or max(ys) > 2 * height:
            raise ValueError(f"segmentation has points far outside the {width} x {height} image")
    return polygons


def _are_plain(segmentations: list[list[list[float]]], smaller: Array) -> Array:
    """For N objects, whether all polygons have three points or more, with coordinates from -smaller (N,) to 2 smaller."""
    polygons = list(chain.from_iterable(segmentations))
    owners = np.repeat(np.arange(len(segmentations)), list(map(len, segmentations)))
    lengths = np.fromiter(map(len, polygons), np.int64, len(polygons))
    numbers: list[float] = []
    for polygon in polygons:
        numbers += polygon
    points = np.frombuffer(struct.pack(f"{len(numbers) + 1}d", *numbers, 0.0))  # far faster than numpy makes it
    starts = np.cumsum(lengths) - lengths
    low, high = np.minimum.reduceat(points, starts), np.maximum.reduceat(points, starts)
    plain = np.ones(len(segmentations), bool)
    plain[owners[(lengths < 6) | (lengths % 2 == 1) | (low < -smaller[owners]) | (high > 2 * smaller[owners])]] = False
    return plain


def _compressed_rle(rle: Record, image_size: list[int]) -> Record:
    counts, size = rle.get("counts"), rle.get("size")
    if not isinstance(counts, (list, str)) or not isinstance(size, list) or len(size) != 2:
        raise ValueError("segmentation is no RLE with counts and size")
    if size != image_size:
        raise ValueError(f"segmentation is an RLE of size {size}, not [height, width] of the image, {image_size}")
    runs = _runs(counts) if isinstance(counts, str) else counts
    if not all(map(_is_integer, runs)) or min(runs, default=-1) < 0 or sum(runs) != size[0] * size[1]:
        raise ValueError("segmentation is a broken RLE: its runs do not add up to the image")
    compressed: Record = rle if isinstance(counts, str) else pycocotools.mask.frPyObjects(rle, *size)
    return compressed


def _runs(counts: str) -> list[int]:
    """The lengths of the runs of a compressed RLE, as `rleFrString` of pycocotools reads them, which checks nothing.

    Numbers in base 32, the lowest digit first: of each character less 48, bit 5 says that more follow. The last one
    is negative where its bit 4 is set. From the fourth on they are differences to the one before the last.
    """
    runs: list[int] = []
    value = shift = 0
    for character in counts:
        digit = ord(character) - 48
        if not 0 <= digit < 64 or shift > 30:
            raise ValueError("segmentation is a broken RLE: its counts are no run lengths")
        value |= (digit & 31) << shift
        shift += 5
        if digit & 32:
            continue
        if digit & 16:
            value -= 1 << shift
        runs.append(value + runs[-2] if len(runs) > 2 else value)
        value = shift = 0
    if shift:
        raise ValueError("segmentation is a broken RLE: its counts end in the middle of a run")
    return runs


def _finite(numbers: Sequence[Any]) -> bool:
    """Whether all are numbers, of which none is infinite or NaN."""
    try:
        return math.isfinite(math.fsum(numbers))  # far faster than looking at each
    except (TypeError, OverflowError, ValueError):  # no number; too large for a float; infinite, of both signs
        return False


def _is_integer(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
