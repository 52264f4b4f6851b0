"""Batches of images that lie in memory: a batch is an index into one tensor, augmented at once.

N images of H x W pixels, B of them in a batch of one process.
"""

import itertools
from collections.abc import Callable, Iterator

import numpy as np
import torch
from detectron2.data.samplers import InferenceSampler
from detectron2.utils import comm
from torch import Tensor

from .augmentation import Augmentation, RandomNumbers
from .sampling import ResumableSampler

_STATISTICS_CHUNK = 1000  # images that are converted to floating point at a time


def labels_of(records: list[dict]) -> Tensor:
    """`category_id` of each record, (N,) long."""
    return torch.tensor([record["category_id"] for record in records])


def pixel_statistics(images: np.ndarray) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of each channel: (3,) each, in 0 to 255.

    A channel that is the same everywhere gets the deviation 1, so that it can be divided by.

    Args:
        images: (N, H, W, 3) uint8.
    """
    sums = np.zeros((2, 3))
    for start in range(0, len(images), _STATISTICS_CHUNK):
        pixels = images[start : start + _STATISTICS_CHUNK].reshape(-1, 3).astype(np.float64)
        sums += pixels.sum(axis=0), (pixels**2).sum(axis=0)
    mean, mean_of_squares = sums / (images.size // 3)
    variance = mean_of_squares - mean**2
    std = np.where(variance > 1e-6, np.sqrt(np.maximum(variance, 0)), 1.0)
    return torch.tensor(mean).float(), torch.tensor(std).float()


def _on_device(images: Tensor, device: torch.device) -> Tensor:
    try:
        return images.to(device)
    except torch.OutOfMemoryError as error:
        raise MemoryError(
            f"{len(images)} images, {images.nbytes / 2**30:.1f} GiB, do not fit into the memory of {device}: "
            "set INPUT.KEEP_ON_DEVICE False"
        ) from error


def send(tensor: Tensor, device: torch.device) -> Tensor:
    """A copy on the device; `tensor` itself if it is there.

    On the way to a GPU from memory that is pinned, so that the copy waits in the GPU's queue and the
    process does not wait for the GPU.
    """
    if device.type == "cuda" and tensor.device.type == "cpu":
        tensor = tensor.pin_memory()
    return tensor.to(device, non_blocking=True)


class TrainBatches:
    """Endless training batches: dicts of "images", "labels" and "image_index".

    "images" are (B, 3, H, W) uint8 on the device and "labels" (B,) long there; "image_index" (B,)
    long, the images' positions, stays on the CPU.

    Args:
        images: (N, H, W, 3) uint8.
        labels: (N,) long.
        sampler: yields draw * N + index.
        batch_size: of all processes together.
        augmentation: what is done to each image.
        seed: of the augmentation.
        device: where batches are made.
        keep_on_device: hold all images there; else in the host's memory.
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
        keep_on_device: bool = True,
    ):
        world_size = comm.get_world_size()
        if batch_size % world_size:
            raise ValueError(f"SOLVER.IMS_PER_BATCH is {batch_size}, which {world_size} processes cannot share evenly")
        self._own_batch_size = batch_size // world_size
        self._sampler = sampler
        self._augmentation = augmentation
        self._random = RandomNumbers(seed)
        self._device = torch.device(device)
        self._images = torch.from_numpy(images)
        if keep_on_device:
            self._images = _on_device(self._images, self._device)
        self._labels = labels
        # What is blanked gets the mean colour, which normalisation makes (nearly) zero.
        fill = pixel_statistics(images)[0].round() if augmentation.cutout else torch.zeros(3)
        self._fill = fill.to(self._device)

    def __iter__(self) -> Iterator[dict[str, Tensor]]:
        numbered = iter(self._sampler)
        while True:
            draws_and_index = torch.tensor(list(itertools.islice(numbered, self._own_batch_size)))
            yield self._batch(draws_and_index // len(self._labels), draws_and_index % len(self._labels))

    def _batch(self, draws: Tensor, index: Tensor) -> dict[str, Tensor]:
        numbers = send(self._random.of(draws), self._device)
        images = send(self._images[send(index, self._images.device)], self._device)
        images = self._augmentation(images, numbers, self._fill)
        return {
            "images": images.permute(0, 3, 1, 2),
            "labels": send(self._labels[index], self._device),
            "image_index": index,
        }


class TestBatches:
    """The batches of one data set, once and as they are; each process has its share of the images, or all.

    As `TrainBatches`' with "image_ids" (list of str) besides. The last one may be smaller.

    Args:
        records: of the whole data set.
        read_images: function of records that returns (N, H, W, 3) uint8.
        batch_size: of one process.
        device: where the images go.
        share: whether each process has a share only.
    """

    __test__ = False  # no test, whatever pytest thinks of its name

    def __init__(
        self,
        records: list[dict],
        read_images: Callable[[list[dict]], np.ndarray],
        batch_size: int,
        device: "str | torch.device",
        share: bool = True,
    ):
        own = InferenceSampler(len(records)) if share else range(len(records))
        self._index = torch.tensor(list(own), dtype=torch.long)
        own = [records[i] for i in self._index.tolist()]
        self._images = torch.from_numpy(read_images(own))
        self._labels = labels_of(own)
        self._ids = [str(record["image_id"]) for record in own]
        self._batch_size = batch_size
        self._device = torch.device(device)

    def __len__(self) -> int:
        return -(-len(self._ids) // self._batch_size)

    def __iter__(self) -> Iterator[dict]:
        for start in range(0, len(self._ids), self._batch_size):
            part = slice(start, start + self._batch_size)
            yield {
                "images": send(self._images[part], self._device).permute(0, 3, 1, 2),
                "labels": send(self._labels[part], self._device),
                "image_index": self._index[part],
                "image_ids": self._ids[part],
            }
