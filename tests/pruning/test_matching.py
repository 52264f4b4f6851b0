import numpy as np
import pytest

from adapruner_det.pruning import matching
from adapruner_det.pruning.matching import (
    SAME,
    Detections,
    Labels,
    agreement,
    confirmed_ones,
    iou,
    overlapping,
    without_crowds,
)


def made_up(seed, kind=float):
    """Labels and detections of up to eight images on top of each other, some without area, many with the same score."""
    random = np.random.default_rng(seed)
    num_images, num_labels, num_detections = random.integers(1, 9), *random.integers(0, 40, 2)

    def boxes(number):
        corners = random.integers(0, 20, (number, 2))
        return np.concatenate([corners, corners + random.integers(0, 15, (number, 2))], axis=1).astype(kind)

    def drawn(number):
        return random.integers(3, size=number), random.integers(num_images, size=number)

    labels = Labels(boxes(num_labels), *drawn(num_labels), random.random(num_labels) < 0.1)
    scores = random.choice([0.1, 0.5, 0.9], num_detections)
    return labels, Detections(boxes(num_detections), scores, *drawn(num_detections))


@pytest.fixture(params=[7, matching._PAIRS])
def pairs(request, monkeypatch):
    """Some few or millions are compared at a time."""
    monkeypatch.setattr(matching, "_PAIRS", request.param)


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.usefixtures("pairs")
def test_every_two_boxes_of_an_image_are_compared_as_one_by_one(seed):
    labels, detections = made_up(seed)
    expected = [
        (i, j, float(iou(detections.boxes[i : i + 1], labels.boxes[j : j + 1])[0, 0]))
        for i in range(len(detections.boxes))
        for j in range(len(labels.boxes))
        if detections.images[i] == labels.images[j]
    ]
    found = zip(*(own.tolist() for own in overlapping(detections, labels, 0.3)))
    assert list(found) == [one for one in expected if one[2] >= 0.3]


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.usefixtures("pairs")
def test_each_detection_finds_the_label_that_is_left_and_nearest(seed):
    labels, detections = made_up(seed, np.float32)
    taken, expected = set(), np.zeros(len(detections.boxes), bool)
    best = np.zeros(len(labels.boxes), np.float32)
    for i in np.argsort(-detections.scores, kind="stable"):
        own = (labels.images == detections.images[i]) & (labels.classes == detections.classes[i])
        overlaps = np.where(own, iou(detections.boxes[i : i + 1], labels.boxes)[0], 0)
        best = np.maximum(best, (overlaps * detections.scores[i]).astype(np.float32))
        overlaps[list(taken)] = 0
        if overlaps.max(initial=0) >= SAME:
            expected[i] = True
            taken.add(int(overlaps.argmax()))
    assert confirmed_ones(labels, detections).tolist() == expected.tolist()
    assert agreement(labels, detections).tolist() == best.tolist()


@pytest.mark.usefixtures("pairs")
def test_what_lies_in_a_crowd_by_half_is_left_out():
    crowd = Labels(
        np.array([[0, 0, 10, 10], [0, 0, 4, 4], [0, 0, 99, 99]], float), np.zeros(3, int), np.array([0, 0, 1]), np.array([True, False, True])
    )  # fmt: skip
    boxes = np.array([[5, 0, 15, 10], [4.9, 0, 14.9, 10], [0, 0, 1, 1], [200, 0, 201, 1], [0, 0, 1, 1]])
    detections = Detections(boxes, np.ones(5), np.zeros(5, int), np.array([0, 0, 2, 1, 1]))
    objects, outside = without_crowds(crowd, detections)
    assert objects.boxes.tolist() == [[0, 0, 4, 4]]
    assert outside.boxes.tolist() == boxes[[0, 2, 3]].tolist() and outside.images.tolist() == [0, 2, 1]
