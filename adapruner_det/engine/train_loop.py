"""One training step: Detectron2's, in mixed precision on any device, and AdaPruner's."""
import time
from typing import Dict, List

import torch
from detectron2.engine import SimpleTrainer
from detectron2.utils import comm
from torch import Tensor

from ..pruning import AdaPruner


class MixedPrecisionTrainer(SimpleTrainer):
    """SimpleTrainer whose forward pass may run in bfloat16, on CPU and on CUDA alike.

    bfloat16 has float32's range, so no loss scaling is needed (Detectron2's AMPTrainer, which
    scales float16 losses, runs on CUDA only).
    """

    def __init__(self, model, data_loader, optimizer, mixed_precision: bool = False):
        super().__init__(model, data_loader, optimizer)
        self.device = next(model.parameters()).device
        self.mixed_precision = mixed_precision

    def run_step(self):
        """Detectron2's step with `losses` in place of the bare forward pass."""
        assert self.model.training, "model was changed to eval mode"
        start = time.perf_counter()
        data = next(self._data_loader_iter)
        data_time = time.perf_counter() - start
        losses = self.losses(data)
        self.optimizer.zero_grad()
        sum(losses.values()).backward()
        self._write_metrics(losses, data_time)
        self.optimizer.step()

    def losses(self, data: List[dict]) -> Dict[str, Tensor]:
        """The scalars whose sum is minimised."""
        return self.forward(data)

    def forward(self, data: List[dict]) -> Dict[str, Tensor]:
        """The model's dict of losses."""
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.mixed_precision):
            return self.model(data)

    def state_dict(self):
        """Adds the random number generators, so that a resumed run draws what the first one would."""
        state = {**super().state_dict(), "rng": torch.get_rng_state()}
        if self.device.type == "cuda":
            state["cuda_rng"] = torch.cuda.get_rng_state(self.device)
        return state

    def load_state_dict(self, state_dict):
        super().load_state_dict(state_dict)
        if comm.get_world_size() > 1:
            return  # rank 0's state is the one saved: it must not be repeated on every rank
        if "rng" in state_dict:
            torch.set_rng_state(state_dict["rng"])
        if "cuda_rng" in state_dict and self.device.type == "cuda":
            torch.cuda.set_rng_state(state_dict["cuda_rng"], self.device)


class AdaPrunerStep(MixedPrecisionTrainer):
    """Weights each image's loss by its mask (Eq. 4) and lets the losses move the mask (Eq. 5-7).

    The model has to return one value an image for each loss term. Every process applies the updates
    of all processes, in rank order, so that all hold the same mask.

    Args:
        pruner: the mask over the images the loader draws from, by their `image_index`.
        identity: fingerprint of these images in their order. A checkpoint of other images is refused.
    """

    def __init__(
        self,
        model,
        data_loader,
        optimizer,
        pruner: AdaPruner,
        identity: str,
        mixed_precision: bool = False,
    ):
        super().__init__(model, data_loader, optimizer, mixed_precision)
        self.pruner = pruner
        self.identity = identity
        self.visits = torch.zeros(pruner.num_samples, dtype=torch.long)
        self.loss_sum = torch.zeros(pruner.num_samples, dtype=torch.float64)
        self.last_loss = torch.full((pruner.num_samples,), float("nan"))

    def losses(self, data: List[dict]) -> Dict[str, Tensor]:
        index = torch.tensor([record["image_index"] for record in data])
        per_image = {name: values.float() for name, values in self.forward(data).items()}
        total = sum(values.detach() for values in per_image.values())
        weights = self.pruner.weights(index).to(total.device)
        self._learn(index, total.cpu(), data)
        return {name: (weights * values).mean() for name, values in per_image.items()}

    def _learn(self, index: Tensor, total: Tensor, data: List[dict]) -> None:
        index, total = (torch.cat(parts) for parts in zip(*comm.all_gather((index, total))))
        try:
            self.pruner.update(index, total)
        except FloatingPointError as error:
            names = [record["file_name"] for record in data]
            raise FloatingPointError(
                f"{error}. Images of this process's batch: {', '.join(names)}. A lower "
                "SOLVER.BASE_LR or SOLVER.CLIP_GRADIENTS usually helps"
            ) from error
        self.visits.index_add_(0, index, torch.ones_like(index))
        self.loss_sum.index_add_(0, index, total.double())
        self.last_loss[index] = total

    def image_statistics(self) -> Dict[str, list]:
        """visits, mean_loss and last_loss of every sample; None where it was never visited."""
        mean = (self.loss_sum / self.visits).tolist()
        seen = (self.visits > 0).tolist()
        return {
            "visits": self.visits.tolist(),
            "mean_loss": [m if known else None for m, known in zip(mean, seen)],
            "last_loss": [m if known else None for m, known in zip(self.last_loss.tolist(), seen)],
        }

    def state_dict(self):
        """The optimizer's state, and the pruner's with its per-image statistics."""
        return {
            **super().state_dict(),
            "pruner": self.pruner.state_dict(),
            "identity": self.identity,
            "visits": self.visits.clone(),
            "loss_sum": self.loss_sum.clone(),
            "last_loss": self.last_loss.clone(),
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
        self.visits.copy_(state_dict["visits"])
        self.loss_sum.copy_(state_dict["loss_sum"])
        self.last_loss.copy_(state_dict["last_loss"])
