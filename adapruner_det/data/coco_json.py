"""A COCO JSON file as a whole: reading it, and leaving images out of it.

The format: https://cocodataset.org/#format-data
"""

import gc
import json
import os
import re
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

from ..pruning.names import first_few

LISTS = ("images", "annotations", "categories")
_WINDOW = 2**22  # characters of a file that are looked at at once
_COMMA = re.compile(r"[ \t\n\r]*,[ \t\n\r]*")
_SPACE = re.compile(r"[ \t\n\r]*")
_scan = json.JSONDecoder().scan_once  # type: ignore[attr-defined]  # of a text from a place on: (value, its end)


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
    try:
        if not Path(path).is_file() and Path(path).exists():
            raise ValueError("it is no regular file")
        content = json.loads(Path(path).read_bytes())
    except (ValueError, RecursionError) as error:  # of the JSON or of its UTF-8
        raise ValueError(f"{path} is not readable as JSON: {error}. Write the file anew") from error
    lists: dict[str, Any] = content if isinstance(content, dict) else {}
    missing = [key for key in LISTS if not isinstance(lists.get(key), list)]
    if missing:
        raise ValueError(
            f"{path} has no list {', '.join(map(repr, missing))}: a COCO file of boxes is an object with "
            f"the lists {', '.join(map(repr, LISTS))}"
        )
    return with_plain_ids(lists)


class UnusualFileError(ValueError):
    """A file that `coco_entries` or `last_list` cannot read: it is broken, or has to be read as a whole."""


def coco_entries(path: "str | os.PathLike[str]") -> Iterator[tuple[str, list[Any]]]:
    """The lists of a COCO file in parts, each with the name of its list, without holding the file.

    Raises:
        UnusualFileError: a list is missing or repeats, or what is read is no JSON; not before what is good is given.
    """
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            text, left = _Text(file), set(LISTS)
            for _ in text.parts("{", "}"):
                key = text.value()
                text.skip(":")
                if not isinstance(key, str):
                    raise UnusualFileError(f"{path}: {key!r:.40} is no name")
                if key not in LISTS:
                    text.value()
                    continue
                if key not in left:
                    raise UnusualFileError(f"{path}: {key} repeats")
                left.remove(key)
                for _ in text.parts("[", "]"):
                    yield key, text.values()
            if left or text.next():
                raise UnusualFileError(f"{path}: {', '.join(left)} missing, or something follows")
    except UnusualFileError:
        raise
    except (OSError, RecursionError, ValueError) as error:  # ValueError: of UTF-8, and of numbers of 5,000 digits
        raise UnusualFileError(f"{path}: {error}") from error


class _Text:
    """The text of a file from a place on, of which a part is held."""

    def __init__(self, file: TextIO):
        self._file, self._text, self._place, self._ended = file, "", 0, False

    def next(self) -> str:
        """The next character that is no space; empty at the end."""
        self._place = _SPACE.match(self._text, self._place).end()  # type: ignore[union-attr]
        while self._place == len(self._text) and self._more():
            self._place = _SPACE.match(self._text, self._place).end()  # type: ignore[union-attr]
        return self._text[self._place : self._place + 1]

    def skip(self, character: str) -> None:
        if self.next() != character:
            raise UnusualFileError(f"{character} expected, found {self.next()!r}")
        self._place += 1

    def parts(self, opening: str, closing: str) -> Iterator[None]:
        """Stops where each part of an object or list begins, which has to be read there."""
        self.skip(opening)
        if self.next() != closing:
            yield
            while self.next() == ",":
                self._place += 1
                yield
        self.skip(closing)

    def value(self) -> Any:
        if not self.next():
            raise UnusualFileError("it ends too early")
        while True:
            try:
                value, end = _scan(self._text, self._place)
                if end < len(self._text) or not self._more():  # a number may go on
                    self._place = end
                    return value
            except (StopIteration, json.JSONDecodeError) as error:
                if not self._more():
                    raise UnusualFileError(str(error)) from error

    def values(self) -> list[Any]:
        """The value here, and those behind it that are held and followed by another one."""
        values = [self.value()]
        text = self._text
        try:
            while (comma := _COMMA.match(text, self._place)) and comma.end() < len(text):
                value, place = _scan(text, comma.end())
                if place == len(text):
                    break
                values.append(value)
                self._place = place
        except (StopIteration, json.JSONDecodeError):
            pass  # it goes on in what is not read yet, or `value` will say what is wrong
        return values

    def _more(self) -> bool:
        """Reads on; the text begins anew where it is. False at the end of the file."""
        read = "" if self._ended else self._file.read(max(_WINDOW, len(self._text) - self._place))
        self._ended = not read
        self._text, self._place = self._text[self._place :] + read, 0
        return not self._ended


def last_list(path: "str | os.PathLike[str]", name: str) -> list[Any]:
    """The list called `name` if it is the last thing in a file, found without reading what is before it.

    Raises:
        UnusualFileError: it is not.
    """
    try:
        size = Path(path).stat().st_size
        with open(path, "rb") as file:
            file.seek(max(0, size - _WINDOW))
            end = file.read()
        start = end.rfind(f'"{name}"'.encode())
        following = end[start:].decode() if start > 0 and end[start - 1 : start] != b"\\" else ""
        # What closes the object and ends the file is the file's own bracket, so that the list is its own too.
        parts = json.loads("{" + following)
    except (OSError, ValueError, RecursionError) as error:
        raise UnusualFileError(f"{path}: {error}") from error
    if list(parts) != [name] or not isinstance(parts[name], list):
        raise UnusualFileError(f"{path}: {name} is not its last list")
    found: list[Any] = parts[name]
    return found


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
    """Whether its box has width or height 0. No such object is read, whatever `on_invalid` says."""
    box = annotation.get("bbox")
    return isinstance(box, list) and len(box) == 4 and 0 in box[2:]


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
