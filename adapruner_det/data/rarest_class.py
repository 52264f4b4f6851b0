"""One class for an image that may hold several: the rarest.

N images, K classes.
"""
import numpy as np


def rarest_class(counts: np.ndarray) -> np.ndarray:
    """The class of each image that the fewest images have; of equally rare ones that with the lowest id.

    Held to the ratio by it, no class is left with less than its rarest images give it: an image counts
    where it is missed most.

    Args:
        counts: (N, K), objects of each class in each image.

    Returns:
        (N,) int64; K for an image without objects.
    """
    counts = np.asarray(counts)
    present = counts > 0
    images = present.sum(axis=0)
    rarest = np.where(present, images, len(counts) + 1).argmin(axis=1)
    return np.where(present.any(axis=1), rarest, counts.shape[1])
