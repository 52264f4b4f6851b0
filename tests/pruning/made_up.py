"""Statistics of made-up images."""

import numpy as np

from adapruner_det.pruning.matching import Detections, Labels
from adapruner_det.pruning.statistics import Statistics


def statistics(num=40, seed=0, **given) -> Statistics:
    """Images of two classes with one box each, which the model finds; `given` takes the place of what is drawn."""
    random = np.random.default_rng(seed)
    classes = given.pop("classes", np.arange(num) % 2)
    boxes = random.uniform(0, 50, (num, 2)).repeat(2, 1)[:, [0, 2, 1, 3]] + np.array([0, 0, 20, 20])
    known = {
        "datasets": ["data"] * num,
        "ids": [f"{i:03}" for i in range(num)],
        "losses": {"loss": random.uniform(0.9, 1.1, num).astype(np.float32)},
        "features": random.normal(size=(num, 4)).astype(np.float32),
        "labels": Labels(boxes, classes, np.arange(num), np.zeros(num, bool)),
        "found": Detections(boxes, np.full(num, 0.9), classes, np.arange(num)),
        "class_names": ["cat", "dog"],
    }
    return Statistics(**{**known, **given})
