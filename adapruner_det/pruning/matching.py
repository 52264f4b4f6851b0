"""The labels of images, what a detector finds in them, and which of the two confirm each other.

N images, M labels and D detections of all images together, each with the number of its image. Boxes are XYXY in pixels.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

SAME = 0.5  # IoU from which two boxes are of one object
_PAIRS = 2**21  # of boxes that are compared at a time


class Labels(NamedTuple):
    """The labels of N images."""

    boxes: np.ndarray  # (M, 4)
    classes: np.ndarray  # (M,) int
    images: np.ndarray  # (M,) int, 0 to N - 1
    crowds: np.ndarray | None = None  # (M,) bool: regions in which nothing is looked for; None for no such


class Detections(NamedTuple):
    """What a detector finds in N images, at a low threshold and after non-maximum suppression."""

    boxes: np.ndarray  # (D, 4)
    scores: np.ndarray  # (D,)
    classes: np.ndarray  # (D,) int
    images: np.ndarray  # (D,) int, 0 to N - 1


Boxes = Labels | Detections


def check(labels: Labels, detections: Detections, num_images: int) -> None:
    """Raises ValueError for arrays that do not fit together, or images that are none of the N."""
    for name, values in (("labels", labels), ("detections", detections)):
        shapes = {field: array.shape for field, array in values._asdict().items() if array is not None}
        number = len(values.boxes)
        if any(shape != ((number, 4) if field == "boxes" else (number,)) for field, shape in shapes.items()):
            raise ValueError(f"{name} need as many boxes (n, 4) as values (n,) of all else; their shapes are {shapes}")
        if number and not 0 <= values.images.min() <= values.images.max() < num_images:
            raise ValueError(
                f"{name} are of the images {values.images.min()} to {values.images.max()}, but there are {num_images}, "
                "counted from 0"
            )


def chances_of(labels: Labels, detections: Detections) -> np.ndarray:
    """How likely each detection is right, (D,): the share that labels confirm of its class's with such a score.

    The share never falls as scores rise (isotonic regression).
    """
    from sklearn.isotonic import isotonic_regression  # here, as few need it

    confirmed = confirmed_ones(labels, detections)
    chances = np.zeros(len(confirmed))
    for cls in np.unique(detections.classes):
        own = np.flatnonzero(detections.classes == cls)
        own = own[np.argsort(detections.scores[own], kind="stable")]
        _, where = np.unique(detections.scores[own], return_inverse=True)
        weights = np.bincount(where)
        chances[own] = isotonic_regression(np.bincount(where, confirmed[own]) / weights, sample_weight=weights)[where]
    return chances


def confirmed_ones(labels: Labels, detections: Detections, least: float = SAME) -> np.ndarray:
    """Which detections find a label, (D,) bool. By falling score, each finds that of its class which it overlaps most.

    Each label is found once at most, with an IoU of at least `least`.
    """
    of_detections, of_labels, overlaps = overlapping(detections, labels, least)
    same = np.flatnonzero(detections.classes[of_detections] == labels.classes[of_labels])
    own, own_labels = of_detections[same], of_labels[same]
    order = np.lexsort([own_labels, -overlaps[same], own, -detections.scores[own]])
    confirmed, found = bytearray(len(detections.boxes)), bytearray(len(labels.boxes))
    for detection, label in zip(own[order].tolist(), own_labels[order].tolist()):
        if not confirmed[detection] and not found[label]:
            confirmed[detection] = found[label] = True
    return np.frombuffer(confirmed, bool)


def agreement(labels: Labels, detections: Detections) -> np.ndarray:
    """IoU x score of the detection of its class that finds each label best, (M,) float32; 0 where none overlaps it."""
    best = np.zeros(len(labels.boxes), np.float32)
    of_detections, of_labels, overlaps = overlapping(detections, labels, np.finfo(float).tiny)
    same = detections.classes[of_detections] == labels.classes[of_labels]
    np.maximum.at(best, of_labels, same * overlaps * detections.scores[of_detections])
    return best


def without_crowds(labels: Labels, detections: Detections) -> tuple[Labels, Detections]:
    """The labels of single objects, and the detections that do not lie in a crowd by half."""
    if labels.crowds is None or not labels.crowds.any():
        return labels._replace(crowds=None), detections
    regions, objects = (Labels(*(values[which] for values in labels[:3])) for which in (labels.crowds, ~labels.crowds))
    outside = np.ones(len(detections.boxes), bool)
    for own, of_regions in of_one_image(detections, regions):
        boxes = detections.boxes[own]
        outside[own[_shared(boxes, regions.boxes[of_regions]) > _areas(boxes) / 2]] = False
    return objects, Detections(*(values[outside] for values in detections))


def overlapping(one: Boxes, other: Boxes, least: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Every two of `one` and `other` in an image with an IoU of at least `least`, above 0: (P,) places in both, and IoU."""
    found = []
    for first, second in of_one_image(one, other):
        overlaps = _over_union(one.boxes[first], other.boxes[second])
        near = overlaps >= least
        found.append((first[near], second[near], overlaps[near]))
    first, second, overlaps = map(np.concatenate, zip(*found))
    return first, second, overlaps


def of_one_image(one: Boxes, other: Boxes) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """The places in both of every two that are of one image, some millions at a time, in the order of `one`."""
    order = np.argsort(other.images, kind="stable")
    images = other.images[order]
    starts = np.searchsorted(images, one.images)
    numbers = np.searchsorted(images, one.images, "right") - starts
    until = np.cumsum(numbers)
    parts = np.searchsorted(until, np.arange(_PAIRS, numbers.sum(), _PAIRS))
    for own in np.split(np.arange(len(numbers)), parts):
        times = numbers[own]
        within = np.arange(times.sum()) - np.repeat(np.cumsum(times) - times, times)
        yield np.repeat(own, times), order[np.repeat(starts[own], times) + within]


def places_of(images: np.ndarray, asked: np.ndarray) -> list[np.ndarray]:
    """Where each of some images, sorted, is named in (B,) numbers of images."""
    order = np.argsort(images, kind="stable")
    ends = (np.searchsorted(images[order], asked, side) for side in ("left", "right"))
    return [order[start:end] for start, end in zip(*(own.tolist() for own in ends))]


def iou(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Intersection over union of (A, 4) and (B, 4) boxes, (A, B); 0 for boxes without area."""
    return _over_union(first[:, None], second)


def _over_union(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    shared = _shared(first, second)
    union = _areas(first) + _areas(second) - shared
    return np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)


def _shared(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    low = np.maximum(first[..., :2], second[..., :2])
    high = np.minimum(first[..., 2:], second[..., 2:])
    return np.maximum(high - low, 0).astype(float).prod(axis=-1)


def _areas(boxes: np.ndarray) -> np.ndarray:
    return (boxes[..., 2:] - boxes[..., :2]).astype(float).prod(axis=-1)
