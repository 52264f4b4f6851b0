"""Cases worked by hand, one error on one image each, and the terms of an objective on made-up sets."""

import math

import numpy as np
import pytest

from adapruner_det.pruning.label_errors import (
    SUREST,
    Detections,
    Labels,
    beyond_neighbours,
    chances_of,
    doubt,
    excess,
    iou,
    label_doubt,
    overlooked,
    suspicious_boxes,
)

A, B = [0, 0, 10, 10], [20, 20, 40, 30]
PART = [0, 7, 10, 10]  # 0.3 of A
ROUGH = [0, 6, 10, 10]  # 0.4 of A
CAT, DOG = 0, 1


def labels(*rows, crowds=None):
    """(image, class, box)"""
    boxes = np.array([row[2] for row in rows], float).reshape(-1, 4)
    classes, images = (np.array([row[i] for row in rows], int) for i in (1, 0))
    return Labels(boxes, classes, images, None if crowds is None else np.array(crowds))


def detections(*rows):
    """(image, class, score, box)"""
    boxes = np.array([row[3] for row in rows], np.float32).reshape(-1, 4)
    scores = np.array([row[2] for row in rows], np.float32)
    classes, images = (np.array([row[i] for row in rows], int) for i in (1, 0))
    return Detections(boxes, scores, classes, images)


def doubts_of(own_labels, found):
    """Of one image, from (class, box) and (class, chance, box)."""
    boxes = np.array([box for _, box in own_labels], float).reshape(-1, 4)
    detected = np.array([box for _, _, box in found], float).reshape(-1, 4)
    classes, seen = (np.array([row[0] for row in rows], int) for rows in (own_labels, found))
    return label_doubt(boxes, classes, detected, np.array([row[1] for row in found], float), seen)


def nats(chance):
    return pytest.approx(-math.log(1 - chance))


# One image

ONE_ERROR = {
    "right": ([(CAT, A)], [(CAT, 0.9, A)], []),
    "rough": ([(CAT, A)], [(CAT, 0.9, ROUGH)], []),
    "missing": ([(CAT, A)], [(CAT, 0.9, A), (DOG, 0.6, B)], [("missing", -1, 1, nats(0.6))]),
    "flipped": ([(CAT, A), (CAT, B)], [(DOG, 0.8, B)], [("class", 1, 0, nats(0.8))]),
    "flipped, but seen as labelled as well": ([(CAT, A)], [(DOG, 0.8, A), (CAT, 0.8, A)], []),
    "flipped, hardly seen as labelled": ([(CAT, A)], [(DOG, 0.8, A), (CAT, 0.1, A)], [("class", 0, 0, nats(0.8))]),
    "seen elsewhere": ([(CAT, A)], [(CAT, 0.7, PART)], [("box", 0, 0, nats(0.7))]),
    "seen elsewhere, but in place as well": ([(CAT, A)], [(CAT, 0.7, PART), (CAT, 0.8, A)], []),
    "part of something else": ([(DOG, A)], [(CAT, 0.7, PART)], []),
    "nothing finds it": ([(CAT, A)], [], []),
    "no labels": ([], [(CAT, 0.7, A)], [("missing", -1, 0, nats(0.7))]),
    "nothing at all": ([], [], []),
    "seen twice in one place": ([], [(CAT, 0.3, A), (DOG, 0.7, A)], [("missing", -1, 1, nats(0.7))]),
    "sure": ([], [(CAT, 1.0, A)], [("missing", -1, 0, nats(SUREST))]),
    "by doubt": (
        [(CAT, A)],
        [(DOG, 0.2, A), (DOG, 0.5, B)],
        [("missing", -1, 1, nats(0.5)), ("class", 0, 0, nats(0.2))],
    ),
}


@pytest.mark.parametrize("name", ONE_ERROR)
def test_one_error(name):
    own_labels, found, expected = ONE_ERROR[name]
    assert doubts_of(own_labels, found) == expected


# A set of images


def test_chances_are_the_shares_of_a_class_and_score_that_labels_confirm():
    truth = labels((0, CAT, A), (1, CAT, A), (2, CAT, A), (0, DOG, B))
    found = detections(
        (0, CAT, 0.9, A), (1, CAT, 0.8, B), (2, CAT, 0.7, A), (1, CAT, 0.1, B),
        (0, DOG, 0.05, B), (0, DOG, 0.04, B),  # the second finds nothing that is not found
    )  # fmt: skip
    np.testing.assert_allclose(chances_of(truth, found, 3), [1, 0.5, 0.5, 0, 1, 0])


def test_equal_scores_have_equal_chances():
    truth = labels((0, CAT, A))
    found = detections((0, CAT, 0.5, A), (1, CAT, 0.5, A), (2, CAT, 0.5, A), (3, CAT, 0.5, A))
    np.testing.assert_allclose(chances_of(truth, found, 4), 0.25)


def test_suspicious_boxes_of_all_kinds():
    """Of ten cats seen at 0.9 eight are labelled so; a ninth is labelled a dog and a tenth not at all."""
    truth = labels(*((i, CAT, A) for i in range(8)), (8, DOG, A), (9, DOG, B), (9, DOG, B))
    found = detections(*((i, CAT, 0.9, A) for i in range(10)))
    table = suspicious_boxes(truth, found, 11)
    rows = list(zip(*(values.tolist() for values in table)))
    assert [row[:2] for row in rows] == [(8, "class"), (9, "missing"), (9, "twice")]
    assert rows[0] == (8, "class", A, 8, DOG, CAT, pytest.approx(0.8), nats(0.8))
    assert rows[1] == (9, "missing", A, -1, -1, CAT, pytest.approx(0.8), nats(0.8))
    assert rows[2] == (9, "twice", B, 10, DOG, -1, 0, pytest.approx(math.log(3)))
    np.testing.assert_allclose(overlooked(truth, found, 11), [0] * 9 + [math.log(5), 0])


def test_overlooked_adds_up():
    truth = labels((0, CAT, A), (1, DOG, B))
    found = detections((0, CAT, 0.9, A), (1, CAT, 0.9, A), (1, CAT, 0.9, [50, 50, 60, 60]))
    np.testing.assert_allclose(overlooked(truth, found, 2), [0, 2 * math.log(1.5)])


def test_crowds_are_neither_doubted_nor_missing():
    truth = labels((0, CAT, A), (1, CAT, [0, 0, 50, 50]), crowds=[False, True])
    found = detections((0, CAT, 0.9, A), (1, CAT, 0.9, B), (1, CAT, 0.9, [45, 0, 65, 10]))
    table = suspicious_boxes(truth, found, 2)  # the last lies in the crowd by a quarter
    assert table.boxes.tolist() == [[45, 0, 65, 10]] and table.chances.tolist() == [0.5]
    truth = labels((0, CAT, B), (0, DOG, A), (1, CAT, A), crowds=[True, False, False])
    table = suspicious_boxes(truth, detections((0, CAT, 0.9, A), (1, CAT, 0.9, A)), 2)
    assert table.labels.tolist() == [1]  # counted among all three


def test_faint_doubts_are_left_out():
    truth = labels((0, CAT, A))
    found = detections((0, CAT, 0.9, A), (1, CAT, 0.9, A), (1, CAT, 0.1, B))
    assert suspicious_boxes(truth, found, 2).doubts.tolist() == [nats(0.5)]
    assert suspicious_boxes(truth, found, 2, 0.0).doubts.tolist() == [nats(0.5), 0]
    assert len(suspicious_boxes(truth, found, 2, 0.8).doubts) == 0


def test_without_labels_or_detections():
    for truth in (labels(), labels((1, CAT, A))):
        for look in (overlooked,):
            assert look(truth, detections(), 3).shape == (3,)
        assert overlooked(truth, detections(), 3).tolist() == [0, 0, 0]
        assert len(suspicious_boxes(truth, detections(), 3).images) == 0
    assert overlooked(labels(), detections((1, CAT, 0.9, A)), 3).tolist() == [0, 0, 0]  # a chance of none


def test_what_does_not_fit_together_is_named():
    with pytest.raises(ValueError, match="labels need as many boxes"):
        overlooked(labels((0, CAT, A))._replace(classes=np.zeros(2, int)), detections(), 1)
    with pytest.raises(ValueError, match="detections are of the images 3 to 3, but there are 3"):
        suspicious_boxes(labels(), detections((3, CAT, 0.9, A)), 3)


def test_iou():
    np.testing.assert_allclose(iou(np.array([A, PART]), np.array([A, B])), [[1, 0], [0.3, 0]])
    assert iou(np.zeros((1, 4)), np.zeros((1, 4))).tolist() == [[0]]


# The term of an objective


def made_up(num=400, seed=0):
    """Losses and surprises that go with the number of boxes, by chance a third more or less."""
    rng = np.random.default_rng(seed)
    counts = rng.integers(0, 4, (num, 2))
    size = 1 + counts @ [1.0, 3.0]
    return size * np.exp(0.3 * rng.normal(size=num)), 0.1 * size * np.exp(0.3 * rng.normal(size=num)), counts


def test_doubt_is_for_what_stands_out_in_either():
    losses, surprises, counts = made_up()
    losses[3] *= 6
    surprises[7] += 4
    u = doubt(losses, surprises, counts)
    assert u[3] > 1 and u[7] > 1 and (u >= 0).all()
    assert (u == 0).mean() > 0.8 and set(np.argsort(u)[-2:]) == {3, 7}


def test_excess_is_centred_in_robust_deviations():
    losses, _, counts = made_up()
    z = excess(losses, counts, 0.0)
    assert np.median(z) == pytest.approx(0, abs=1e-12)
    assert abs(np.corrcoef(z, counts.sum(axis=1))[0, 1]) < 0.1
    log = np.log(losses / (1 + counts @ [1.0, 3.0]))
    np.testing.assert_allclose(z, (log - np.median(log)) * 3, atol=0.35)  # a deviation of 0.3 counts as a third


def test_excess_of_what_hardly_varies_is_small():
    counts = np.ones((50, 1))
    values = np.full(50, 0.02)
    values[0] = 0.1
    assert excess(values, counts, 0.3).max() < 1
    assert excess(np.zeros(50), counts, 0.3).tolist() == [0] * 50


def test_what_is_as_hard_as_its_likes_is_spared_and_easy_ones_are_not_helped():
    z = np.array([3.0, 3.0, 2.0, 0.5, -2.0, -2.0, -2.0])
    neighbours = np.array([[1, 2, 1], [0, 2, 0], [0, 1, 0], [4, 5, 6], [5, 6, 3], [4, 6, 3], [4, 5, 3]])
    np.testing.assert_allclose(beyond_neighbours(z, neighbours), [0, 0, -1, 0.5, -2, -2, -2])


def test_hard_stretches_are_doubted_by_what_is_overlooked_alone():
    losses, surprises, counts = made_up()
    losses[:12] *= 6
    surprises[0] += 4
    neighbours = np.random.default_rng(1).integers(12, 400, (400, 10))
    neighbours[:12] = [[j for j in range(12) if j != i][:10] for i in range(12)]
    assert (doubt(losses, surprises, counts)[:12] > 1).all()
    u = doubt(losses, surprises, counts, neighbours)
    assert u[0] > 1 and (u[1:12] < 0.8).all()
