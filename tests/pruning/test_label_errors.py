"""Cases worked by hand, one error on one image each, and the term of the objective on made-up sets."""

import math

import numpy as np
import pytest

from adapruner_det.pruning.label_errors import (
    SUREST,
    beyond_neighbours,
    disagreements,
    excess,
    label_error_term,
    overlooked,
    surprise,
    suspicious_boxes,
)
from adapruner_det.pruning.matching import Detections, Labels, chances_of, iou

A, B = [0, 0, 10, 10], [20, 20, 40, 30]
PART = [0, 7, 10, 10]  # 0.3 of A
ROUGH = [0, 6, 10, 10]  # 0.4 of A
CAT, DOG = 0, 1


def boxes(rows):
    return np.array([row[-1] for row in rows], float).reshape(-1, 4)


def column(rows, place, kind=int):
    return np.array([row[place] for row in rows], kind)


def labels(*rows, crowds=None):
    """(image, class, box)"""
    return Labels(boxes(rows), column(rows, 1), column(rows, 0), None if crowds is None else np.array(crowds))


def detections(*rows):
    """(image, class, score, box)"""
    return Detections(boxes(rows), column(rows, 2, float), column(rows, 1), column(rows, 0))


# Of one image: labels (class, box), detections (class, chance, box), what is to be found
ONE_ERROR = {
    "right": ([(CAT, A)], [(CAT, 0.9, A)], []),
    "rough": ([(CAT, A)], [(CAT, 0.9, ROUGH)], []),
    "missing": ([(CAT, A)], [(CAT, 0.9, A), (DOG, 0.6, B)], [("missing", -1, 1)]),
    "flipped": ([(CAT, A), (CAT, B)], [(DOG, 0.8, B)], [("class", 1, 0)]),
    "flipped, but seen as labelled as well": ([(CAT, A)], [(DOG, 0.8, A), (CAT, 0.8, A)], []),
    "flipped, hardly seen as labelled": ([(CAT, A)], [(DOG, 0.8, A), (CAT, 0.1, A)], [("class", 0, 0)]),
    "seen elsewhere": ([(CAT, A)], [(CAT, 0.7, PART)], [("box", 0, 0)]),
    "seen elsewhere, but in place as well": ([(CAT, A)], [(CAT, 0.7, PART), (CAT, 0.8, A)], []),
    "part of something else": ([(DOG, A)], [(CAT, 0.7, PART)], []),
    "nothing finds it": ([(CAT, A)], [], []),
    "no labels": ([], [(CAT, 0.7, A)], [("missing", -1, 0)]),
    "nothing at all": ([], [], []),
    "seen twice in one place": ([], [(CAT, 0.3, A), (DOG, 0.7, A)], [("missing", -1, 1)]),
    "the likeliest first": ([(CAT, A)], [(DOG, 0.2, A), (DOG, 0.5, B)], [("missing", -1, 1), ("class", 0, 0)]),
}


@pytest.mark.parametrize("name", ONE_ERROR)
def test_one_error(name):
    own, found, expected = ONE_ERROR[name]
    seen, chances = column(found, 0), column(found, 1, float)
    assert disagreements(boxes(own), column(own, 0), boxes(found), seen, chances) == expected


def test_surprise_in_nats_has_an_end():
    assert surprise(np.array([0, 0.6, 1.0])) == pytest.approx([0, -math.log(0.4), -math.log(1 - SUREST)])


def test_chances_are_the_shares_of_a_class_and_score_that_labels_confirm():
    truth = labels((0, CAT, A), (1, CAT, A), (2, CAT, A), (0, DOG, B))
    found = detections(
        (0, CAT, 0.9, A), (1, CAT, 0.8, B), (2, CAT, 0.7, A), (1, CAT, 0.1, B),
        (0, DOG, 0.05, B), (0, DOG, 0.04, B),  # the second finds nothing that is not found
    )  # fmt: skip
    np.testing.assert_allclose(chances_of(truth, found), [1, 0.5, 0.5, 0, 1, 0])
    found = detections(*((i, CAT, 0.5, A) for i in range(4)))  # equal scores
    np.testing.assert_allclose(chances_of(labels((0, CAT, A)), found), 0.25)


def test_suspicious_boxes_of_all_kinds():
    """Of ten cats seen at 0.9 eight are labelled so; a ninth is labelled a dog and a tenth not at all."""
    truth = labels(*((i, CAT, A) for i in range(8)), (8, DOG, A), (9, DOG, B), (9, DOG, B))
    found = detections(*((i, CAT, 0.9, A) for i in range(10)))
    rows = [(one.image, one.kind, one.box.tolist(), *one[3:]) for one in suspicious_boxes(truth, found)]
    nats = pytest.approx(math.log(5))
    assert rows == [
        (8, "class", A, DOG, CAT, nats),
        (9, "missing", A, -1, CAT, nats),
        (9, "twice", B, DOG, -1, pytest.approx(math.log(3))),
    ]
    np.testing.assert_allclose(overlooked(truth, found, 11), [0] * 9 + [math.log(5), 0])


def test_what_is_hardly_suspicious_is_not_told():
    found = detections((0, CAT, 0.9, A), (1, CAT, 0.9, A))  # right with a chance of a half: 0.7 nats
    assert suspicious_boxes(labels((0, CAT, A)), found) == []


def test_overlooked_adds_up():
    truth = labels((0, CAT, A), (1, DOG, B))
    found = detections((0, CAT, 0.9, A), (1, CAT, 0.9, A), (1, CAT, 0.9, [50, 50, 60, 60]))
    np.testing.assert_allclose(overlooked(truth, found, 2), [0, 2 * math.log(1.5)])


def test_in_crowds_nothing_is_suspicious_or_missing():
    many = [(i, CAT, A) for i in range(4)]
    truth = labels(*many, (4, CAT, [0, 0, 50, 50]), crowds=[False] * 4 + [True])
    seen = [(i, CAT, 0.9, A) for i in range(4)]
    partly = [45, 0, 65, 10]  # in the crowd by a quarter
    found = detections(*seen, (4, CAT, 0.9, B), (4, CAT, 0.9, partly))
    assert [one.box.tolist() for one in suspicious_boxes(truth, found)] == [partly]
    np.testing.assert_allclose(overlooked(truth, found, 5), [0, 0, 0, 0, math.log(5)])


def test_without_labels_or_detections():
    for truth in (labels(), labels((1, CAT, A))):
        assert overlooked(truth, detections(), 3).tolist() == [0, 0, 0]
        assert suspicious_boxes(truth, detections()) == []
    assert overlooked(labels(), detections((1, CAT, 0.9, A)), 3).tolist() == [0, 0, 0]  # a chance of none


def test_iou():
    np.testing.assert_allclose(iou(np.array([A, PART]), np.array([A, B])), [[1, 0], [0.3, 0]])
    assert iou(np.zeros((1, 4)), np.zeros((1, 4))).tolist() == [[0]]


def made_up(num=400):
    """Losses and surprises that go with the number of boxes, by chance a third more or less."""
    rng = np.random.default_rng(0)
    counts = rng.integers(0, 4, (num, 2))
    size = 1 + counts @ [1.0, 3.0]
    return size * np.exp(0.3 * rng.normal(size=num)), 0.1 * size * np.exp(0.3 * rng.normal(size=num)), counts


def test_the_term_is_for_what_stands_out_in_either():
    losses, surprises, counts = made_up()
    losses[3] *= 6
    surprises[7] += 4
    u = label_error_term(losses, surprises, counts)
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
    values = np.where(np.arange(50) == 0, 0.1, 0.02)
    assert excess(values, np.ones((50, 1)), 0.3).max() < 1
    assert excess(np.zeros(50), np.ones((50, 1)), 0.3).tolist() == [0] * 50


def test_what_is_as_hard_as_its_neighbours_is_spared_and_easy_ones_are_not_helped():
    z = np.array([3.0, 3.0, 2.0, 0.5, -2.0, -2.0, -2.0, 4.0])
    near = [[1, 2, 1], [0, 2, 0], [0, 1, 0], [4, 5, 6], [5, 6, 3], [4, 6, 3], [4, 5, 3], [-1, -1, -1]]
    np.testing.assert_allclose(beyond_neighbours(z, np.array(near)), [0, 0, -1, 0.5, -2, -2, -2, 4])


def test_hard_stretches_are_suspicious_by_what_is_overlooked_alone():
    losses, surprises, counts = made_up()
    losses[:12] *= 6
    surprises[0] += 4
    near = np.random.default_rng(1).integers(12, 400, (400, 10))
    near[:12] = [[j for j in range(12) if j != i][:10] for i in range(12)]
    assert (label_error_term(losses, surprises, counts)[:12] > 1).all()
    u = label_error_term(losses, surprises, counts, near)
    assert u[0] > 1 and (u[1:12] < 0.8).all()
