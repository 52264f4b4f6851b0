"""Trainings that leave images out epoch by epoch (DYNAMIC.METHOD): the step and its sampler.

N images, B images of a batch of all processes. An epoch is one visit of each image that it does not leave out, rounded up
to whole batches. When it ends, the losses so far say which images the next one sees.
"""

import itertools
import logging
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from detectron2.config import CfgNode
from detectron2.utils import comm
from detectron2.utils.events import get_event_storage
from torch import Tensor

from ..data.sampling import ResumableSampler
from ..pruning.dynamic import infobatch, seta
from .stopping import held_back
from .tasks import Task
from .train_loop import MixedPrecisionTrainer

INFOBATCH, SETA = METHODS = ("infobatch", "seta")

logger = logging.getLogger(__name__)


def check_dynamic(cfg: CfgNode) -> None:
    """Raises ValueError for settings of DYNAMIC that cannot work."""
    options = cfg.DYNAMIC
    if options.METHOD not in ("", *METHODS):
        raise ValueError(f"DYNAMIC.METHOD is {options.METHOD!r}; it can be {', '.join(METHODS)}, or empty for none")
    for key in ("RATIO", "ANNEAL"):
        if not 0 <= options[key] < 1:
            raise ValueError(f"DYNAMIC.{key} is {options[key]}; it is a share, at least 0 and below 1")
    if options.METHOD and cfg.ADAPRUNER.ENABLED:
        raise ValueError("DYNAMIC.METHOD is for trainings that do not prune: leave it out, or ADAPRUNER.ENABLED")
    if options.METHOD and cfg.DATALOADER.SAMPLER_TRAIN != "TrainingSampler":
        raise ValueError(
            f"DYNAMIC.METHOD has a sampler of its own: leave DATALOADER.SAMPLER_TRAIN {cfg.DATALOADER.SAMPLER_TRAIN} out"
        )
    if options.METHOD and cfg.DATALOADER.ASPECT_RATIO_GROUPING and cfg.MODEL.META_ARCHITECTURE != "ImageClassifier":
        raise ValueError(
            "DATALOADER.ASPECT_RATIO_GROUPING holds images back, so that an epoch would train on images that DYNAMIC.METHOD "
            "leaves out: set it to False"
        )


class EpochSampler(ResumableSampler):
    """Draws some of the images, in permutations without end, until `begin` names others.

    Attributes:
        images: places of those drawn now.
        start: the first draw to yield; see `ResumableSampler`.
    """

    def __init__(self, size: int, seed: int | None):
        super().__init__(size, seed=seed)
        self.begin(np.arange(size), 0, 0)

    def begin(self, images: np.ndarray, epoch: int, first: int) -> None:
        """From the draw `first` on, draws these; the epoch says in which order."""
        self.images, self._epoch, self._first, self.start = images, epoch, first, first

    def __iter__(self) -> Iterator[int]:
        images: np.ndarray | None = None
        drawn: Iterator[int] = iter(())
        while True:
            if images is not self.images:
                images, drawn = self.images, self._draws()
            yield next(drawn)

    def _draws(self) -> Iterator[int]:
        orders = (
            np.random.default_rng([self._seed, self._epoch, k]).permutation(self.images) for k in itertools.count()
        )
        numbered = enumerate(itertools.chain.from_iterable(orders), self._first)
        own = itertools.islice(numbered, self.start - self._first + self._rank, None, self._world_size)
        return (draw * self._size + int(image) for draw, image in own)


class DynamicStep(MixedPrecisionTrainer):
    """The plain step on the images that an epoch sees, their losses weighted.

    Args:
        options: as for `MixedPrecisionTrainer`.
        cfg: its DYNAMIC, SEED and SOLVER count.
        task: how to read a batch.
        sampler: of the data loader.
    """

    def __init__(self, *options, cfg: CfgNode, task: Task, sampler: EpochSampler):
        super().__init__(*options)
        self.cfg, self.task, self.sampler = cfg, task, sampler
        num_images = len(sampler.images)
        self.last_losses, self.weights = np.full(num_images, np.nan), np.ones(num_images)
        self.epoch, self.begun, self.ends, self.seen = 0, 0, self._length(num_images), num_images

    def _length(self, num_images: int) -> int:
        return -(-num_images // self.cfg.SOLVER.IMS_PER_BATCH)

    def run_step(self):
        if self.iter >= self.ends:
            self._begin_epoch()
        super().run_step()

    def _begin_epoch(self) -> None:
        self.epoch += 1
        images, self.weights = self._choose()
        self.begun, self.ends = self.iter, self.iter + self._length(len(images))
        self.seen += len(images)
        self.sampler.begin(images, self.epoch, self.iter * self.cfg.SOLVER.IMS_PER_BATCH)
        with held_back():
            self._data_loader_iter_obj = None  # its workers have drawn on
            iter(self._data_loader_iter)
        get_event_storage().put_scalar("steps_saved", self.saved, smoothing_hint=False)
        logger.info(
            f"{self.cfg.DYNAMIC.METHOD}: epoch {self.epoch + 1} sees {len(images)} of {len(self.weights)} images; "
            f"{100 * self.saved:.1f}% of the steps of all epochs saved so far"
        )

    @property
    def saved(self) -> float:
        """The share of the visits that so many epochs of all images would have had."""
        return 1 - self.seen / ((self.epoch + 1) * len(self.weights))

    def _choose(self) -> tuple[np.ndarray, np.ndarray]:
        """The images of this epoch, and the weights of all.

        Epochs in which the last share of the training lies look at no losses: InfoBatch's see all images, SeTa's a draw.
        """
        options, solver = self.cfg.DYNAMIC, self.cfg.SOLVER
        rng = np.random.default_rng([max(self.cfg.SEED, 0), self.epoch])
        whole = self.iter + self._length(len(self.weights))
        annealing = options.ANNEAL > 0 and whole > (1 - options.ANNEAL) * solver.MAX_ITER
        if options.METHOD == INFOBATCH:
            return infobatch(self.last_losses, 0.0 if annealing else options.RATIO, rng)
        losses = np.full_like(self.last_losses, np.nan) if annealing else self.last_losses
        return seta(losses, options.RATIO, rng, self.epoch - 1)

    def losses(self, data: Any) -> dict[str, Tensor]:
        index = self.task.image_indices(data)
        per_image = {name: values.float() for name, values in self.forward(data).items()}
        sums = torch.stack([values.detach() for values in per_image.values()]).sum(dim=0).cpu()
        places, values = (torch.cat(parts).numpy() for parts in zip(*comm.all_gather((index, sums))))
        self.last_losses[places] = values
        weights = torch.from_numpy(self.weights[index.numpy()]).float().to(self.device)
        return {name: (weights * values).mean() for name, values in per_image.items()}

    def state_dict(self):
        own = {name: getattr(self, name) for name in ("last_losses", "weights", "epoch", "begun", "ends", "seen")}
        arrays = {name: torch.from_numpy(v.copy()) if isinstance(v, np.ndarray) else v for name, v in own.items()}
        return {**super().state_dict(), "dynamic": {**arrays, "images": torch.from_numpy(self.sampler.images.copy())}}

    def load_state_dict(self, state_dict):
        super().load_state_dict(state_dict)
        state = {name: v.numpy().copy() if isinstance(v, Tensor) else v for name, v in state_dict["dynamic"].items()}
        images = state.pop("images")
        vars(self).update(state)
        self.sampler.begin(images, self.epoch, self.begun * self.cfg.SOLVER.IMS_PER_BATCH)
