import numpy as np
import pytest
from made_up import statistics

from adapruner_det.baselines.afss import afss, sufficiency
from adapruner_det.pruning.matching import Detections, Labels

A, B = (0, 0, 10, 10), (20, 20, 30, 30)


@pytest.mark.parametrize(
    "labels, found, expected",
    [
        ([A], [(A, 0.9)], 1),
        ([A, B], [(A, 0.9)], 1 / 2),  # recall
        ([A], [(A, 0.9), (B, 0.8)], 1 / 2),  # precision
        ([A], [(A, 0.1)], 0),  # too faint to count
        ([A], [(A, 0.9), (A, 0.8), (B, 0.1)], 1 / 2),  # found twice
        ([], [], 1),
        ([], [(A, 0.9)], 0),
    ],
)
def test_the_lower_of_recall_and_precision(labels, found, expected):
    """Of the first of two images; in the second, nothing is found of a box."""
    boxes, n = np.array([*labels, A], float), len(found)
    own = Labels(boxes, np.zeros(len(boxes), int), np.array([0] * len(labels) + [1]))
    seen = Detections(
        np.array([f[0] for f in found], float).reshape(-1, 4), np.array([f[1] for f in found], float),
        np.zeros(n, int), np.zeros(n, int),
    )  # fmt: skip
    given = statistics(2, labels=own, found=seen)
    np.testing.assert_allclose(sufficiency(given), [expected, 0])
    assert expected == 0 or np.argmax(afss(given, 0.5, 0)) == 1
