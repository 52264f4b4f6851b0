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

from .augmentation import Augmentation
from .images import read_images
from .sampling import ResumableSampler

_STATISTICS_CHUNK = 1000  # images that are converted to floating point at a time


def labels_of(records: list[dict]) -> Tensor:
    """`category_id` of each record, (N,) long."""
    return torch.tensor([record["category_id"] for record in records], dtype=torch.long)


def pixel_statistics(images: np.ndarray) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of each channel of (N, H, W, 3) uint8: (3,) each, in 0 to 255.

    A channel that is the same everywhere gets the deviation 1, so that it can be divided by.
    """
    sums = np.zeros((2, 3))
    for start in range(0, len(images), _STATISTICS_CHUNK):
        pixels = images[start : start + _STATISTICS_CHUNK].reshape(-1, 3).astype(np.float64)
        sums += pixels.sum(axis=0), (pixels**2).sum(axis=0)
    mean, mean_of_squares = sums / (images.size // 3)
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

    "images" are (B, 3, H, W) uint8 on the device and "labels" (B,) long there; "image_index" (B,)
    long, the images' positions, stays on the CPU. What is done to an image depends on the seed, the
    iteration and its place in the batch of all processes together, so that neither a resumed run nor
    one of several processes differs from one that ran through alone.

    Args:
        images: (N, H, W, 3) uint8; they stay in the host's memory.
        labels: (N,) long.
        sampler: yields draw * N + index.
        batch_size: of all processes together.
        augmentation: what is done to each image.
        seed: of the augmentation.
        device: where batches are made.
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


class TestBatches:
    """The batches of one data set, once and as they are; each process has its share of the images, or all.

    As `TrainBatches`' with "image_ids" (list of str) besides. The last one may be smaller.

    Args:
        records: of the whole data set.
        size: of the images once read, in pixels.
        batch_size: of one process.
        device: where the images go.
        share: whether each process has a share only.
    """

    __test__ = False  # no test, whatever pytest thinks of its name

    def __init__(
        self, records: list[dict], size: int, batch_size: int, device: "str | torch.device", share: bool = True
    ):
        own = InferenceSampler(len(records)) if share else range(len(records))
        self._index = torch.tensor(list(own), dtype=torch.long)
        self._records = [records[i] for i in own]
        self._images = torch.from_numpy(read_images(self._records, size))
        self._labels = labels_of(self._records)
        self._batch_size, self._device = batch_size, torch.device(device)

    def __len__(self) -> int:
        return -(-len(self._records) // self._batch_size)

    def __iter__(self) -> Iterator[dict]:
        for start in range(0, len(self._records), self._batch_size):
            part = slice(start, start + self._batch_size)
            yield {
                "images": send(self._images[part], self._device).permute(0, 3, 1, 2),
                "labels": send(self._labels[part], self._device),
                "image_index": self._index[part],
                "image_ids": [str(record["image_id"]) for record in self._records[part]],
            }
