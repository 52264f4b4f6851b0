"""How likely the labels of images are wrong, from what a finished detector finds in them.

All is in one unit, the surprise -log(1 - p) in nats, that labels are at odds with a detection whose chance to be right
is p. Young detectors are sure of nothing, and some classes are harder than others: so p is not the score but what
`matching.chances_of` makes of it. What a detector finds and no label has (overlooked), finds elsewhere (badly located)
or as something else (swapped) are the three errors of ObjectLab (Tkachenko, Thyagarajan and Mueller, "ObjectLab:
Automated Diagnosis of Mislabeled Images in Object Detection Data", 2023). That detections which disagree with the labels
find disturbed boxes is shown by CLOD (Chachula et al., "Combating Noisy Labels in Object Detection Datasets", 2022).

N images, M labels and D detections, K classes; see `matching`.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from scipy import sparse

from .loss_scale import expected_values
from .matching import SAME, Detections, Labels, chances_of, iou, overlapping, places_of, without_crowds

ELSEWHERE = 0.35  # IoU below which a detection is not just a rough one of the label it overlaps
NEAR = 0.2  # below it two boxes have nothing to do with each other
TWICE = 0.8  # from which two labels of one class are one
SUREST = 0.98  # a surprise is 3.9 nats at most
LEAST = 1.0  # nats: a box less suspicious is not told
OUTLIER_Z = 1.25  # what is not above it does not count
_BASE_LOSS, _BASE_SURPRISE = 0.05, 0.3  # of the mean loss; in nats: what is far below it counts as 0
_NEAREST = 10  # neighbours that may spare an image
_NARROWEST = 1 / 3  # deviation: values that all lie within a factor of 1.4 are no evidence


class Suspicion(NamedTuple):
    """A box that is likely to be wrong.

    Of kind "missing" it is that of a detection without a label. Of all others it is the label's: "class", seen as
    another class; "box", seen elsewhere; "twice", an earlier label of its class has the same place. A label that nothing
    is detected near is none of them: in a young detector's eyes right ones are so as often.
    """

    image: int
    kind: str
    box: np.ndarray  # (4,)
    label: int  # class of the label; -1 for none
    seen: int  # class of the detection; -1 for none
    nats: float


def suspicious_boxes(labels: Labels, detections: Detections) -> list[Suspicion]:
    """All boxes that are suspicious, the most suspicious first.

    The surprise at a label that is there twice is -log of the share of its class's labels that are such.
    """
    labels, detections = without_crowds(labels, detections)
    chances = chances_of(labels, detections)
    found = [one for image in _images_to_look_at(labels, detections, chances) for one in _suspicions(*image)]
    first, second, _ = overlapping(labels, labels, TWICE)
    twice = np.unique(first[(second < first) & (labels.classes[first] == labels.classes[second])])
    of_class, twice_of_class = np.bincount(labels.classes), np.bincount(labels.classes[twice])
    for label in map(int, twice):
        cls = labels.classes[label]
        nats = float(surprise(1 - twice_of_class[cls] / of_class[cls]))
        found.append(Suspicion(int(labels.images[label]), "twice", labels.boxes[label], int(cls), -1, nats))
    return sorted((one for one in found if one.nats >= LEAST), key=lambda one: -one.nats)


def _images_to_look_at(
    labels: Labels, detections: Detections, chances: np.ndarray
) -> Iterator[tuple[int, Labels, Detections, np.ndarray]]:
    """Those with a detection sure enough to be told that no label confirms: number, labels, sure detections, chances."""
    sure = np.flatnonzero(surprise(chances) >= LEAST)
    detections, chances = Detections(*(values[sure] for values in detections)), chances[sure]
    confirming, confirmed, _ = overlapping(detections, labels, SAME)
    alone = np.ones(len(sure), bool)
    alone[confirming[detections.classes[confirming] == labels.classes[confirmed]]] = False
    images = np.unique(detections.images[alone])
    for image, of_labels, of_detections in zip(
        images, *(places_of(own.images, images) for own in (labels, detections))
    ):
        own = Labels(*(values[of_labels] for values in labels[:3]))
        seen = Detections(*(values[of_detections] for values in detections))
        yield int(image), own, seen, chances[of_detections]


def _suspicions(image: int, labels: Labels, detections: Detections, chances: np.ndarray) -> Iterator[Suspicion]:
    """What the detections of one image have against its labels."""
    found = disagreements(labels.boxes, labels.classes, detections.boxes, detections.classes, chances)
    for kind, label, i in found:
        box, cls = (labels.boxes[label], labels.classes[label]) if label >= 0 else (detections.boxes[i], -1)
        yield Suspicion(image, kind, box, int(cls), int(detections.classes[i]), float(surprise(chances[i])))


def disagreements(
    boxes: np.ndarray, classes: np.ndarray, detected: np.ndarray, seen: np.ndarray, chances: np.ndarray
) -> list[tuple[str, int, int]]:
    """What a detector has against the labels of one image.

    Every detection that no label of its class confirms speaks for one error at most. It overlaps a label of another
    class ("class"), or a label of its own class just in part ("box"), unless that label is confirmed by a detection at
    least as likely; or it has no label near ("missing"). Of several in one place the likeliest counts.

    Args:
        boxes, classes: (M, 4), (M,) labels.
        detected, seen, chances: (D, 4), (D,), (D,) boxes, classes and how likely each detection is right.

    Returns:
        (kind, label or -1, detection), the likeliest first.
    """
    overlaps, same = iou(detected, boxes), seen[:, None] == classes
    confirming = same & (overlaps >= SAME)
    confirmed = np.where(confirming, chances[:, None], 0.0).max(axis=0, initial=0.0)
    found: list[tuple[str, int, int]] = []
    for i in np.argsort(-chances, kind="stable"):
        earlier = [detection for _, _, detection in found]
        if confirming[i].any() or iou(detected[i : i + 1], detected[earlier]).max(initial=0) >= SAME:
            continue
        kind, label = _error(overlaps[i], same[i])
        if kind and (label < 0 or confirmed[label] < chances[i]):
            found.append((kind, label, int(i)))
    return found


def _error(overlaps: np.ndarray, same: np.ndarray) -> tuple[str, int]:
    """What a detection that no label confirms says against which label, from its overlaps with M and their classes."""
    if not (overlaps >= NEAR).any():
        return "missing", -1
    if (~same & (overlaps >= SAME)).any():
        return "class", int(np.where(same, 0, overlaps).argmax())
    of_own = np.where(same, overlaps, 0)
    if NEAR <= of_own.max() < ELSEWHERE:
        return "box", int(of_own.argmax())
    return "", -1


def overlooked(labels: Labels, detections: Detections, num_images: int) -> np.ndarray:
    """The surprise that no label, of whatever class, is near a detection, summed over those of each image, (N,) nats.

    The sum, not the largest: where boxes are missing, several detections say so. Shifted boxes leave their objects
    without a label as well.
    """
    labels, detections = without_crowds(labels, detections)
    alone = np.ones(len(detections.boxes), bool)
    alone[overlapping(detections, labels, NEAR)[0]] = False
    return np.bincount(detections.images, alone * surprise(chances_of(labels, detections)), num_images)


def surprise(chances: np.ndarray) -> np.ndarray:
    """-log(1 - p) in nats, for what is at odds with something of such a chance to be right."""
    return -np.log1p(-np.minimum(chances, SUREST))


def label_error_term(
    losses: np.ndarray,
    surprises: np.ndarray,
    counts: np.ndarray | sparse.csr_matrix,
    neighbours: np.ndarray | None = None,
) -> np.ndarray:
    """How likely the labels of each image are wrong: the term of the objective.

    [max(z of the loss, z of what is overlooked) / 1.25 - 1]_+, with z as in `excess`. The loss knows flipped classes and
    some of the shifted boxes, what is overlooked knows missing and shifted ones.

    Args:
        losses, counts: (N,) of the finished detector; (N, K) boxes of each class.
        surprises: (N,) nats, see `overlooked`.
        neighbours: (N, k) places of the nearest, nearest first, -1 for none, for `beyond_neighbours`.

    Returns:
        (N,) u >= 0. On NEU-DET with injected errors it is 0 for nine in ten of the other images.
    """
    losses = np.asarray(losses, float)
    of_loss = excess(losses, counts, _BASE_LOSS * losses.mean())
    if neighbours is not None:
        of_loss = beyond_neighbours(of_loss, neighbours)
    z = np.maximum(of_loss, excess(surprises, counts, _BASE_SURPRISE))
    return np.maximum(z / OUTLIER_Z - 1, 0)


def excess(values: np.ndarray, counts: np.ndarray | sparse.csr_matrix, base: float) -> np.ndarray:
    """How far values are above those of images with as many boxes of each class, in robust standard deviations.

    z of log((value + base) / (expected + base)), centred at its median, over 1.4826 times the median absolute deviation,
    but at least a third: what varies less than that is not compared. What is far below `base` counts as 0.
    """
    values = np.asarray(values, float)
    if not values.any():
        return np.zeros(len(values))
    ratio = np.log((values + base) / (expected_values(values, counts) + base))
    ratio -= np.median(ratio)
    return ratio / max(1.4826 * np.median(np.abs(ratio)), _NARROWEST)


def beyond_neighbours(z: np.ndarray, neighbours: np.ndarray) -> np.ndarray:
    """z (N,) less the median of the ten nearest, where that is above 0: images that are as hard as all like them.

    A veto and not a comparison: an image is not suspicious because those like it are easier than most.
    """
    neighbours = neighbours[:, :_NEAREST]
    near = np.ma.masked_array(z[neighbours], neighbours < 0)
    return z - np.maximum(np.ma.median(near, axis=1).filled(0), 0)
