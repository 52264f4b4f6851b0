"""How doubtful the labels of images are, from what a finished detector sees in them.

All doubt is in one unit, the surprise -log(1 - p) in nats, that labels are at odds with a detection whose chance to be
right is p. Young detectors are sure of nothing, and some classes are harder than others: so p is not the score but the
share of the class's detections with such a score that labels confirm, over the whole set. What a detector sees and no
label has (overlooked), sees elsewhere (badly located) or as something else (swapped) are the three errors of
ObjectLab (Tkachenko, Thyagarajan and Mueller, "ObjectLab: Automated Diagnosis of Mislabeled Images in Object Detection
Data", 2023); that detections which disagree with the labels find disturbed boxes is shown by CLOD (Chachula, Lyskawa,
Olber, Fratczak, Popowicz and Radlak, "Combating Noisy Labels in Object Detection Datasets", 2022).

N images, M labels and D detections of all images, K classes. Boxes are XYXY in pixels of the image; the labels of
images are ragged arrays, those of all images behind each other with the image of each.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch

from .expected_loss import FLOOR, non_negative_fit

SAME = 0.5  # IoU from which two boxes are of one object
ELSEWHERE = 0.35  # below it a detection is not just a rough one of the label it overlaps
NEAR = 0.2  # below it two boxes have nothing to do with each other
TWICE = 0.8  # IoU from which two labels of one class are one
SUREST = 0.98  # a surprise is 3.9 nats at most
KINDS = ("missing", "class", "box", "twice")
_BASE_LOSS, _BASE_SURPRISE = 0.05, 0.3  # of the mean loss; in nats: what is below it does not count
_NEAREST = 10  # neighbours that may spare an image
_NARROWEST = 1 / 3  # deviation: values that all lie within a factor of 1.4 are no evidence


class Labels(NamedTuple):
    """The labels of N images."""

    boxes: np.ndarray  # (M, 4)
    classes: np.ndarray  # (M,) int
    images: np.ndarray  # (M,) int, 0 to N - 1
    crowds: np.ndarray | None = None  # (M,) bool: regions in which nothing is doubted; None for no such


class Detections(NamedTuple):
    """What a detector sees in N images, at a low threshold and after suppression of overlapping boxes."""

    boxes: np.ndarray  # (D, 4)
    scores: np.ndarray  # (D,)
    classes: np.ndarray  # (D,) int
    images: np.ndarray  # (D,) int, 0 to N - 1


class Suspicions(NamedTuple):
    """Boxes that are likely to be wrong, the most doubtful first.

    Of kind "missing" the box is that of the detection, and there is no label. Of all others it is the label's:
    "class", seen as another class; "box", seen elsewhere; "twice", an earlier label of its class has the same place.
    Labels that nothing is detected near are none of them: in a young detector's eyes right ones are so as often.
    """

    images: np.ndarray  # (S,) int
    kinds: np.ndarray  # (S,) str, of KINDS
    boxes: np.ndarray  # (S, 4)
    labels: np.ndarray  # (S,) int, which of the M labels; -1 for none
    classes: np.ndarray  # (S,) int, the label's; -1 for none
    seen: np.ndarray  # (S,) int, the class of the detection; -1 for none
    chances: np.ndarray  # (S,) how likely the detection is right; 0 for none
    doubts: np.ndarray  # (S,) nats


def label_doubt(
    boxes: np.ndarray,
    classes: np.ndarray,
    detected: np.ndarray,
    chances: np.ndarray,
    seen: np.ndarray,
) -> list[tuple[str, int, int, float]]:
    """What a detector has against the labels of one image.

    Every detection that no label of its class confirms speaks for one error at most: it overlaps a label of another
    class ("class"), or a label of its own class just in part ("box"), unless that label is confirmed by a detection at
    least as likely; or it has no label near ("missing"). Of several that see one place the likeliest counts.

    Args:
        boxes, classes: (M, 4), (M,) labels.
        detected, seen: (D, 4), (D,) boxes and classes of detections.
        chances: (D,) how likely each is right, see `chances_of`; or scores, if they mean just that.

    Returns:
        (kind, label or -1, detection, doubt in nats), the most doubtful first.
    """
    overlaps, same = iou(detected, boxes), seen[:, None] == classes
    confirmed = np.where(same & (overlaps >= SAME), chances[:, None], 0.0).max(axis=0, initial=0.0)
    confirms = (same & (overlaps >= SAME)).any(axis=1)
    found: list[tuple[str, int, int, float]] = []
    places: list[int] = []
    for i in np.argsort(-chances, kind="stable"):
        if confirms[i] or (places and iou(detected[i : i + 1], detected[places]).max() >= SAME):
            continue
        kind, label = _error(overlaps[i], same[i])
        if kind is None or (label >= 0 and confirmed[label] >= chances[i]):
            continue
        places.append(i)
        found.append((kind, label, int(i), float(surprise(chances[i]))))
    return found


def _error(overlaps: np.ndarray, same: np.ndarray) -> tuple[str | None, int]:
    """What a detection that no label confirms says against which label, from its overlaps with M and their classes."""
    if not (overlaps >= NEAR).any():
        return "missing", -1
    if (~same & (overlaps >= SAME)).any():
        return "class", int(np.where(same, 0, overlaps).argmax())
    of_own = np.where(same, overlaps, 0)
    if NEAR <= of_own.max() < ELSEWHERE:
        return "box", int(of_own.argmax())
    return None, -1


def suspicious_boxes(labels: Labels, detections: Detections, num_images: int, least: float = 0.1) -> Suspicions:
    """All boxes of N images that `label_doubt` names, and labels that are there twice.

    The surprise at the latter is -log of the share of the class's labels that are such.

    Args:
        least: doubts below it are left out, in nats.

    Raises:
        ValueError: see `check`.
    """
    check(labels, detections, num_images)
    labels, detections, own = _without_crowds(labels, detections, num_images)
    chances = chances_of(labels, detections, num_images)
    rows: list[tuple[int, str, int, int, float]] = []  # image, kind, label, detection, doubt
    twice = np.zeros(len(labels.boxes), bool)
    for image, of_labels, of_detections in _by_image(labels, detections, num_images):
        boxes, classes = labels.boxes[of_labels], labels.classes[of_labels]
        detected, seen = detections.boxes[of_detections], detections.classes[of_detections]
        for kind, label, i, doubt in label_doubt(boxes, classes, detected, chances[of_detections], seen):
            rows.append((image, kind, of_labels[label] if label >= 0 else -1, of_detections[i], doubt))
        one = (iou(boxes, boxes) >= TWICE) & (classes[:, None] == classes)
        twice[of_labels] = np.tril(one, -1).any(axis=1)
    for label, doubt in zip(np.flatnonzero(twice), _surprise_of_share(twice, labels.classes)):
        rows.append((labels.images[label], "twice", label, -1, doubt))
    rows = sorted((row for row in rows if row[-1] >= least), key=lambda row: -row[-1])
    return _table(rows, labels, detections, chances, own)


def _surprise_of_share(which: np.ndarray, classes: np.ndarray) -> np.ndarray:
    """-log of the share of each class's labels that are such, for those of `which`."""
    share = np.bincount(classes[which], minlength=classes.max(initial=-1) + 1) / np.maximum(np.bincount(classes), 1)
    return surprise(1 - share[classes[which]])


def _table(
    rows: list[tuple], labels: Labels, detections: Detections, chances: np.ndarray, own: np.ndarray
) -> Suspicions:
    images, label, detection = (np.array([row[i] for row in rows], int) for i in (0, 2, 3))
    # Behind the last there is one for -1, none.
    boxes = np.where(
        (label >= 0)[:, None], _padded(labels.boxes, 0.0)[label], _padded(detections.boxes, 0.0)[detection]
    )
    return Suspicions(
        images,
        np.array([row[1] for row in rows], "<U7"),
        boxes,
        _padded(own, -1)[label],
        _padded(labels.classes, -1)[label],
        _padded(detections.classes, -1)[detection],
        _padded(chances, 0.0)[detection],
        np.array([row[-1] for row in rows], float),
    )


def _padded(values: np.ndarray, value: float) -> np.ndarray:
    return np.concatenate([values, np.full((1, *values.shape[1:]), value, values.dtype)])


def overlooked(labels: Labels, detections: Detections, num_images: int) -> np.ndarray:
    """The surprise that no label, of whatever class, is near a detection, summed over those of each image.

    The sum, not the largest: where boxes are missing, several detections say so. Shifted boxes leave their objects
    without a label as well.

    Returns:
        (N,) nats.

    Raises:
        ValueError: see `check`.
    """
    check(labels, detections, num_images)
    labels, detections, _ = _without_crowds(labels, detections, num_images)
    alone = np.ones(len(detections.boxes), bool)
    for _, of_labels, of_detections in _by_image(labels, detections, num_images):
        overlaps = iou(detections.boxes[of_detections], labels.boxes[of_labels])
        alone[of_detections] = overlaps.max(axis=1, initial=0) < NEAR
    doubts = alone * surprise(chances_of(labels, detections, num_images))
    return np.bincount(detections.images, doubts, num_images)


def doubt(
    losses: np.ndarray,
    surprises: np.ndarray,
    counts: np.ndarray,
    neighbours: np.ndarray | None = None,
    outlier_z: float = 1.25,
) -> np.ndarray:
    """How doubtful the labels of each image are: the term of an objective.

    [max(z of the loss, z of what is overlooked) / outlier_z - 1]_+, with z as in `excess`: the loss knows flipped
    classes and some of the shifted boxes, what is overlooked knows missing and shifted ones. On NEU-DET with planted
    errors it is 0 for nine in ten of the other images; its median is about 0.4 for flipped classes, 0.3 for missing
    and 0.1 for shifted boxes, and one in seven of these images is above 1.

    Args:
        losses: (N,) training losses by the finished detector.
        surprises: (N,) nats, see `overlooked`.
        counts: (N, K) boxes of each class.
        neighbours: (N, k) the nearest neighbours of each, the nearest first, by which the loss of hard stretches is
            spared (`beyond_neighbours`); None for none, where images are not alike.
        outlier_z: what is not above it does not count.

    Returns:
        (N,) u >= 0.
    """
    losses = np.asarray(losses, float)
    of_loss = excess(losses, counts, _BASE_LOSS * losses.mean())
    if neighbours is not None:
        of_loss = beyond_neighbours(of_loss, neighbours)
    z = np.maximum(of_loss, excess(surprises, counts, _BASE_SURPRISE))
    return np.maximum(z / outlier_z - 1, 0)


def excess(values: np.ndarray, counts: np.ndarray, base: float) -> np.ndarray:
    """How far values are above those of images with as many boxes of each class, in robust standard deviations.

    z of log((value + base) / (expected + base)), centred at its median, over 1.4826 times the median absolute
    deviation, but at least a third: what varies less than that is not compared.

    Args:
        values: (N,), at least 0.
        counts: (N, K) boxes of each class.
        base: what is far below it counts as 0.

    Returns:
        (N,) z.
    """
    values = np.asarray(values, float)
    if not values.any():
        return np.zeros(len(values))
    ratio = np.log((values + base) / (expected_values(values, counts) + base))
    ratio -= np.median(ratio)
    return ratio / max(1.4826 * np.median(np.abs(ratio)), _NARROWEST)


def beyond_neighbours(z: np.ndarray, neighbours: np.ndarray) -> np.ndarray:
    """z less the median of the ten nearest, where that is above 0: images that are hard as all their neighbours are.

    A veto and not a comparison: an image is not doubtful because its neighbours are easier than most.

    Args:
        z: (N,).
        neighbours: (N, k) the nearest neighbours of each, the nearest first, -1 for none; those after the tenth are not
            looked at.
    """
    neighbours = neighbours[:, :_NEAREST]
    near = np.ma.masked_array(z[neighbours], neighbours < 0)
    return z - np.maximum(np.ma.median(near, axis=1).filled(0), 0)


def expected_values(values: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """a + sum_k b_k counts_k, the least squares fit with no coefficient below 0; (N,), see `ExpectedLoss`."""
    design = np.concatenate([np.ones((len(values), 1)), counts], axis=1)
    rows = np.concatenate([design, values[:, None]], axis=1)
    fit = non_negative_fit(torch.from_numpy(rows.T @ rows)).numpy()
    return np.maximum(design @ fit, FLOOR * values.mean())


def chances_of(labels: Labels, detections: Detections, num_images: int) -> np.ndarray:
    """How likely each detection is right: the share that labels confirm of its class's with such a score.

    The share never falls as scores rise (isotonic regression).

    Returns:
        (D,) in [0, 1].
    """
    from sklearn.isotonic import isotonic_regression  # here, as few need it

    confirmed = confirmed_ones(labels, detections, num_images)
    chances = np.zeros(len(confirmed))
    for cls in np.unique(detections.classes):
        own = np.flatnonzero(detections.classes == cls)
        own = own[np.argsort(detections.scores[own], kind="stable")]
        scores, where = np.unique(detections.scores[own], return_inverse=True)
        weights = np.bincount(where)
        chances[own] = isotonic_regression(np.bincount(where, confirmed[own]) / weights, sample_weight=weights)[where]
    return chances


def confirmed_ones(labels: Labels, detections: Detections, num_images: int) -> np.ndarray:
    """Which detections find a label. By falling score, each finds that of its class which it overlaps most.

    Returns:
        (D,) bool; each label is found once at most.
    """
    confirmed = np.zeros(len(detections.boxes), bool)
    for _, of_labels, of_detections in _by_image(labels, detections, num_images):
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


def surprise(chances: np.ndarray) -> np.ndarray:
    """-log(1 - p) in nats, for what is at odds with something of such a chance to be right."""
    return -np.log1p(-np.minimum(chances, SUREST))


def iou(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Intersection over union of (A, 4) and (B, 4) boxes, (A, B); 0 for boxes without area."""
    shared, areas = _shared(first, second), _areas(first)[:, None] + _areas(second)
    union = areas - shared
    return np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)


def _shared(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    low = np.maximum(first[:, None, :2], second[:, :2])
    high = np.minimum(first[:, None, 2:], second[:, 2:])
    return np.maximum(high - low, 0).astype(float).prod(axis=-1)


def _areas(boxes: np.ndarray) -> np.ndarray:
    return (boxes[:, 2:] - boxes[:, :2]).astype(float).prod(axis=1)


def check(labels: Labels, detections: Detections, num_images: int) -> None:
    """
    Raises:
        ValueError: arrays that do not fit together, or images that are none of the N.
    """
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


def _without_crowds(labels: Labels, detections: Detections, num_images: int) -> tuple[Labels, Detections, np.ndarray]:
    """Single objects, and detections that do not lie in a crowd by half; and which of the M labels are left."""
    crowds = np.zeros(len(labels.boxes), bool) if labels.crowds is None else labels.crowds.astype(bool)
    inside = np.zeros(len(detections.boxes), bool)
    regions = Labels(*(values[crowds] for values in labels[:3]))
    for _, of_regions, of_detections in _by_image(regions, detections, num_images):
        boxes = detections.boxes[of_detections]
        shared = _shared(boxes, regions.boxes[of_regions]).max(axis=1, initial=0)
        inside[of_detections] = shared > _areas(boxes) / 2
    return (
        Labels(*(values[~crowds] for values in labels[:3])),
        Detections(*(values[~inside] for values in detections)),
        np.flatnonzero(~crowds),
    )


def _by_image(labels: Labels, detections: Detections, num_images: int) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
    """The image, and which labels and detections are its own; for images that have any."""
    of_labels, of_detections = (_places(values.images, num_images) for values in (labels, detections))
    for image in range(num_images):
        if len(of_labels[image]) or len(of_detections[image]):
            yield image, of_labels[image], of_detections[image]


def _places(images: np.ndarray, num_images: int) -> list[np.ndarray]:
    order = np.argsort(images, kind="stable")
    return np.split(order, np.searchsorted(images[order], np.arange(1, num_images)))
