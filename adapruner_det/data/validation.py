"""What is wrong with a data set's files, collected so that all of it comes in one report."""

import logging
import os
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Hashable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Union

import numpy as np

from ..pruning.names import first_few
from .pictures import Picture
from .serialized_records import Records

logger = logging.getLogger(__name__)

ON_INVALID = ("clip", "error", "skip_objects", "skip_images")
_CLIPPING = ("clip", "skip_objects")
_RAISING = ("clip", "error")
_WAY_OUT = (
    "Correct these files, or set DATASETS.ON_INVALID (in Python: on_invalid) to 'skip_objects' to drop "
    "boxes without area and every image that cannot be used or would lose an object, or to 'skip_images' to drop "
    "every image with a problem."
)

_REPORTED_LINES = 50
LOGGED_LINES = 5
_ENOUGH, _MANY = 10, 0.1  # boxes, and the share of them that does not fit, to doubt how the format is meant
THINNEST = 0.01  # pixels: boxes as thin are rounded away in training, and mark nothing
_SLACK = 1.0  # pixels that a box may stick out: labelling tools round, and some count from 0

PathLike = Union[str, "os.PathLike[str]"]
Box = tuple[float, float, float, float]
Record = dict[str, Any]  # one of Detectron2's dataset dicts, or of its annotations


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong with a data set."""

    file: str  # the one at fault
    message: str
    object_number: int | None = None  # within the file, counted from 1; None if it is the whole file
    class_name: str | None = None  # of the object, where it has one

    def __str__(self) -> str:
        if self.object_number is None:
            return f"{self.file}: {self.message}"
        name = self.class_name or "no class"
        return f"{self.file}: object {self.object_number} ({name}): {self.message}"


class InvalidDatasetError(ValueError):
    """A data set has `problems`, of which the message shows the first 50."""

    def __init__(self, heading: str, problems: Sequence[Problem], way_out: str):
        self.problems = list(problems)
        lines = first_lines(self.problems, _REPORTED_LINES)
        super().__init__("\n".join([heading, *lines, way_out]))


@dataclass
class Findings:
    """What a reader finds wrong with the images and objects of a data set, and what it does about that."""

    on_invalid: str = "clip"
    problems: list[Problem] = field(default_factory=list)
    unusable: set[Hashable] = field(default_factory=set)  # ids of images that are of no use
    losing: set[Hashable] = field(default_factory=set)  # of those that would be trained on without one of their objects
    faulty: set[Hashable] = field(default_factory=set)  # and of those with a problem that does no harm
    bad_objects: int = 0
    # all, wrong, in the first pixel, and those that fit if they are read otherwise
    boxes: Counter[str] = field(default_factory=Counter)
    left_out: Counter[str] = field(default_factory=Counter)  # objects of classes that were not asked for, by class
    notes: dict[str, Counter[Hashable]] = field(default_factory=lambda: defaultdict(Counter))
    _names: dict[tuple[int, int], Hashable] = field(default_factory=dict)  # image ids by file

    def add(self, image_id: Hashable, problem: Problem, unusable: bool = False) -> None:
        """An image with a problem."""
        self.problems.append(problem)
        (self.unusable if unusable else self.faulty).add(image_id)

    def add_object(self, image_id: Hashable, problem: Problem, error: ValueError | None = None) -> None:
        """An object that is of no use, because of `error`."""
        self.problems.append(problem)
        (self.faulty if isinstance(error, EmptyBoxError) else self.losing).add(image_id)
        self.bad_objects += 1

    def note(self, image_id: Hashable, what: str, number: int = 1) -> None:
        """Something that is read, but has to be said: `what` follows a number."""
        self.notes[what][image_id] += number

    def fit_box(
        self, image_id: Hashable, edges: Sequence[float], width: int, height: int, otherwise: Sequence[float]
    ) -> tuple[Box, bool]:
        """`fit_box` as `on_invalid` says, noting what is clipped.

        Args:
            otherwise: the edges, if the four numbers are what some tools write in place of the format's.
        """
        self.count_boxes(edges, otherwise, width, height)
        try:
            box, clipped = fit_box(edges, width, height, self.on_invalid in _CLIPPING)
        except EmptyBoxError:
            raise
        except ValueError:
            self.boxes["wrong"] += 1
            raise
        if clipped:
            self.boxes["wrong"] += 1
            self.note(image_id, "boxes stick out of their image and are clipped")
        return box, clipped

    def count_boxes(self, edges: Any, otherwise: Any, width: Any, height: Any) -> None:
        """Counts a box as `fit_box` does, or N that lie in their pictures, if each number is an array (N,)."""
        left, top, right, bottom = otherwise
        wide = (-_SLACK <= left) & (left < right) & (right <= width + _SLACK)
        high = (-_SLACK <= top) & (top < bottom) & (bottom <= height + _SLACK)
        left, top, right, bottom = map(abs, edges)
        first = (left <= 1) & (top <= 1) & (right <= 1) & (bottom <= 1)
        self.boxes["otherwise"] += int(np.count_nonzero(wide & high))
        self.boxes["in the first pixel"] += int(np.count_nonzero(first))
        self.boxes["all"] += np.size(left)

    def note_picture(self, image_id: Hashable, picture: Picture) -> None:
        """Notes what a picture has of its own: a turn, or another image's file."""
        if picture.orientation != 1:
            self.note(
                image_id, "pictures are turned or mirrored by EXIF when read; boxes have to be those of the turned one"
            )
        other = self._names.setdefault(picture.identity, image_id)
        if other != image_id:
            self.note(f"{other} = {image_id}", "pictures are one file under two image ids")

    def check_reading(self, numbers: str, format_numbers: str, source: PathLike) -> None:
        """
        Raises:
            ValueError: many boxes do not fit their picture, and all would if the four numbers were `numbers`; or all are
                in the first pixel.
        """
        wrong, of = self.boxes["wrong"], self.boxes["all"]
        if of >= _ENOUGH and self.boxes["in the first pixel"] == of:
            raise ValueError(
                f"{source}: all {of} boxes lie in the first pixel of their pictures: were they divided by width and height once too "
                f"often? Write them as {format_numbers}"
            )
        if of >= _ENOUGH and wrong >= _MANY * of and self.boxes["otherwise"] == of:
            raise ValueError(
                f"{source}: {wrong} of {of} boxes do not fit their pictures, and all of them would if the four numbers were {numbers}: "
                f"write them as {format_numbers}"
            )

    def usable(
        self, records: Iterable[Record], num_images: int, where: str, make: Callable[[Iterable[Record]], Records]
    ) -> Records:
        """`make` of the records that `on_invalid` leaves, of so many images; problems are logged, with `where`.

        Raises:
            InvalidDatasetError: there are problems, and `on_invalid` is "clip" or "error" or no image is left.
        """
        dropped = self.unusable | self.losing
        if self.on_invalid == "skip_images":
            dropped = dropped | self.faulty
        left = make(self._looked_at(record) for record in records if record["image_id"] not in dropped)
        if self.problems:
            self._raise_or_warn(where, num_images, len(left))
        for what, images in self.notes.items():
            logger.warning(f"{where}: {images.total()} {what} ({len(images)} images: {first_few(map(quoted, images))})")
        if self.left_out:
            shown = first_few(quoted(f"{name} ({count})") for name, count in self.left_out.most_common())
            logger.warning(
                f"{where}: {self.left_out.total()} objects of other classes are left out, as if not labelled: {shown}"
            )
        return left

    def _raise_or_warn(self, where: str, num_images: int, num_left: int) -> None:
        heading = f"{len(self.problems)} problem{'' if len(self.problems) == 1 else 's'} in {where}:"
        if self.on_invalid in _RAISING:
            raise InvalidDatasetError(heading, self.problems, _WAY_OUT)
        if not num_left:
            way_out = f"on_invalid={self.on_invalid!r} leaves no image: correct these files."
            raise InvalidDatasetError(heading, self.problems, way_out)
        shown = "\n".join(first_lines(self.problems, LOGGED_LINES))
        logger.warning(
            f"{heading}\n{shown}\non_invalid={self.on_invalid!r} drops "
            f"{num_images - num_left} of {num_images} images; {self.bad_objects} objects were bad."
        )

    def _looked_at(self, record: Record) -> Record:
        """The record, whose copies of an object are noted."""
        objects = [(own.get("category_id"), *own.get("bbox", ())) for own in record.get("annotations", ())]
        copies = len(objects) - len(set(objects))
        if copies:
            self.note(
                record["image_id"],
                "objects have class and box of another one in their image: each of them counts",
                copies,
            )
        return record

    def check_left_out(self, class_names: Sequence[str], present: Collection[str], source: PathLike) -> None:
        """
        Raises:
            ValueError: objects were left out, and a class that was asked for is not there: it may be misspelt.
        """
        missing = [name for name in class_names if name not in present]
        if self.left_out and missing:
            others = [name for name in present if name not in class_names]
            lacking, found = (first_few(map(quoted, names)) for names in (missing, others))
            raise ValueError(
                f"{source} has no class {lacking}, but {found}, which was not asked for: correct the class names, or "
                "leave them away for all of them"
            )


def check_on_invalid(on_invalid: str) -> None:
    """Raises ValueError unless `on_invalid` is one of `ON_INVALID`."""
    if on_invalid not in ON_INVALID:
        raise ValueError(f"on_invalid is {on_invalid!r}, not one of {', '.join(ON_INVALID)}")


def first_lines(items: Sequence[object], count: int) -> list[str]:
    """One indented line an item, for a report; of those beyond `count` the number."""
    lines = [f"  {quoted(item)}" for item in items[:count]]
    if len(items) > count:
        lines.append(f"  ... and {len(items) - count} more")
    return lines


def quoted(item: object) -> str:
    """As text on one line, in which control characters are escaped."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in str(item))


def plain_number(text: str) -> float:
    """A number as files have it: Python's `float` also reads 1_000 and the digits of all scripts. ValueError if it is none."""
    if not text.isascii() or "_" in text:
        raise ValueError(f"{text!r} is no number")
    return float(text)


class EmptyBoxError(ValueError):
    """A box thinner than `THINNEST`: there is nothing of its object to see, or to lose."""


def lie_inside(edges: Any, width: Any, height: Any) -> Any:
    """Whether a box lies in its picture and is no thinner than `THINNEST`; of N boxes, if each number is an array (N,)."""
    left, top, right, bottom = edges
    thick = (right - left >= THINNEST) & (bottom - top >= THINNEST)
    return thick & (0 <= left) & (right <= width) & (0 <= top) & (bottom <= height)


def fit_box(edges: Sequence[float], width: int, height: int, clip: bool) -> tuple[Box, bool]:
    """The part of a box (left, top, right, bottom) that lies in a picture, which covers [0, W] x [0, H].

    Args:
        clip: take boxes that stick out by more than a pixel, if at least half of their area is inside.

    Returns:
        the box, and whether it stuck out by more than a pixel.

    Raises:
        EmptyBoxError: the box is thinner than `THINNEST`.
        ValueError: it is inverted or outside.
    """
    left, top, right, bottom = map(float, edges)
    if lie_inside((left, top, right, bottom), width, height):
        return (left, top, right, bottom), False
    near = min(left, top) >= -_SLACK and right <= width + _SLACK and bottom <= height + _SLACK
    if right - left < THINNEST or bottom - top < THINNEST:
        empty = near and right >= left and bottom >= top
        raise (EmptyBoxError if empty else ValueError)("has no area")
    inside = max(left, 0.0), max(top, 0.0), min(right, float(width)), min(bottom, float(height))
    wide, high = max(inside[2] - inside[0], 0.0), max(inside[3] - inside[1], 0.0)
    if near:
        if min(wide, high) < THINNEST:
            raise ValueError(f"has no area within the {width} x {height} image")
        return inside, False
    if not clip or wide / (right - left) * (high / (bottom - top)) < 0.5:
        raise ValueError(f"is outside the {width} x {height} image")
    return inside, True
