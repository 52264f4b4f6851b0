"""Random crop, flip and Cutout of a whole batch at once, each image with numbers of its own.

torchvision's transforms draw once a call: a batch would take a call for each image, and ten times as long.
Images are (N, H, W, 3) uint8.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from detectron2.config import CfgNode
from torch import Tensor

_FLIPS = ("horizontal", "none")


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

    @classmethod
    def from_config(cls, cfg: CfgNode) -> "Augmentation":
        options = cfg.INPUT
        if options.RANDOM_FLIP not in _FLIPS:
            raise ValueError(
                f"INPUT.RANDOM_FLIP is {options.RANDOM_FLIP!r}; for classification it can be {', '.join(_FLIPS)}"
            )
        for key in ("CROP_PADDING", "CUTOUT"):
            if not 0 <= options[key] <= options.IMAGE_SIZE:
                raise ValueError(
                    f"INPUT.{key} is {options[key]}; it can be 0 to INPUT.IMAGE_SIZE, {options.IMAGE_SIZE}"
                )
        return cls(options.CROP_PADDING, options.RANDOM_FLIP == "horizontal", options.CUTOUT)

    def __call__(self, images: Tensor, numbers: Tensor, fill: Tensor) -> Tensor:
        """
        Args:
            images: (N, H, W, 3) uint8.
            numbers: (N, 5) in [0, 1): for each image top, left, flip, and the square's centre.
            fill: (3,), the colour of blanked squares.
        """
        height, width = images.shape[1:3]
        if self.padding or self.flip:
            top, left = (numbers[:, :2] * (2 * self.padding + 1)).long().unbind(1)
            images = crop(images, self.padding, top, left, self.flip & (numbers[:, 2] < 0.5))
        if self.cutout:
            y, x = (numbers[:, 3] * height).long(), (numbers[:, 4] * width).long()
            images = cutout(images, self.cutout, y, x, fill)
        return images


def crop(images: Tensor, padding: int, top: Tensor, left: Tensor, flipped: Tensor) -> Tensor:
    """Crops of the images' own size out of images with a black border; then flips some.

    Args:
        top, left: (N,) long, first row and column of each crop, from 0 to 2 * padding.
        flipped: (N,) bool.
    """
    number, height, width = images.shape[:3]
    padded = F.pad(images, (0, 0, padding, padding, padding, padding))
    rows = torch.arange(height, device=images.device) + top[:, None]
    columns = torch.arange(width, device=images.device).expand(number, -1)
    columns = torch.where(flipped[:, None], width - 1 - columns, columns) + left[:, None]
    image = torch.arange(number, device=images.device)
    return padded[image[:, None, None], rows[:, :, None], columns[:, None, :]]


def cutout(images: Tensor, side: int, y: Tensor, x: Tensor, fill: Tensor) -> Tensor:
    """Blanks a square in each image; what lies outside of the image is cut off.

    Args:
        y, x: (N,) long, the squares' centres: they reach from side // 2 before to, less one, after.
    """
    inside = []
    for size, centres in zip(images.shape[1:3], (y, x)):
        start = centres[:, None] - side // 2
        positions = torch.arange(size, device=images.device)
        inside.append((positions >= start) & (positions < start + side))
    square = inside[0][:, :, None] & inside[1][:, None, :]
    return torch.where(square[..., None], fill.to(images.dtype), images)
