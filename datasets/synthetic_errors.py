"""Synthetic errors for annotated images, for pruning to find: wrong labels and near-duplicates.

Which images, and what exactly happens to them, depends on their ids, objects and the seed alone. Boxes are as written
in VOC files: (xmin, ymin, xmax, ymax), 1-based, both ends included.
"""

import io
from collections.abc import Callable, Sequence
from dataclasses import astuple, dataclass, field
from xml.etree import ElementTree as ET

import numpy as np
from defusedxml.ElementTree import parse
from detectron2.data.detection_utils import read_image
from PIL import Image

from adapruner_det.data.validation import PathLike
from adapruner_det.data.voc import Box, VOCObject

MAX_SHIFT = 3  # pixels between a near-duplicate and its original, along either axis
CONTRAST = (0.9, 1.1)
BRIGHTNESS = (-10.0, 10.0)  # of 255
JPEG_QUALITY = (80, 95)
BOX_SHIFT = (0.4, 0.6)  # of the box's width and height
MAX_SHARE = 0.5  # of the images that errors may touch, so that there is something to compare with

Size = tuple[int, int]
Shift = tuple[int, int]
# number of an object -> what becomes of it, None if it goes
Changes = dict[int, VOCObject | None]


@dataclass(frozen=True)
class LabelledImage:
    """One image of a list: its id, (width, height) in pixels and its objects as written."""

    image_id: str
    size: Size
    objects: tuple[VOCObject, ...]


@dataclass(frozen=True)
class Shares:
    """How many images get each kind of error, as shares of the list's images."""

    duplicates: float = 0.0
    wrong_classes: float = 0.0
    shifted_boxes: float = 0.0
    missing_boxes: float = 0.0


@dataclass(frozen=True)
class WrongLabel:
    """What is wrong with one image's labels: its kind ("class", "box" or "missing") and the changes."""

    kind: str
    changes: Changes


@dataclass(frozen=True)
class Plan:
    """All that is to be injected.

    Attributes:
        copies: id of the new image -> id of its original, and the shift (x, y) of its content in pixels.
        wrong: id -> what is wrong with its labels.
    """

    copies: dict[str, tuple[str, Shift]] = field(default_factory=dict)
    wrong: dict[str, WrongLabel] = field(default_factory=dict)


def plan_errors(images: Sequence[LabelledImage], shares: Shares, seed: int) -> Plan:
    """Chooses images, all different, and what happens to each.

    An original gets one copy. Boxes go missing from images with several, as long as there are any.

    Args:
        images: of the list; their order does not matter.

    Raises:
        ValueError: a share is out of range, or too few images can take an error.
    """
    _check(shares, seed)
    images = sorted(images, key=lambda image: image.image_id)
    classes = sorted({obj.name for image in images for obj in image.objects})
    if shares.wrong_classes and len(classes) < 2:
        raise ValueError(f"wrong_classes: the list has only class {classes}; it takes two")
    rngs = {im.image_id: np.random.default_rng([seed, number]) for number, im in enumerate(images)}
    pool = [images[i] for i in np.random.default_rng(seed).permutation(len(images))]
    plan = Plan()
    spoilers: dict[str, tuple[str, Callable[[LabelledImage], Changes]]] = {
        "missing_boxes": ("missing", lambda im: missing_boxes(rngs[im.image_id], im.objects)),
        "wrong_classes": ("class", lambda im: wrong_classes(rngs[im.image_id], im.objects, classes)),
        "shifted_boxes": ("box", lambda im: shifted_boxes(rngs[im.image_id], im.objects, im.size)),
    }
    for option, (kind, spoil) in spoilers.items():
        fitting = [image for image in pool if image.objects]
        if kind == "missing":
            fitting.sort(key=lambda image: len(image.objects) < 2)
        count = round(getattr(shares, option) * len(images))
        for image in _take(pool, fitting, count, option, "has a box"):
            plan.wrong[image.image_id] = WrongLabel(kind, spoil(image))
    fitting = [image for image in pool if allowed_shifts(image.objects, image.size)]
    count = round(shares.duplicates * len(images))
    taken = {image.image_id for image in images}
    for image in _take(pool, fitting, count, "duplicates", "keeps its boxes when shifted"):
        choices = allowed_shifts(image.objects, image.size)
        shift = choices[rngs[image.image_id].integers(len(choices))]
        plan.copies[_free_id(image.image_id, taken)] = (image.image_id, shift)
    return plan


def _check(shares: Shares, seed: int) -> None:
    if seed < 0:
        raise ValueError(f"seed is {seed}; it has to be 0 or more")
    values = astuple(shares)
    if min(values) < 0 or sum(values) > MAX_SHARE + 1e-9:
        raise ValueError(
            f"{shares}: shares of the images, 0 or more, and together at most {MAX_SHARE}, so that enough "
            "images without errors are left to compare with"
        )


def _take(
    pool: list[LabelledImage], fitting: list[LabelledImage], count: int, option: str, what: str
) -> list[LabelledImage]:
    """The first `count` of `fitting`, which leave the pool."""
    if count > len(fitting):
        raise ValueError(
            f"{option} asks for {count} images, but only {len(fitting)} of those left are such that one "
            f"{what}: ask for less"
        )
    chosen = fitting[:count]
    gone = {image.image_id for image in chosen}
    pool[:] = [image for image in pool if image.image_id not in gone]
    return chosen


def _free_id(image_id: str, taken: "set[str]") -> str:
    """A new id that no image of the list has; it is added to `taken`."""
    new = f"{image_id}_copy"
    while new in taken:
        new += "_"
    taken.add(new)
    return new


def wrong_classes(rng: np.random.Generator, objects: Sequence[VOCObject], classes: Sequence[str]) -> Changes:
    """Every object gets another class; objects of one class get the same."""
    step = int(rng.integers(1, len(classes)))
    other = {name: classes[(place + step) % len(classes)] for place, name in enumerate(classes)}
    return {obj.number: obj._replace(name=other[obj.name]) for obj in objects}


def missing_boxes(rng: np.random.Generator, objects: Sequence[VOCObject]) -> Changes:
    """Half of the objects go, rounded up."""
    count = (len(objects) + 1) // 2
    chosen = rng.choice(len(objects), size=count, replace=False)
    return {objects[i].number: None for i in sorted(chosen.tolist())}


def shifted_boxes(rng: np.random.Generator, objects: Sequence[VOCObject], size: Size) -> Changes:
    """Every box moves by about half its width and half its height.

    It moves to a side where it fits whole, if there is one; else to the side with more room, and is cut at the border.
    Either way its IoU with its old place is below 0.5.
    """
    return {obj.number: obj._replace(box=_shifted_box(rng, obj.box, size)) for obj in objects}


def _shifted_box(rng: np.random.Generator, box: Box, size: Size) -> Box:
    moved = list(box)
    for low, high, limit in ((0, 2, size[0]), (1, 3, size[1])):
        step = max(1, round(rng.uniform(*BOX_SHIFT) * (box[high] - box[low] + 1)))
        room = {-step: box[low] - 1, step: limit - box[high]}
        fitting = [by for by, space in room.items() if space >= step] or [max(room, key=room.get)]
        by = fitting[rng.integers(len(fitting))]
        moved[low], moved[high] = max(box[low] + by, 1), min(box[high] + by, limit)
    return tuple(moved)


def moved_box(box: Box, shift: Shift, size: Size) -> Box:
    """A box whose picture moves by (x, y) pixels, cut at the border of the picture."""
    xmin, ymin, xmax, ymax = (edge + by for edge, by in zip(box, (*shift, *shift)))
    return max(xmin, 1), max(ymin, 1), min(xmax, size[0]), min(ymax, size[1])


def allowed_shifts(objects: Sequence[VOCObject], size: Size) -> list[Shift]:
    """The shifts by 1 to MAX_SHIFT pixels along an axis or both that leave at least half of every box."""
    steps = range(-MAX_SHIFT, MAX_SHIFT + 1)
    return [
        (x, y)
        for x in steps
        for y in steps
        if (x or y) and all(2 * _area(moved_box(o.box, (x, y), size)) >= _area(o.box) for o in objects)
    ]


def _area(box: Box) -> float:
    return max(box[2] - box[0] + 1, 0) * max(box[3] - box[1] + 1, 0)


def moved_objects(image: LabelledImage, shift: Shift) -> Changes:
    """The labels of a near-duplicate."""
    return {o.number: o._replace(box=moved_box(o.box, shift, image.size)) for o in image.objects}


def altered_picture(path: PathLike, shift: Shift, rng: np.random.Generator) -> bytes:
    """A JPEG of a picture whose content moved by (x, y) pixels, in slightly other contrast and brightness.

    The border that comes free repeats the outermost pixels.
    """
    pixels = read_image(path, "RGB").astype(np.float32)
    height, width = pixels.shape[:2]
    top, left = MAX_SHIFT - shift[1], MAX_SHIFT - shift[0]
    padded = np.pad(pixels, ((MAX_SHIFT, MAX_SHIFT), (MAX_SHIFT, MAX_SHIFT), (0, 0)), mode="edge")
    moved = padded[top : top + height, left : left + width]
    changed = (moved - 128) * rng.uniform(*CONTRAST) + 128 + rng.uniform(*BRIGHTNESS)
    picture = Image.fromarray(np.clip(changed, 0, 255).round().astype(np.uint8))
    jpeg = io.BytesIO()
    picture.save(jpeg, "JPEG", quality=int(rng.integers(JPEG_QUALITY[0], JPEG_QUALITY[1] + 1)))
    return jpeg.getvalue()


def changed_annotation(path: PathLike, changes: Changes, filename: str | None = None) -> bytes:
    """An annotation file with changes to some of its objects; all else stays as it is.

    Args:
        filename: of the picture, if it is another one.
    """
    root = parse(path).getroot()
    for number, element in enumerate(root.findall("object"), start=1):
        if number not in changes:
            continue
        if changes[number] is None:
            root.remove(element)
        else:
            _write_object(element, changes[number])
    if filename is not None and root.find("filename") is not None:
        root.find("filename").text = filename
    return ET.tostring(root, encoding="utf-8")


def _write_object(element: ET.Element, obj: VOCObject) -> None:
    element.find("name").text = obj.name
    for tag, value in zip(("xmin", "ymin", "xmax", "ymax"), obj.box):
        element.find(f"bndbox/{tag}").text = str(plain_number(value))
    # a person's head and hands are where the person was
    for part in element.findall("part"):
        element.remove(part)


def plain_number(value: float) -> "int | float":
    """A coordinate as people write it."""
    return int(value) if float(value).is_integer() else round(value, 4)
