"""Batches of images that lie in memory: a batch is an index into one array, augmented at once.

N images of H x W pixels, B of them in a batch of one process.
"""

import itertools
from collections.abc import Iterator

import numpy as np
import torch
from detectron2.data.samplers import InferenceSampler
from detectron2.utils import comm
from torch import Tensor
from torch.utils.data import DataLoader

from .augmentation import Augmentation
from .images import read_images
from .sampling import ResumableSampler


def labels_of(records: list[dict]) -> Tensor:
    """`category_id` of each record, (N,) long."""
    return torch.tensor([record["category_id"] for record in records], dtype=torch.long)


def pixel_statistics(images: np.ndarray) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of each channel of (N, H, W, 3) uint8: (3,) each, in 0 to 255.

    A channel that is the same everywhere gets the deviation 1, so that it can be divided by.
    """
    # All images are as large: the mean of their means is that of the pixels.
    moments = [(image.mean(axis=(0, 1)), np.square(image, dtype=np.float64).mean(axis=(0, 1))) for image in images]
    mean, mean_of_squares = np.mean(moments, axis=0)
    variance = mean_of_squares - mean**2
    std = np.where(variance > 1e-6, np.sqrt(np.maximum(variance, 0)), 1.0)
    return torch.tensor(mean).float(), torch.tensor(std).float()


def send(tensor: Tensor, device: torch.device) -> Tensor:
    """A copy on the device; `tensor` itself if it is there.

    On the way to a GPU from pinned memory, so that the copy waits in the GPU's queue and the process
    does not wait for the GPU.
    """
    if device.type == "cuda" and tensor.device.type == "cpu":
        tensor = tensor.pin_memory()
    return tensor.to(device, non_blocking=True)


class TrainBatches:
    """Endless training batches: dicts of "images", "labels" and "image_index".

    "images" are (B, 3, H, W) uint8 and "labels" (B,) long, both on the device; "image_index" (B,) long,
    the images' positions, is on the CPU. What is done to an image depends on the seed, the iteration and
    the image's place in the batch of all processes: a resumed run does what an uninterrupted one does, and
    several processes do what one does.

    Args:
        images: (N, H, W, 3) uint8; they stay in the host's memory.
        labels: (N,) long.
        sampler: yields draw * N + index.
        batch_size: of all processes together.
        seed: of the augmentation.
    """

    def __init__(
        self,
        images: np.ndarray,
        labels: Tensor,
        sampler: ResumableSampler,
        *,
        batch_size: int,
        augmentation: Augmentation,
        seed: int,
        device: "str | torch.device",
    ):
        world_size = comm.get_world_size()
        if batch_size % world_size:
            raise ValueError(f"SOLVER.IMS_PER_BATCH is {batch_size}, which {world_size} processes cannot share evenly")
        self._images, self._labels = torch.from_numpy(images), labels
        self._sampler = sampler
        self._batch_size, self._own_batch_size = batch_size, batch_size // world_size
        self._augmentation, self._seed = augmentation, seed
        self._device = torch.device(device)
        # What is blanked gets the mean colour, which normalisation makes (nearly) zero.
        fill = pixel_statistics(images)[0].round() if augmentation.cutout else torch.zeros(3)
        self._fill = fill.to(self._device)

    def __iter__(self) -> Iterator[dict[str, Tensor]]:
        numbered = iter(self._sampler)
        while True:
            draws_and_index = torch.tensor(list(itertools.islice(numbered, self._own_batch_size)))
            yield self._batch(draws_and_index // len(self._labels), draws_and_index % len(self._labels))

    def _batch(self, draws: Tensor, index: Tensor) -> dict[str, Tensor]:
        images = send(self._images[index], self._device)
        images = self._augmentation(images, send(self._numbers(draws), self._device), self._fill)
        return {
            "images": images.permute(0, 3, 1, 2),
            "labels": send(self._labels[index], self._device),
            "image_index": index,
        }

    def _numbers(self, draws: Tensor) -> Tensor:
        iteration = int(draws[0]) // self._batch_size
        of_all = np.random.default_rng((self._seed, iteration)).random((self._batch_size, 5))
        return torch.from_numpy(of_all)[draws % self._batch_size]


def evaluation_batches(
    records: list[dict], size: int, batch_size: int, device: "str | torch.device", share: bool = True
) -> DataLoader:
    """The batches of one data set, once and as they are: as `TrainBatches`', with "image_ids" (list of str) besides.

    Args:
        size: of the images once read, in pixels.
        batch_size: of one process; the last batch may be smaller.
        share: whether each process has a share of the images only.
    """
    index = torch.tensor(list(InferenceSampler(len(records)) if share else range(len(records))), dtype=torch.long)
    own = [records[i] for i in index]
    images, labels, device = torch.from_numpy(read_images(own, size)), labels_of(own), torch.device(device)

    def batch(part: list[int]) -> dict:
        return {
            "images": send(images[part], device).permute(0, 3, 1, 2),
            "labels": send(labels[part], device),
            "image_index": index[part],
            "image_ids": [str(own[i]["image_id"]) for i in part],
        }

    # A generator of its own, so that the order of what torch draws elsewhere stays as it is.
    return DataLoader(range(len(own)), batch_size, collate_fn=batch, generator=torch.Generator())
