"""A COCO JSON file as a whole: reading it, and leaving images out of it.

The format: https://cocodataset.org/#format-data
"""

import codecs
import gc
import json
import os
import re
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import msgspec

from ..pruning.names import first_few
from .validation import THINNEST

LISTS = ("images", "annotations", "categories")


@contextmanager
def without_garbage_collection() -> Iterator[None]:
    """For building millions of objects: looking through them for cycles takes longer than making them."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


@without_garbage_collection()
def read_coco_json(path: "str | os.PathLike[str]") -> dict[str, Any]:
    """The content of a COCO file with its lists of images, annotations and categories.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is not JSON, or one of the three lists is missing.
    """
    content = read_json(path)
    lists: dict[str, Any] = content if isinstance(content, dict) else {}
    missing = [key for key in LISTS if not isinstance(lists.get(key), list)]
    if missing:
        raise ValueError(
            f"{path} has no list {', '.join(map(repr, missing))}: a COCO file of boxes is an object with "
            f"the lists {', '.join(map(repr, LISTS))}"
        )
    return with_plain_ids(lists)


def read_json(path: "str | os.PathLike[str]") -> Any:
    """Any JSON, in whatever encoding it may be; raises as `read_coco_json`."""
    try:
        return json.loads(_bytes_of(path))
    except (ValueError, RecursionError) as error:  # of the JSON or of its UTF-8
        raise _unreadable(path, error) from error


def _bytes_of(path: "str | os.PathLike[str]") -> bytes:
    if not Path(path).is_file() and Path(path).exists():
        raise ValueError("it is no regular file")
    return Path(path).read_bytes()


def _unreadable(path: "str | os.PathLike[str]", why: object) -> ValueError:
    return ValueError(f"{path} is not readable as JSON: {why}. Write the file anew")


class PlainAnnotation(msgspec.Struct, gc=False):
    """An annotation as nearly all are, whose types need no further check: numbers are finite. Other fields are left out."""

    id: int
    image_id: int
    category_id: int
    bbox: tuple[float, float, float, float]
    iscrowd: Literal[0, 1] = 0
    ignore: Literal[0, 1] = 0
    segmentation: list[list[float]] = []
    attributes: None = None


@dataclass(frozen=True)
class COCOLists:
    """What a COCO file lists. Images and annotations are any values, each made when it is iterated over.

    Annotations can be `PlainAnnotation` in place of a dict.
    """

    images: Iterable[Any]
    annotations: Iterable[Any]
    categories: list[Any]


class _Lists(msgspec.Struct):
    """A COCO file of which the entries of the long lists are not looked at yet."""

    images: list[msgspec.Raw]
    annotations: list[msgspec.Raw]
    categories: list[Any]


class _Entries:
    """The values of a list of a file, made anew in each iteration."""

    def __init__(self, name: str, entries: list[msgspec.Raw], path: "str | os.PathLike[str]", kind: Any = Any):
        self._name, self._entries, self._path, self._kind = name, entries, path, kind

    def __iter__(self) -> Iterator[Any]:
        decode = msgspec.json.Decoder(self._kind).decode
        for place, entry in enumerate(self._entries, start=1):
            try:
                yield decode(entry)
            except msgspec.DecodeError:
                yield self._read(place, entry)

    def _read(self, place: int, entry: msgspec.Raw) -> Any:
        try:
            return msgspec.json.decode(entry)
        except msgspec.DecodeError:  # a number too large for a float, say, which JSON allows
            pass
        try:
            return json.loads(bytes(entry))
        except (ValueError, RecursionError) as error:
            raise _unreadable(self._path, f"entry {place} of {self._name}: {error}") from error


@without_garbage_collection()
def read_coco_lists(path: "str | os.PathLike[str]") -> COCOLists:
    """The lists of a COCO file, of which the text is held and not the objects: those of a large file take ten times as much.

    Raises:
        FileNotFoundError, ValueError: as `read_coco_json`; the latter also while entries are read.
    """
    try:
        text = _bytes_of(path)
        _check_utf8(text)  # msgspec does not look at what is in none of the lists
        lists = msgspec.json.decode(text, type=_Lists)
    except (ValueError, RecursionError):  # what is wrong the other reader says, and it knows more encodings
        content = read_coco_json(path)
        return COCOLists(*(content[key] for key in LISTS))
    images = _Entries("images", lists.images, path)
    annotations = _Entries("annotations", lists.annotations, path, PlainAnnotation)
    return COCOLists(images, annotations, lists.categories)


def _check_utf8(text: bytes) -> None:
    """Raises UnicodeDecodeError, a ValueError, for bytes that are no UTF-8; looks at a part at a time."""
    decode, part = codecs.getincrementaldecoder("utf-8")().decode, 2**22
    for start in range(0, len(text), part):
        decode(text[start : start + part], final=start + part >= len(text))


def with_plain_ids(content: dict[str, Any]) -> dict[str, Any]:
    """The content with ids that refer to each other by what they say, in place: tools put some into quotes.

    Category ids that are numbers in quotes become numbers. An annotation's image id becomes that of the image, where
    one of the two is in quotes.
    """
    image_ids = {str(i["id"]): i["id"] for i in content["images"] if isinstance(i, dict) and _is_id(i.get("id"))}
    for entries, key in (("categories", "id"), ("annotations", "category_id")):
        for entry in content[entries]:
            if isinstance(entry, dict) and key in entry:
                entry[key] = plain_category_id(entry[key])
    for entry in content["annotations"]:
        if isinstance(entry, dict) and _is_id(entry.get("image_id")):
            entry["image_id"] = image_ids.get(str(entry["image_id"]), entry["image_id"])
    return content


def plain_category_id(value: Any) -> Any:
    """The number that a category id in quotes is."""
    return int(value) if isinstance(value, str) and re.fullmatch("[0-9]{1,18}", value) else value


def _is_id(value: Any) -> bool:
    return isinstance(value, (int, str))


def has_no_area(annotation: dict[str, Any]) -> bool:
    """Whether its box is thinner than `THINNEST`. No such object is read, whatever `on_invalid` says."""
    box = annotation.get("bbox")
    return (
        isinstance(box, list) and len(box) == 4 and any(isinstance(v, (int, float)) and v < THINNEST for v in box[2:])
    )


def only_images(content: dict[str, Any], image_ids: Collection[str]) -> dict[str, Any]:
    """The content with the images of these ids and their annotations alone, all else as it was.

    Objects without area, which DATASETS.ON_INVALID left out, go too, so that the content can be read as it is.

    Args:
        image_ids: ids as strings, as a Selection has them.

    Raises:
        ValueError: an id that the content lacks.
    """
    wanted = set(image_ids)
    images = [image for image in content["images"] if str(image["id"]) in wanted]
    own = {image["id"] for image in images}
    missing = sorted(wanted - set(map(str, own)))
    if missing:
        raise ValueError(f"{len(missing)} images are not in it ({first_few(missing)})")
    annotations = [a for a in content["annotations"] if a["image_id"] in own and not has_no_area(a)]
    return {**content, "images": images, "annotations": annotations}
