"""One class for an image that may hold several: the rarest; and what that makes the image worth.

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


def rarity(counts: np.ndarray, power: float) -> np.ndarray:
    """What an image is worth for its rarest class: the share of images with that class, to the power of -power.

    With power 1, an image drawn by it is as likely to be of one class as of another; mAP is a mean over classes. LVIS's
    repeat factors go by the same share, with power 1/2 (Gupta, Dollar and Girshick 2019).

    Args:
        counts: (N, K), objects of each class in each image.

    Returns:
        (N,), at least 1. Images without objects are a class as well.
    """
    present = np.asarray(counts) > 0
    shares = np.append(present.mean(axis=0), 1 - present.any(axis=1).mean())
    return shares[rarest_class(counts)] ** -power
