"""A COCO JSON file as a whole: reading it, and leaving images out of it.

The format: https://cocodataset.org/#format-data
"""

import json
import os
import re
import secrets
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain
from pathlib import Path
from typing import Any, Literal

import msgspec

from ..garbage import without_garbage_collection
from ..pruning.names import first_few
from .validation import THINNEST

LISTS = ("images", "annotations", "categories")


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
        _check_regular(path)
        return json.loads(Path(path).read_bytes())
    except (ValueError, RecursionError) as error:  # of the JSON or of its UTF-8
        raise _unreadable(path, error) from error


def _check_regular(path: "str | os.PathLike[str]") -> None:
    if not Path(path).is_file() and Path(path).exists():
        raise ValueError("it is no regular file")


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


class _Outline(msgspec.Struct):
    """A COCO file of which the entries of the lists are not looked at yet; `_MARK` stands for a stretch of them.

    Within an entry, in a list of objects of its own that is longer than a stretch, a mark stays: nothing of that is read.
    """

    images: list[msgspec.Raw]
    annotations: list[msgspec.Raw]
    categories: list[msgspec.Raw]


_STRETCH = 2**16  # bytes of a file that are looked at together: more do not stay in the processor's cache
_LAST_GAP = re.compile(rb".*\}(\s*,\s*)(?=\{)", re.DOTALL)  # between two objects
_OURS = secrets.token_hex(8).encode()  # no file has it
_MARK = re.compile(rb'\{"%b":\[(\d+),(\d+)\]\}' % _OURS)  # with the first byte of what it stands for, and their number


@lru_cache(maxsize=4)
def _outline(path: str, stamp: tuple[int, ...]) -> _Outline:
    """Of the file that has this stamp. Raises ValueError or RecursionError if it is no such JSON in UTF-8."""
    parts: list[bytes] = []
    for start, text, gap in _stretches(path):
        if not text.isascii():
            text.decode()  # msgspec does not look at what is in none of the lists
        parts += b'{"%b":[%d,%d]}' % (_OURS, start, len(text)) if gap and _is_of_one_list(text) else text, gap
    return msgspec.json.decode(b"".join(parts), type=_Outline)


def _is_of_one_list(text: bytes) -> bool:
    try:
        msgspec.json.decode(b"[%b]" % text, type=msgspec.Raw)
    except (msgspec.DecodeError, RecursionError):
        return False
    return True


def _stretches(path: str) -> Iterator[tuple[int, bytes, bytes]]:
    """All of a file as (its first byte's place, text, what is between it and the next), cut between two objects."""
    rest, start = b"", 0
    with open(path, "rb") as file:
        while more := file.read(max(_STRETCH, len(rest))):
            rest += more
            if found := _LAST_GAP.match(rest):
                yield start, rest[: found.start(1)], found[1]
                start, rest = start + found.end(1), rest[found.end(1) :]
    yield start, rest, b""


class _Entries:
    """The values of a list of a file, made anew in each iteration; ValueError if the file has another stamp by then."""

    def __init__(
        self,
        name: str,
        entries: list[msgspec.Raw],
        path: "str | os.PathLike[str]",
        stamp: tuple[int, ...],
        kind: Any = Any,
    ):
        self._name, self._entries, self._path, self._stamp, self._kind = name, entries, path, stamp, kind

    def __iter__(self) -> Iterator[Any]:
        return chain.from_iterable(self._parts())

    def _parts(self) -> Iterator[list[Any]]:
        decode, place = msgspec.json.Decoder(list[self._kind]).decode, 1  # type: ignore[name-defined]
        with open(self._path, "rb") as file:
            self._check_stamp(file.fileno())
            for entry in self._entries:
                text: Any = entry
                if mark := _MARK.fullmatch(entry):
                    file.seek(int(mark[1]))
                    text = file.read(int(mark[2]))
                text = b"[%b]" % text
                try:
                    values = decode(text)
                except msgspec.DecodeError:
                    values = self._one_by_one(text, place)
                yield values
                place += len(values)
            self._check_stamp(file.fileno())

    def _check_stamp(self, file: int) -> None:
        if file_stamp(file) != self._stamp:
            raise self._changed()

    def _changed(self) -> ValueError:
        return ValueError(f"{self._path} has changed while it was read: start again when it is whole")

    def _one_by_one(self, text: bytes, start: int) -> list[Any]:
        decode = msgspec.json.Decoder(self._kind).decode
        values = []
        try:
            entries = msgspec.json.decode(text, type=list[msgspec.Raw])
        except msgspec.DecodeError as error:  # it was JSON a moment ago
            raise self._changed() from error
        for place, entry in enumerate(entries, start):
            try:
                values.append(decode(entry))
            except msgspec.DecodeError:
                values.append(self._read(place, entry))
        return values

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
    """The lists of a COCO file, of which some MB are held at a time and not the objects: those of a large file take gigabytes.

    Raises:
        FileNotFoundError, ValueError: as `read_coco_json`; the latter also while entries are read.
    """
    try:
        _check_regular(path)
        stamp = file_stamp(path)
        lists = _outline(os.fspath(path), stamp)
    except (ValueError, RecursionError):  # what is wrong the other reader says, and it knows more encodings
        content = read_coco_json(path)
        return COCOLists(*(content[key] for key in LISTS))
    images = _Entries("images", lists.images, path, stamp)
    annotations = _Entries("annotations", lists.annotations, path, stamp, PlainAnnotation)
    return COCOLists(images, annotations, list(_Entries("categories", lists.categories, path, stamp)))


def file_stamp(file: "str | os.PathLike[str] | int") -> tuple[int, ...]:
    """What changes when a file, of a name or opened, is written anew."""
    status = os.stat(file)
    return status.st_mtime_ns, status.st_size, status.st_ino


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
