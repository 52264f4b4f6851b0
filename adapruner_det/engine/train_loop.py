"""One training step: Detectron2's, in mixed precision on any device, and AdaPruner's."""

import time
from typing import Any

import numpy as np
import torch
from detectron2.config import CfgNode
from detectron2.engine import SimpleTrainer
from detectron2.utils import comm
from torch import Tensor

from ..pruning import AdaPruner
from ..pruning.statistics import Statistics
from .distributed import synchronise_statistics, unwrapped
from .tasks import Task
from .visits import Visits


class MixedPrecisionTrainer(SimpleTrainer):
    """SimpleTrainer whose forward pass may run in bfloat16, on CPU and on CUDA alike.

    bfloat16 has float32's range, so no loss scaling is needed (Detectron2's AMPTrainer, which
    scales float16 losses, runs on CUDA only).

    Args:
        seed: of what the model draws at random (proposals, dropout); None leaves torch's state alone.
    """

    def __init__(
        self,
        model,
        data_loader,
        optimizer,
        mixed_precision: bool = False,
        seed: int | None = None,
    ):
        super().__init__(model, data_loader, optimizer)
        self.device = next(model.parameters()).device
        self.mixed_precision = mixed_precision
        self.seed = seed

    def run_step(self):
        """Detectron2's step with `losses` in place of the bare forward pass."""
        assert self.model.training, "model was changed to eval mode"
        start = time.perf_counter()
        data = next(self._data_loader_iter)
        data_time = time.perf_counter() - start
        self._seed()
        losses = self.losses(data)
        self.optimizer.zero_grad()
        sum(losses.values()).backward()
        self._write_metrics(losses, data_time)
        self.optimizer.step()

    def losses(self, data: Any) -> dict[str, Tensor]:
        """The scalars whose sum is minimised."""
        return self.forward(data)

    def forward(self, data: Any) -> dict[str, Tensor]:
        """The model's dict of losses."""
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.mixed_precision):
            return self.model(data)

    def _seed(self) -> None:
        """Makes what the model draws at random depend on seed, process and iteration alone.

        So a resumed run draws what an uninterrupted one would, on every process, and evaluating in
        between changes nothing.
        """
        if self.seed is not None:
            sequence = np.random.SeedSequence([self.seed, comm.get_rank(), self.iter])
            torch.manual_seed(int(sequence.generate_state(1)[0]))

    def state_dict(self):
        """The optimizer's state, and the running number of positives that RetinaNet and FCOS divide by.

        They keep it as a plain attribute, so that it is not part of their weights.
        """
        state = super().state_dict()
        model = unwrapped(self.model)
        if hasattr(model, "loss_normalizer"):
            state["loss_normalizer"] = model.loss_normalizer
        return state

    def load_state_dict(self, state_dict):
        super().load_state_dict(state_dict)
        if "loss_normalizer" in state_dict:
            unwrapped(self.model).loss_normalizer = state_dict["loss_normalizer"]


class AdaPrunerStep(MixedPrecisionTrainer):
    """Weights each image's loss by its mask (Eq. 4) and lets the losses move the mask (Eq. 5-7).

    The model has to return one value an image for each loss term. Every process applies the updates
    of all processes, in rank order, so that all hold the same mask; what travels for it is the
    batch's indices and losses.

    Args:
        pruner: the mask over `records`, by their `image_index`.
        task: how to read a batch.
        records: what the loader draws from.
        identity: fingerprint of these images in their order. A checkpoint of other images is refused.
        covariates: what the mask may expect each image's loss by, (N, K); see `AdaPruner.update`.
    """

    def __init__(
        self,
        model,
        data_loader,
        optimizer,
        pruner: AdaPruner,
        task: Task,
        records: list[dict],
        identity: str,
        mixed_precision: bool = False,
        seed: int | None = None,
        covariates: Tensor | None = None,
    ):
        super().__init__(model, data_loader, optimizer, mixed_precision, seed)
        self.covariates = covariates
        self.pruner = pruner
        self.task = task
        self.records = records
        self.identity = identity
        self.visits = Visits(pruner.num_samples)

    def losses(self, data: Any) -> dict[str, Tensor]:
        index = self.task.image_indices(data)
        per_image = {name: values.float() for name, values in self.forward(data).items()}
        weights = self.pruner.weights(index).to(self.device)
        terms = torch.stack([values.detach() for values in per_image.values()], dim=1)
        self._learn(index, list(per_image), terms.cpu(), data)
        return {name: (weights * values).mean() for name, values in per_image.items()}

    def _learn(self, index: Tensor, names: list[str], terms: Tensor, data: Any) -> None:
        """Moves the mask by the losses of all processes: (B,) indices, (B, terms) losses."""
        index, terms = (torch.cat(parts) for parts in zip(*comm.all_gather((index, terms))))
        covariates = None if self.covariates is None else self.covariates[index]
        try:
            self.pruner.update(index, terms.sum(dim=1), covariates)
        except FloatingPointError as error:
            images = ", ".join(self.task.describe(data, self.records))
            raise FloatingPointError(
                f"{error}. Images of this process's batch: {images}. A lower SOLVER.BASE_LR or "
                "SOLVER.CLIP_GRADIENTS usually helps"
            ) from error
        self.visits.add(index, names, terms)

    def image_statistics(self, cfg: CfgNode) -> Statistics | None:
        """What the model as it is now says of every image; in the main process, None in the others.

        Each process looks at a part, with the main one's running statistics.
        """
        model = unwrapped(self.model)
        synchronise_statistics(model)
        own = self.records[comm.get_rank() :: comm.get_world_size()]
        parts = comm.gather(self.task.statistics(cfg, model, own))
        return Statistics.interleaved(parts) if parts else None

    def state_dict(self):
        """As without pruning, and the pruner's state with what it remembers of each image."""
        return {
            **super().state_dict(),
            "pruner": self.pruner.state_dict(),
            "identity": self.identity,
            "visits": self.visits.state_dict(),
        }

    def load_state_dict(self, state_dict):
        if "pruner" not in state_dict:
            raise ValueError(
                "the checkpoint holds no mask: it is from a training without ADAPRUNER.ENABLED; start "
                "the pruning run in another OUTPUT_DIR"
            )
        if state_dict["identity"] != self.identity:
            raise ValueError(
                "the checkpoint's mask is for other images, other annotations, or the same images in "
                "another order than DATASETS.TRAIN gives now: resume with the data the run was started "
                "with, or start a new run in another OUTPUT_DIR"
            )
        super().load_state_dict(state_dict)
        self.pruner.load_state_dict(state_dict["pruner"])
        self.visits.load_state_dict(state_dict["visits"])
