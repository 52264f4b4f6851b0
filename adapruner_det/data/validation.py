"""What is wrong with a data set's files, collected so that all of it comes in one report."""

import logging
import os
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from typing import Any, Union

from PIL import Image

logger = logging.getLogger(__name__)

ON_INVALID = ("error", "skip_objects", "skip_images")
_WAY_OUT = (
    "Correct these files, or set DATASETS.ON_INVALID (in Python: on_invalid) to 'skip_objects' to drop "
    "the bad objects and the images that cannot be used at all, or to 'skip_images' to drop every image "
    "with a problem."
)

_REPORTED_LINES = 50
LOGGED_LINES = 5
_SLACK = 1.0  # pixels that a box may stick out: labelling tools round, and some count from 0
_EXIF_ORIENTATION = 0x0112
_EXIF_SIDEWAYS = (5, 6, 7, 8)

PathLike = Union[str, "os.PathLike[str]"]
Record = dict[str, Any]  # one of Detectron2's dataset dicts, or of its annotations
UNREADABLE = (OSError, Image.DecompressionBombError)  # what `picture_size` raises


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
    """What a reader finds wrong with the images and objects of a data set."""

    problems: list[Problem] = field(default_factory=list)
    unusable: set[Hashable] = field(default_factory=set)  # ids of images that are of no use
    faulty: set[Hashable] = field(default_factory=set)  # and of those that are, all the same
    bad_objects: int = 0

    def add(self, image_id: Hashable, problem: Problem, unusable: bool = False, bad_object: bool = False) -> None:
        self.problems.append(problem)
        (self.unusable if unusable else self.faulty).add(image_id)
        self.bad_objects += bad_object

    def usable(self, records: Sequence[Record], num_images: int, where: str, on_invalid: str) -> list[Record]:
        """The records that `on_invalid` leaves; raises InvalidDatasetError as `raise_or_warn` does."""
        dropped = self.unusable | (self.faulty if on_invalid == "skip_images" else set())
        left = [record for record in records if record["image_id"] not in dropped]
        if self.problems:
            raise_or_warn(self.problems, where, on_invalid, num_images, len(left), self.bad_objects)
        return left


def check_on_invalid(on_invalid: str) -> None:
    """Raises ValueError unless `on_invalid` is one of `ON_INVALID`."""
    if on_invalid not in ON_INVALID:
        raise ValueError(f"on_invalid is {on_invalid!r}, not one of {', '.join(ON_INVALID)}")


def first_lines(items: Sequence[object], count: int) -> list[str]:
    """One indented line an item, for a report; of those beyond `count` the number."""
    lines = [f"  {item}" for item in items[:count]]
    if len(items) > count:
        lines.append(f"  ... and {len(items) - count} more")
    return lines


def raise_or_warn(
    problems: Sequence[Problem], where: str, on_invalid: str, num_images: int, num_left: int, num_objects: int
) -> None:
    """Ends a reading that met problems, as `on_invalid` says: the report as an error or in the log.

    Args:
        problems: all of them, at least one.
        where: the data set, for the first line of the report.
        num_images: of the whole data set; `num_left` of them were read.
        num_objects: that were bad.

    Raises:
        InvalidDatasetError: `on_invalid` is "error", or no image is left.
    """
    heading = f"{len(problems)} problem{'' if len(problems) == 1 else 's'} in {where}:"
    if on_invalid == "error":
        raise InvalidDatasetError(heading, problems, _WAY_OUT)
    if not num_left:
        raise InvalidDatasetError(heading, problems, f"on_invalid={on_invalid!r} leaves no image: correct these files.")
    logger.warning(
        "%s\n%s\non_invalid='%s' drops %d of %d images; %d objects were bad.",
        heading,
        "\n".join(first_lines(problems, LOGGED_LINES)),
        on_invalid,
        num_images - num_left,
        num_images,
        num_objects,
    )


def picture_size(file: str) -> tuple[int, int]:
    """Reads (width, height) from the header, turned by EXIF as `detection_utils.read_image` does.

    Detectron2 refuses an image while training if its dict has another size.

    Raises:
        OSError, PIL.Image.DecompressionBombError: it is missing or no picture.
    """
    with Image.open(file) as image:
        width, height = image.size
        try:
            orientation = image.getexif().get(_EXIF_ORIENTATION)
        except Exception:  # Detectron2 too takes a picture with broken EXIF data as it is
            orientation = None
    return (height, width) if orientation in _EXIF_SIDEWAYS else (width, height)


def find_box_fault(edges: Sequence[float], width: int, height: int) -> str | None:
    """What is wrong with a box (left, top, right, bottom) in a picture that covers [0, W] x [0, H]."""
    left, top, right, bottom = edges
    if right <= left or bottom <= top:
        return "has no area"
    if min(left, top) < -_SLACK or right > width + _SLACK or bottom > height + _SLACK:
        return f"is outside the {width} x {height} image"
    if left >= width or top >= height or right <= 0 or bottom <= 0:
        return f"has no area within the {width} x {height} image"
    return None
