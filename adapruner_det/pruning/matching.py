"""The labels of images, what a detector finds in them, and which of the two confirm each other.

N images, M labels and D detections of all images together, each with the number of its image. Boxes are XYXY in pixels.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

SAME = 0.5  # IoU from which two boxes are of one object


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


def chances_of(labels: Labels, detections: Detections, num_images: int) -> np.ndarray:
    """How likely each detection is right, (D,): the share that labels confirm of its class's with such a score.

    The share never falls as scores rise (isotonic regression).
    """
    from sklearn.isotonic import isotonic_regression  # here, as few need it

    confirmed = confirmed_ones(labels, detections, num_images)
    chances = np.zeros(len(confirmed))
    for cls in np.unique(detections.classes):
        own = np.flatnonzero(detections.classes == cls)
        own = own[np.argsort(detections.scores[own], kind="stable")]
        _, where = np.unique(detections.scores[own], return_inverse=True)
        weights = np.bincount(where)
        chances[own] = isotonic_regression(np.bincount(where, confirmed[own]) / weights, sample_weight=weights)[where]
    return chances


def confirmed_ones(labels: Labels, detections: Detections, num_images: int) -> np.ndarray:
    """Which detections find a label, (D,) bool. By falling score, each finds that of its class which it overlaps most.

    Each label is found once at most.
    """
    confirmed = np.zeros(len(detections.boxes), bool)
    for _, of_labels, of_detections in by_image(labels, detections, num_images):
        overlaps = iou(detections.boxes[of_detections], labels.boxes[of_labels])
        same = detections.classes[of_detections][:, None] == labels.classes[of_labels]
        overlaps = np.where(same & (overlaps >= SAME), overlaps, 0)
        by_score = np.argsort(-detections.scores[of_detections], kind="stable")
        for i in by_score[overlaps[by_score].any(axis=1)]:
            best = overlaps[i].argmax()
            if overlaps[i, best] > 0:
                confirmed[of_detections[i]] = True
                overlaps[:, best] = 0
    return confirmed


def agreement(labels: Labels, detections: Detections, num_images: int) -> np.ndarray:
    """IoU x score of the detection of its class that finds each label best, (M,) float32; 0 where none overlaps it."""
    best = np.zeros(len(labels.boxes), np.float32)
    for _, of_labels, of_detections in by_image(labels, detections, num_images):
        overlaps = iou(detections.boxes[of_detections], labels.boxes[of_labels])
        same = detections.classes[of_detections][:, None] == labels.classes[of_labels]
        best[of_labels] = (same * overlaps * detections.scores[of_detections][:, None]).max(axis=0, initial=0)
    return best


def without_crowds(labels: Labels, detections: Detections, num_images: int) -> tuple[Labels, Detections]:
    """The labels of single objects, and the detections that do not lie in a crowd by half."""
    if labels.crowds is None or not labels.crowds.any():
        return labels._replace(crowds=None), detections
    regions, objects = (Labels(*(values[which] for values in labels[:3])) for which in (labels.crowds, ~labels.crowds))
    outside = np.ones(len(detections.boxes), bool)
    for _, of_regions, of_detections in by_image(regions, detections, num_images):
        boxes = detections.boxes[of_detections]
        shared = _shared(boxes, regions.boxes[of_regions]).max(axis=1, initial=0)
        outside[of_detections] = shared <= _areas(boxes) / 2
    return objects, Detections(*(values[outside] for values in detections))


def by_image(labels: Labels, detections: Detections, num_images: int) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
    """The image, and which labels and detections are its own; for images that have any."""
    of_labels, of_detections = (_places(values.images, num_images) for values in (labels, detections))
    for image in range(num_images):
        if len(of_labels[image]) or len(of_detections[image]):
            yield image, of_labels[image], of_detections[image]


def _places(images: np.ndarray, num_images: int) -> list[np.ndarray]:
    order = np.argsort(images, kind="stable")
    return np.split(order, np.searchsorted(images[order], np.arange(1, num_images)))


def iou(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Intersection over union of (A, 4) and (B, 4) boxes, (A, B); 0 for boxes without area."""
    shared = _shared(first, second)
    union = _areas(first)[:, None] + _areas(second) - shared
    return np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)


def _shared(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    low = np.maximum(first[:, None, :2], second[:, :2])
    high = np.minimum(first[:, None, 2:], second[:, 2:])
    return np.maximum(high - low, 0).astype(float).prod(axis=-1)


def _areas(boxes: np.ndarray) -> np.ndarray:
    return (boxes[:, 2:] - boxes[:, :2]).astype(float).prod(axis=1)
