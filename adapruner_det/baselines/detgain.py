"""DetGain: images that a finished detector gains AP by.

Sun, Yoshimura, Otsuka, Irie and Ohashi, "Online Data Curation for Object Detection via Marginal Contributions to
Dataset-level Average Precision" (2025). To each image belongs the change of the AP over all images by its detections, to
first order; images are chosen by how much larger it is for a teacher than for the student.

Of a class with G boxes and its detections by falling score, T_r right and F_r wrong ones of the first r,
AP = 1/G sum over right ones of T_r / r. To first order a right detection at r adds

    T_r / r + sum over right ones s behind it of F_s / s^2,   a wrong one takes   sum over right ones s behind it of T_s / s^2.

The AP is the mean over IoU 0.50, 0.55, ... 0.95, at each of which a detection is right or wrong.

Otherwise here: the finished model is the teacher, once, and the student has not seen anything yet, so that its part is 0.
The paper takes the distribution of the scores in place of these sums. Images without boxes can only lose.
"""

import numpy as np

from ..pruning.matching import confirmed_ones, without_crowds
from ..pruning.statistics import Statistics

IOUS = np.arange(10, 20) / 20


def detgain(statistics: Statistics, keep_ratio: float, seed: int) -> np.ndarray:
    """Keeps the images whose detections by the finished model add most to its AP."""
    labels, found = without_crowds(statistics.labels, statistics.found)
    at_each = [confirmed_ones(labels, found, least) for least in IOUS]
    gains = np.zeros(len(found.scores))
    for c in np.unique(labels.classes):
        own = np.flatnonzero(found.classes == c)
        own = own[np.argsort(-found.scores[own], kind="stable")]
        boxes = int(np.count_nonzero(labels.classes == c))
        gains[own] = np.mean([marginal_ap(right[own], boxes) for right in at_each], axis=0)
    return np.bincount(found.images, gains, len(statistics)) / len(np.unique(labels.classes))


def marginal_ap(right: np.ndarray, num_boxes: int) -> np.ndarray:
    """What each detection of a class adds to its AP, (D,), to first order; `right` (D,) bool by falling score."""
    rank, hits = np.arange(1, len(right) + 1), np.cumsum(right)

    def behind(values: np.ndarray) -> np.ndarray:
        terms = np.where(right, values / rank**2, 0)
        return terms[::-1].cumsum()[::-1] - terms

    return np.where(right, hits / rank + behind(rank - hits), -behind(hits)) / num_boxes
