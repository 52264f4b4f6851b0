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
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import pycocotools.mask
from detectron2.structures import BoxMode
from tqdm import tqdm

from .coco_json import read_coco_json, without_garbage_collection
from .validation import (
    UNREADABLE,
    Findings,
    InvalidDatasetError,
    PathLike,
    Problem,
    Record,
    check_on_invalid,
    find_box_fault,
    picture_size,
)

logger = logging.getLogger(__name__)


def read_categories(json_file: PathLike) -> dict[int, str]:
    """The class names of a file by their ids, sorted by id.

    Raises:
        ValueError: it cannot be read, holds no category, or an id or a name is missing or repeats.
    """
    return _categories(read_coco_json(json_file), json_file)


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
    json_file: PathLike, image_root: PathLike, class_names: Sequence[str], on_invalid: str = "error"
) -> list[Record]:
    """Loads a COCO file as Detectron2's standard dataset dicts, sorted by image id as Detectron2 does.

    Boxes that stick out of the picture by up to one pixel are taken as they are (Detectron2 clips them). Crowds, and
    objects marked `ignore`, are included with `iscrowd` 1: Detectron2 neither trains on them nor counts them in
    evaluation. Keypoints are not read.

    Args:
        json_file: with `images`, `annotations` and `categories`.
        image_root: the folder that `file_name` of the images is relative to.
        class_names: in the order of their category ids in the dicts.
        on_invalid: what to do about problems, see `load_voc_dataset`.

    Returns:
        one dict an image: file_name, image_id (as in the file), height, width and annotations, each with id (the
            annotation's in the file), category_id, bbox, bbox_mode (XYWH_ABS), iscrowd and, where the file has one,
            segmentation (polygons or a compressed RLE).

    Raises:
        InvalidDatasetError: there are problems and `on_invalid` is "error", or no image is left, or ids are missing,
            without which pycocotools cannot use the file at all.
        ValueError: the file is no COCO file or lists no image, or `on_invalid` is unknown.
        FileNotFoundError: there is no such file.
    """
    check_on_invalid(on_invalid)
    content = read_coco_json(json_file)
    category_ids = contiguous_ids(_categories(content, json_file), class_names)
    _check_ids(content, json_file)
    reader = _Reader(os.fspath(json_file), os.fspath(image_root), category_ids, class_names)
    reader.read_images(content["images"])
    reader.read_annotations(content["annotations"])
    where = f"{json_file} (classes: {', '.join(class_names)})"
    records = reader.findings.usable(list(reader.records.values()), len(content["images"]), where, on_invalid)
    crowds = Counter(a["iscrowd"] for record in records for a in record["annotations"])
    logger.info(f"{json_file}: {len(records)} images, {crowds[0]} boxes, {crowds[1]} crowds or ignored regions")
    return sorted(records, key=lambda record: record["image_id"])


def _categories(content: dict[str, Any], json_file: PathLike) -> dict[int, str]:
    names: dict[int, str] = {}
    for place, category in enumerate(content["categories"], start=1):
        entry = category if isinstance(category, dict) else {}
        category_id, name = entry.get("id"), entry.get("name")
        if not isinstance(category_id, int) or isinstance(category_id, bool) or not isinstance(name, str) or not name:
            raise ValueError(f"{json_file}: category {place} needs an integer id and a name: {category}")
        if category_id in names or name in names.values():
            raise ValueError(f"{json_file}: category {category_id} ({name}): the id or the name repeats")
        names[category_id] = name
    if not names:
        raise ValueError(f"{json_file}: 'categories' is empty")
    return dict(sorted(names.items()))


def _check_ids(content: dict[str, Any], json_file: PathLike) -> None:
    """Raises unless images and annotations have the ids by which they refer to each other."""
    if not content["images"]:
        raise ValueError(f"{json_file} lists no image")
    messages = []
    for what, keys in (("images", ("id",)), ("annotations", ("id", "image_id", "category_id"))):
        for place, entry in enumerate(content[what], start=1):
            own = entry if isinstance(entry, dict) else {}
            bad = [key for key in keys if not (isinstance(own.get(key), str) or _is_integer(own.get(key)))]
            if bad:
                messages.append(f"entry {place} of {what}: {', '.join(bad)} missing, or no integer or string")
    if not messages and len({type(image["id"]) for image in content["images"]}) > 1:
        messages.append("some image ids are integers and some are strings")
    if messages:
        problems = [Problem(os.fspath(json_file), message) for message in messages]
        raise InvalidDatasetError(f"{len(problems)} ids in {json_file} cannot be used:", problems, "Correct the file.")


class _Reader:
    """Reads the lists of one file into `records`, the dicts by image id."""

    def __init__(self, json_file: str, image_root: str, category_ids: dict[int, int], class_names: Sequence[str]):
        self.records: dict[Any, Record] = {}
        self.findings = Findings()
        self._json_file = json_file
        self._image_root = image_root
        self._category_ids = category_ids
        self._class_names = class_names

    def read_images(self, images: list[Record]) -> None:
        for image in tqdm(images, desc=f"Images of {self._json_file}", unit="file", delay=2, leave=False):
            image_id = image["id"]
            try:
                if image_id in self.records:
                    # Nobody knows which of the two the annotations belong to.
                    raise ValueError("this id occurs more than once")
                self.records[image_id] = {"image_id": image_id, "annotations": []}
                self.records[image_id].update(self._picture(image))
            except ValueError as error:
                problem = Problem(self._json_file, f"image {image_id!r}: {error}")
                self.findings.add(image_id, problem, unusable=True)

    def _picture(self, image: Record) -> Record:
        """file_name, height and width of an image, whose file has to have them."""
        name = image.get("file_name")
        if not isinstance(name, str) or not name:
            raise ValueError("has no file_name")
        file = os.path.join(self._image_root, name)
        stated = image.get("width"), image.get("height")
        if None in stated:
            raise ValueError(f"{file}: width or height is missing")
        try:
            width, height = picture_size(file)
        except FileNotFoundError as error:
            raise ValueError(f"there is no {file}") from error
        except UNREADABLE as error:
            raise ValueError(f"{file} is not readable as an image: {error}") from error
        if (width, height) != stated:
            # Nobody knows which of the two the boxes were drawn on.
            raise ValueError("size is {} x {}, but that of {} is {} x {}".format(*stated, file, width, height))
        return {"file_name": file, "height": height, "width": width}

    @without_garbage_collection()
    def read_annotations(self, annotations: list[Record]) -> None:
        seen: set[Any] = set()
        for annotation in annotations:
            try:
                record = self.records.get(annotation["image_id"])
                if record is None:
                    raise ValueError("there is no such image in the file")
                if annotation["id"] in seen:
                    raise ValueError("this id occurs more than once")
                seen.add(annotation["id"])
                if record["image_id"] not in self.findings.unusable:  # what is wrong with those is said
                    record["annotations"].append(self._object(annotation, record))
            except ValueError as error:
                problem = Problem(self._json_file, f"{self._describe(annotation)}: {error}")
                self.findings.add(annotation["image_id"], problem, bad_object=True)

    def _describe(self, annotation: Record) -> str:
        place = self._category_ids.get(annotation["category_id"])
        name = "" if place is None else f" ({self._class_names[place]})"
        return f"annotation {annotation['id']!r}{name} of image {annotation['image_id']!r}"

    def _object(self, annotation: Record, record: Record) -> Record:
        category_id = annotation["category_id"]
        if category_id not in self._category_ids:
            raise ValueError(f"category {category_id!r} is not one of the classes")
        _check_box(annotation.get("bbox"), record)
        crowd = annotation.get("iscrowd", 0), annotation.get("ignore", 0)
        if crowd[0] not in (0, 1) or crowd[1] not in (0, 1):
            raise ValueError(f"iscrowd and ignore are {crowd}, not 0 or 1")
        segmentation = _segmentation(annotation.get("segmentation"), record)
        return {
            "id": annotation["id"],
            "iscrowd": int(any(crowd)),
            "bbox": annotation["bbox"],
            "category_id": self._category_ids[category_id],
            "bbox_mode": BoxMode.XYWH_ABS,
            **({"segmentation": segmentation} if segmentation else {}),
        }


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
                    "area": w * h,
                    "iscrowd": own.get("iscrowd", 0),
                    **{key: own[key] for key in ("segmentation", "difficult") if own.get(key)},
                }
            )
    categories = [{"id": place, "name": name} for place, name in enumerate(class_names, start=1)]
    return {"info": {}, "images": images, "annotations": annotations, "categories": categories}


def has_segmentation(annotation: Record) -> bool:
    """Whether an object of a COCO file has one; empty ones are what tools write for boxes alone."""
    return bool(annotation.get("segmentation")) and annotation["segmentation"] != [[]]


def _check_box(box: Any, record: Record) -> None:
    if not isinstance(box, list) or len(box) != 4:
        raise ValueError(f"bbox is {box!r}, not [x, y, width, height]")
    if not _finite(box):
        raise ValueError(f"bbox is {box!r}, not four numbers")
    x, y, w, h = box
    fault = find_box_fault((x, y, x + w, y + h), record["width"], record["height"])
    if fault:
        raise ValueError(f"bbox {box} {fault}")


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
    return polygons


def _compressed_rle(rle: Record, image_size: list[int]) -> Record:
    counts, size = rle.get("counts"), rle.get("size")
    if not isinstance(counts, (list, str)) or not isinstance(size, list) or len(size) != 2:
        raise ValueError("segmentation is no RLE with counts and size")
    if size != image_size:
        raise ValueError(f"segmentation is an RLE of size {size}, not [height, width] of the image, {image_size}")
    if isinstance(counts, str):
        return rle
    try:
        compressed: Record = pycocotools.mask.frPyObjects(rle, *size)
        return compressed
    except (TypeError, ValueError, OverflowError) as error:
        raise ValueError(f"segmentation is no RLE: {error}") from error


def _finite(numbers: list[Any]) -> bool:
    """Whether all are numbers, of which none is infinite or NaN."""
    try:
        return math.isfinite(sum(numbers))  # far faster than looking at each
    except (TypeError, OverflowError):
        return False


def _is_integer(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
