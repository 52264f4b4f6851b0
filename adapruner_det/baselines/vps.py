"""VPS: boxes that a detector finds now well, now badly while it trains.

Yagi, "Extending Dataset Pruning to Object Detection: A Variance-based Approach" (2025), the Variance-based Prediction
Score. Each labelled box is given the prediction that fits it best; its score is the variance over epochs of IoU x
confidence of that, and the boxes of an image make up its score.

Left open in what could be read of it, or otherwise here: only predictions of the box's class count, an image has the sum
over its boxes, and SCORING.SNAPSHOTS measurements take the place of epochs. A classification image is one box with IoU 1,
whose confidence is exp(-loss).
"""

import numpy as np

from ..pruning.statistics import Statistics


def vps(statistics: Statistics, keep_ratio: float, seed: int) -> np.ndarray:
    """Keeps the images whose boxes the proxy found now well, now badly.

    Raises:
        ValueError: the proxy is of a version that did not measure boxes, or measured them once.
    """
    dynamics, labels = statistics.dynamics, statistics.labels
    confidence = np.exp(-dynamics.losses) if statistics.classifies else dynamics.agreement
    if len(confidence) == 0:
        raise ValueError("vps needs a proxy that measured its boxes, which former versions did not: train it anew")
    if len(confidence) < 2:
        raise ValueError(
            "vps needs two measurements or more: raise SCORING.SNAPSHOTS (classification: SOLVER.MAX_ITER)"
        )
    varied = np.nanvar(confidence, axis=0, dtype=np.float64)
    single = np.ones(len(varied), bool) if labels.crowds is None else ~labels.crowds
    return np.bincount(labels.images, varied * single, len(statistics))
