"""Detectron2's DatasetMapper in less time."""

from itertools import takewhile

import numpy as np
from detectron2.data import DatasetMapper
from detectron2.data.transforms import AugmentationList, RandomCrop
from fvcore.transforms.transform import NoOpTransform


def quick(mapper: DatasetMapper) -> DatasetMapper:
    """The mapper itself, which from now on gives the same in less time.

    Detectron2 makes BGR of RGB by turning an axis around, without moving a byte. Pillow's resizing then copies byte by
    byte, which takes about as long as reading the file. Here the bytes are put in a row before that, and behind a crop,
    which leaves fewer.
    """
    augmentations = list(mapper.augmentations.augs)
    crops = sum(1 for _ in takewhile(lambda augmentation: isinstance(augmentation, RandomCrop), augmentations))
    augmentations.insert(crops, _InARow())
    mapper.augmentations = AugmentationList(augmentations)
    return mapper


class _InARow(NoOpTransform):
    def apply_image(self, img: np.ndarray) -> np.ndarray:
        return in_a_row(img)


def in_a_row(image: np.ndarray) -> np.ndarray:
    """The same (H, W, C) or (H, W) image in C order; colour by colour, the quickest way numpy has."""
    if image.ndim < 3 or image.flags.c_contiguous:
        return np.ascontiguousarray(image)
    row = np.empty(image.shape, image.dtype)
    for colour in range(image.shape[2]):
        row[..., colour] = image[..., colour]
    return row
