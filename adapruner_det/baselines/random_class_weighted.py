"""Random, weighted by class: what drawing more of the rare classes is worth without looking at any image.

AdaPruner's default for detection draws between images that nothing speaks against, and weights the draw. This
control is that draw alone, so that what AdaPruner gains beyond it comes from what it has learned.
"""

import numpy as np

from ..pruning.class_balance import class_weights, image_key, weighted_draw
from .evidence import Evidence


def random_class_weighted(evidence: Evidence, keep_ratio: float, seed: int) -> np.ndarray:
    """Places in a draw weighted by how rare an image's rarest class is, (N,) float64, higher: keep.

    The same seed gives the draw of a pruning run with that SEED and ADAPRUNER.CLASS_BALANCE 1, its default for
    detection.
    """
    names = [image_key(record["dataset_name"], record["image_id"]) for record in evidence.records]
    return weighted_draw(names, seed, class_weights(evidence.objects().sum(axis=2), power=1))
