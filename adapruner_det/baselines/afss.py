"""AFSS: images of which a detector has not learned all, by the lower of recall and precision.

Xie, Dong, Han and Cheng, "Does YOLO Really Need to See Every Training Image in Every Epoch?" (2026), the Anti-Forgetting
Sampling Strategy. Learning sufficiency of an image is min(recall, precision); while training goes on, sufficient images
are seen rarely, those in between in part, the others in every epoch.

Made a list here: the least sufficient by the finished model stay, the seed decides between equal ones. Detections count
from a score of 0.2 and find a box from an IoU of 0.5. Caveat: wrong labels are never learned, so they stay.
"""

import numpy as np

from ..pruning.matching import Detections, confirmed_ones, without_crowds
from ..pruning.statistics import Statistics

SCORE = 0.2


def afss(statistics: Statistics, keep_ratio: float, seed: int) -> np.ndarray:
    """Keeps the images with the lowest min(recall, precision) of the finished model."""
    draw = np.random.default_rng(seed).random(len(statistics))
    return 1e-6 * draw - sufficiency(statistics)


def sufficiency(statistics: Statistics) -> np.ndarray:
    """min(recall, precision) of each image, (N,) float64; an image without boxes has 1 if nothing is found, else 0."""
    num = len(statistics)
    labels, found = without_crowds(statistics.labels, statistics.found)
    found = Detections(*(values[found.scores > SCORE] for values in found))
    hits, seen, boxes = (
        np.bincount(images, minlength=num)
        for images in (found.images[confirmed_ones(labels, found)], found.images, labels.images)
    )
    # No fewer than the larger of the two were found or labelled, so this is the lower of hits / boxes and hits / seen.
    either = np.maximum(seen, boxes)
    return np.where(either > 0, hits / np.maximum(either, 1), 1.0)
