"""Random, weighted by class: what drawing more of the rare classes is worth without looking at any image.

AdaPruner's default for detection draws between images that nothing speaks against, and weights the draw. This
control is that draw alone, so that what AdaPruner gains beyond it comes from what it has learned.
"""

import numpy as np

from ..pruning.draw import drawn_lots, identity
from ..pruning.rarest_class import rarity
from .evidence import Evidence


def random_class_weighted(evidence: Evidence, keep_ratio: float, seed: int) -> np.ndarray:
    """Places in a draw weighted by how rare an image's rarest class is, (N,) float64, higher: keep.

    The same seed gives the lots of a pruning run with that SEED and ADAPRUNER.RARE_CLASSES 1, its default for
    detection.
    """
    names = [identity(record["dataset_name"], record["image_id"]) for record in evidence.records]
    return drawn_lots(names, seed, rarity(evidence.objects().sum(axis=2), power=1))
