"""Random crop, flip and Cutout of a whole batch at once, each image with numbers of its own.

N images of H x W pixels, uint8, channels last: (N, H, W, 3).
"""

from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

_NUMBERS = 8  # random numbers a draw; Philox makes four at a time
_PHILOX_WORDS = 4


class RandomNumbers:
    """Numbers in [0, 1) that depend on the seed and the number of the draw alone.

    Philox is a generator that can start anywhere (Salmon et al. 2011, "Parallel Random Numbers: As
    Easy as 1, 2, 3"): neither batch size nor number of processes nor a resumed run changes a number.
    """

    def __init__(self, seed: int):
        self._key = np.random.SeedSequence(seed).generate_state(2, np.uint64)

    def of(self, draws: Tensor) -> Tensor:
        """The numbers of (N,) draws: (N, 8) float64. Cheap if the draws lie close together."""
        first, last = int(draws.min()), int(draws.max())
        counter = first * (_NUMBERS // _PHILOX_WORDS)
        generator = np.random.Generator(np.random.Philox(key=self._key, counter=counter))
        numbers = torch.from_numpy(generator.random((last - first + 1, _NUMBERS)))
        return numbers[draws - first]


class Augmentation(NamedTuple):
    """What is done to training images.

    Attributes:
        padding: black border before a crop of the image's own size, in pixels; 0: no crop.
        flip: flip every other image, on average, left to right.
        cutout: side of the square that is blanked, in pixels; 0: none (DeVries and Taylor 2017,
            "Improved Regularization of Convolutional Neural Networks with Cutout").
    """

    padding: int = 0
    flip: bool = False
    cutout: int = 0

    def __call__(self, images: Tensor, numbers: Tensor, fill: Tensor) -> Tensor:
        """
        Args:
            images: (N, H, W, 3) uint8.
            numbers: (N, 8) in [0, 1), on the images' device.
            fill: (3,), the colour of blanked squares.

        Returns:
            (N, H, W, 3) uint8.
        """
        height, width = images.shape[1:3]
        if self.padding or self.flip:
            places = 2 * self.padding + 1
            top, left = (numbers[:, :2] * places).long().unbind(1)
            flipped = numbers[:, 2] < 0.5 if self.flip else torch.zeros_like(top, dtype=torch.bool)
            images = crop(images, self.padding, top, left, flipped)
        if self.cutout:
            y, x = (numbers[:, 3] * height).long(), (numbers[:, 4] * width).long()
            images = cutout(images, self.cutout, y, x, fill)
        return images


def crop(images: Tensor, padding: int, top: Tensor, left: Tensor, flipped: Tensor) -> Tensor:
    """Crops of the images' own size out of images with a black border, then flips some.

    Args:
        images: (N, H, W, 3).
        padding: width of the border.
        top, left: (N,) long, first row and column of each crop, from 0 to 2 * padding.
        flipped: (N,) bool, crops to flip left to right.
    """
    number, height, width = images.shape[:3]
    padded = F.pad(images, (0, 0, padding, padding, padding, padding))
    rows = torch.arange(height, device=images.device)
    columns = torch.arange(width, device=images.device).expand(number, -1)
    columns = torch.where(flipped[:, None], width - 1 - columns, columns) + left[:, None]
    image = torch.arange(number, device=images.device)
    return padded[image[:, None, None], (rows + top[:, None])[:, :, None], columns[:, None, :]]


def cutout(images: Tensor, side: int, y: Tensor, x: Tensor, fill: Tensor) -> Tensor:
    """Blanks a square in each of (N, H, W, 3) images; what lies outside of the image is cut off.

    Args:
        y, x: (N,) long, the squares' centres: they reach from side // 2 before to, less one, after.
        fill: (3,), their colour.
    """
    rows, columns = (torch.arange(size, device=images.device) for size in images.shape[1:3])
    inside = _within(rows, y, side)[:, :, None] & _within(columns, x, side)[:, None, :]
    return torch.where(inside[..., None], fill.to(images.dtype), images)


def _within(positions: Tensor, centres: Tensor, side: int) -> Tensor:
    start = centres[:, None] - side // 2
    return (positions >= start) & (positions < start + side)
