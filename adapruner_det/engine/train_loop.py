"""One training step: Detectron2's, in mixed precision on any device, and AdaPruner's."""
import time
from typing import Any, Dict, List, Optional, Sequence, Tuple

import numpy as np
import torch
from detectron2.config import CfgNode
from detectron2.engine import SimpleTrainer
from detectron2.utils import comm
from torch import Tensor

from ..pruning import AdaPruner
from .distributed import synchronise_statistics, unwrapped
from .image_statistics import ImageStatistics
from .tasks import Task


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
        seed: Optional[int] = None,
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

    def losses(self, data: Any) -> Dict[str, Tensor]:
        """The scalars whose sum is minimised."""
        return self.forward(data)

    def forward(self, data: Any) -> Dict[str, Tensor]:
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
        loss_terms: names of the loss terms that move the mask; none for all of them.
        covariates: what the mask may expect each image's loss by, (N, K); see `AdaPruner.update`.
    """

    def __init__(
        self,
        model,
        data_loader,
        optimizer,
        pruner: AdaPruner,
        task: Task,
        records: List[dict],
        identity: str,
        mixed_precision: bool = False,
        seed: Optional[int] = None,
        loss_terms: Sequence[str] = (),
        covariates: Optional[Tensor] = None,
    ):
        super().__init__(model, data_loader, optimizer, mixed_precision, seed)
        self.loss_terms = list(loss_terms)
        self.covariates = covariates
        self.pruner = pruner
        self.task = task
        self.records = records
        self.identity = identity
        self.statistics = ImageStatistics(pruner.num_samples)

    def losses(self, data: Any) -> Dict[str, Tensor]:
        index = self.task.image_indices(data)
        per_image = {name: values.float() for name, values in self.forward(data).items()}
        weights = self.pruner.weights(index).to(self.device)
        terms = torch.stack([values.detach() for values in per_image.values()], dim=1)
        self._learn(index, list(per_image), terms.cpu(), data)
        return {name: (weights * values).mean() for name, values in per_image.items()}

    def _learn(self, index: Tensor, names: List[str], terms: Tensor, data: Any) -> None:
        """Moves the mask by the losses of all processes: (B,) indices, (B, terms) losses."""
        index, terms = (torch.cat(parts) for parts in zip(*comm.all_gather((index, terms))))
        covariates = None if self.covariates is None else self.covariates[index]
        try:
            self.pruner.update(index, self._loss_of_mask(names, terms), covariates)
        except FloatingPointError as error:
            images = ", ".join(self.task.describe(data, self.records))
            raise FloatingPointError(
                f"{error}. Images of this process's batch: {images}. A lower SOLVER.BASE_LR or "
                "SOLVER.CLIP_GRADIENTS usually helps"
            ) from error
        self.statistics.add(index, names, terms)

    def look_again(self, cfg: CfgNode) -> Tuple[Tensor, Optional[np.ndarray]]:
        """Makes the mask say what the model as it is now says of every image.

        Each process looks at a part, with the main one's running statistics.

        Returns:
            Losses (N,) of the images. In the main process, if REDUNDANCY asks for them, features (N, F).

        Raises:
            FloatingPointError: a loss that is not finite, with the images.
            ValueError: LOSS_TERMS that the model does not have.
        """
        model = unwrapped(self.model)
        synchronise_statistics(model)
        own = self.records[comm.get_rank() :: comm.get_world_size()]
        terms, features = self.task.losses_and_features(cfg, model, own)
        mine = self._loss_of_mask(list(terms), torch.stack(list(terms.values()), dim=1))
        losses = torch.from_numpy(_interleaved(comm.all_gather(mine.numpy())))
        self._judge(losses)
        if not cfg.ADAPRUNER.REDUNDANCY:
            return losses, None
        parts = comm.gather(features)
        return losses, _interleaved(parts) if parts else None

    def _judge(self, losses: Tensor) -> None:
        try:
            self.pruner.judge(losses, self.covariates)
        except FloatingPointError as error:
            wrong = [self.records[i] for i in (~losses.isfinite()).nonzero()[:5, 0].tolist()]
            images = ", ".join(f"{record['dataset_name']} {record['image_id']}" for record in wrong)
            raise FloatingPointError(
                f"{error} (the first: {images}). To go by what the visits said: --resume with "
                "ADAPRUNER.LAST_LOOK False"
            ) from error

    def _loss_of_mask(self, names: List[str], terms: Tensor) -> Tensor:
        """The sum of those terms (B, terms) that move the mask, (B,)."""
        if not self.loss_terms:
            return sum(terms.unbind(dim=1))
        unknown = [name for name in self.loss_terms if name not in names]
        if unknown:
            raise ValueError(
                f"ADAPRUNER.LOSS_TERMS names {', '.join(unknown)}, but the loss terms of "
                f"{type(unwrapped(self.model)).__name__} are {', '.join(names)}"
            )
        return sum(terms[:, names.index(name)] for name in self.loss_terms)

    def state_dict(self):
        """As without pruning, and the pruner's state with its per-image statistics."""
        return {
            **super().state_dict(),
            "pruner": self.pruner.state_dict(),
            "identity": self.identity,
            "loss_terms": self.loss_terms,
            "statistics": self.statistics.state_dict(),
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
        before = state_dict.get("loss_terms", [])
        if before != self.loss_terms:
            raise ValueError(
                f"ADAPRUNER.LOSS_TERMS was {before} when the run was started, is {self.loss_terms}: use "
                "those again, or start a new run in another OUTPUT_DIR"
            )
        super().load_state_dict(state_dict)
        self.pruner.load_state_dict(state_dict["pruner"])
        self.statistics.load_state_dict(state_dict["statistics"])


def _interleaved(parts: List[np.ndarray]) -> np.ndarray:
    """Rows of the n-th part, one of `parts`' number apart from the n-th row on."""
    if len(parts) == 1:
        return parts[0]
    rows = np.empty((sum(map(len, parts)), *parts[0].shape[1:]), parts[0].dtype)
    for n, part in enumerate(parts):
        rows[n :: len(parts)] = part
    return rows
