"""Batches of images that lie in memory: a batch is an index into one array, augmented at once.

N images of H x W pixels, B of them in a batch of one process. A batch is a dict of "images" (B, 3, H, W)
uint8 and "labels" (B,) long, both on cfg.MODEL.DEVICE, and "image_index" (B,) long, the images' positions,
on the CPU.
"""

import itertools
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from detectron2.config import CfgNode
from detectron2.data.samplers import InferenceSampler
from detectron2.utils import comm
from torch import Tensor
from torch.utils.data import DataLoader

from .augmentation import Augmentation
from .images import read_images
from .sampling import ResumableSampler
from .validation import Record


def labels_of(records: Sequence[Record]) -> Tensor:
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


def training_batches(cfg: CfgNode, records: Sequence[Record], sampler: ResumableSampler) -> Iterator[Record]:
    """Endless batches; the images stay in the host's memory, and a batch at a time goes to the device.

    What is done to an image depends on SEED, the iteration and the image's place in the batch of all
    processes: a resumed run does what an uninterrupted one does, and several processes do what one does.

    Args:
        sampler: yields draw * N + index.

    Raises:
        ValueError: keys of INPUT that cannot be, or a batch that the processes cannot share evenly.
    """
    augmentation = Augmentation.from_config(cfg)  # first: reading the images takes longer than to refuse
    batch_size, world_size = cfg.SOLVER.IMS_PER_BATCH, comm.get_world_size()
    if batch_size % world_size:
        raise ValueError(f"SOLVER.IMS_PER_BATCH is {batch_size}, which {world_size} processes cannot share evenly")
    images, labels = torch.from_numpy(read_images(records, cfg.INPUT.IMAGE_SIZE)), labels_of(records)
    device, seed = torch.device(cfg.MODEL.DEVICE), max(cfg.SEED, 0)
    # What is blanked gets the mean colour, which normalisation makes (nearly) zero.
    fill = pixel_statistics(images.numpy())[0].round() if augmentation.cutout else torch.zeros(3)
    fill = fill.to(device)

    def batches() -> Iterator[Record]:
        drawn = iter(sampler)
        while True:
            draws_and_index = torch.tensor(list(itertools.islice(drawn, batch_size // world_size)))
            draws, index = draws_and_index // len(labels), draws_and_index % len(labels)
            random = np.random.default_rng((seed, int(draws[0]) // batch_size)).random((batch_size, 5))
            numbers = send(torch.from_numpy(random)[draws % batch_size], device)
            augmented = augmentation(send(images[index], device), numbers, fill)
            yield {
                "images": augmented.permute(0, 3, 1, 2),
                "labels": send(labels[index], device),
                "image_index": index,
            }

    return batches()


def evaluation_batches(cfg: CfgNode, records: Sequence[Record], share: bool = True) -> DataLoader[Any]:
    """All images once and as they are, in batches with "image_ids" (list of str) besides; the last may be smaller.

    Args:
        share: each process has a share of the images; else all of them.
    """
    index = torch.tensor(list(InferenceSampler(len(records)) if share else range(len(records))), dtype=torch.long)
    own, device = [records[i] for i in index], torch.device(cfg.MODEL.DEVICE)
    images, labels = torch.from_numpy(read_images(own, cfg.INPUT.IMAGE_SIZE)), labels_of(own)

    def batch(part: list[int]) -> Record:
        return {
            "images": send(images[part], device).permute(0, 3, 1, 2),
            "labels": send(labels[part], device),
            "image_index": index[part],
            "image_ids": [str(own[i]["image_id"]) for i in part],
        }

    # A generator of its own, so that the order of what torch draws elsewhere stays as it is.
    images_of: Any = range(len(own))  # any sequence will do
    return DataLoader(images_of, cfg.SOLVER.IMS_PER_BATCH, collate_fn=batch, generator=torch.Generator())
