"""One training step: Detectron2's, in mixed precision on any device, and AdaPruner's."""

import copy
import logging
import math
import time
from collections.abc import Sequence
from typing import Any, cast

import numpy as np
import torch
from detectron2.engine import SimpleTrainer
from detectron2.utils import comm
from scipy.sparse import csr_matrix
from torch import Tensor

from ..pruning import AdaPruner
from ..pruning.statistics import most_without_numbers
from .distributed import gathered, unwrapped
from .precision import autocast
from .tasks import Task

logger = logging.getLogger(__name__)


class MixedPrecisionTrainer(SimpleTrainer):
    """SimpleTrainer whose forward pass may run in bfloat16 (see `autocast`), on CPU and on CUDA alike.

    Args:
        seed: of what the model draws at random (proposals, dropout); None leaves torch's state alone.
    """

    def __init__(self, model, data_loader, optimizer, mixed_precision: bool = False, seed: int | None = None):
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
        self.after_backward()
        self._write_metrics(self.metrics(losses), data_time)
        self.optimizer.step()

    def metrics(self, losses: dict[str, Tensor]) -> dict[str, Tensor]:
        """What is logged of the losses, after `after_backward`."""
        return losses

    def losses(self, data: Any) -> dict[str, Tensor]:
        """The scalars whose sum is minimised."""
        return self.forward(data)

    def forward(self, data: Any) -> dict[str, Tensor]:
        """The model's dict of losses."""
        with autocast(self.device, self.mixed_precision):
            return self.model(data)

    def _seed(self) -> None:
        """Makes what the model draws at random depend on seed, process and iteration alone, also in a resumed run."""
        if self.seed is not None:
            sequence = np.random.SeedSequence([self.seed, comm.get_rank(), self.iter])
            torch.manual_seed(int(sequence.generate_state(1)[0]))

    def state_dict(self):
        """The optimizer's state, and what RetinaNet and FCOS divide by, which is not part of their weights."""
        state = super().state_dict()
        model = unwrapped(self.model)
        if hasattr(model, "loss_normalizer"):
            state["loss_normalizer"] = model.loss_normalizer
        return state

    def load_state_dict(self, state_dict):
        super().load_state_dict(state_dict)
        if "loss_normalizer" in state_dict:
            unwrapped(self.model).loss_normalizer = state_dict["loss_normalizer"]


class Visits:
    """How often each of N images was visited, its last loss, and the sum of each loss term, 4 bytes each.

    For people to look at; the mask does not depend on it.
    """

    def __init__(self, num_images: int):
        self.visits = torch.zeros(num_images, dtype=torch.int32)
        self.last_loss = torch.full((num_images,), float("nan"))
        self.term_sums: dict[str, Tensor] = {}
        self.non_finite = torch.zeros(num_images, dtype=torch.int32)  # visits with a loss that is no number

    def add(self, index: Tensor, names: list[str], terms: Tensor) -> None:
        """Notes a batch: identities (B,), names of T loss terms, their values (B, T)."""
        self.visits.index_add_(0, index, torch.ones_like(index, dtype=torch.int32))
        self.last_loss[index] = sum(terms.unbind(dim=1))
        for name, values in zip(names, terms.unbind(dim=1)):
            sums = self.term_sums.setdefault(name, torch.zeros(len(self.visits)))
            sums.index_add_(0, index, values)

    def columns(self) -> dict[str, list]:
        """visits, mean_loss, last_loss and mean_<term> of every image; None where never visited."""
        terms = self.term_sums if len(self.term_sums) > 1 else {}
        columns = {
            "mean_loss": sum(self.term_sums.values(), torch.zeros(len(self.visits))) / self.visits,
            "last_loss": self.last_loss,
            **{f"mean_{name}": sums / self.visits for name, sums in terms.items()},
        }
        known = {name: [None if math.isnan(v) else v for v in values.tolist()] for name, values in columns.items()}
        if self.non_finite.any():
            known["non_finite_losses"] = self.non_finite.tolist()
        return {"visits": self.visits.tolist(), **known}

    def state_dict(self) -> dict:
        return copy.deepcopy(vars(self))

    def load_state_dict(self, state: dict) -> None:
        vars(self).update(copy.deepcopy(state))


def is_loss(values: Tensor) -> Tensor:
    """Which of the values the mask can go by: finite and not negative."""
    return (values >= 0) & (values < math.inf)


class AdaPrunerStep(MixedPrecisionTrainer):
    """Weights each image's loss by its mask (Eq. 4) and lets the losses move the mask (Eq. 5-7).

    The model has to return one value an image for each loss term. Every process applies the updates
    of all processes, in rank order, so that all hold the same mask.

    An image whose loss is not finite, or negative, which Eq. 5 has no logarithm of, is named, and left out of the step:
    neither its mask nor the model moves by it.
    After so many images as `most_without_numbers` says the run ends.

    Args:
        pruner: the mask over `records`, by their `image_index`.
        task: how to read a batch.
        records: what the loader draws from.
        class_counts: sparse (N, K), what the mask may expect each image's loss by; see `AdaPruner.update`.
    """

    def __init__(
        self,
        model,
        data_loader,
        optimizer,
        pruner: AdaPruner,
        task: Task,
        records: Sequence[dict],
        mixed_precision: bool = False,
        seed: int | None = None,
        class_counts: csr_matrix | None = None,
    ):
        super().__init__(model, data_loader, optimizer, mixed_precision, seed)
        self.pruner = pruner
        self.task = task
        self.records = records
        self.class_counts = class_counts
        self.visits = Visits(pruner.num_samples)

    def losses(self, data: Any) -> dict[str, Tensor]:
        index = self.task.image_indices(data)
        per_image = {name: values.float() for name, values in self.forward(data).items()}
        weights = self.pruner.weights(index)
        self._batch = index, weights, {name: values.detach() for name, values in per_image.items()}
        finite = is_loss(cast(Tensor, sum(per_image.values())))
        own = weights.to(self.device, non_blocking=True)
        return {name: (own * torch.where(finite, values, 0.0)).mean() for name, values in per_image.items()}

    def after_backward(self) -> None:
        """The one moment at which a step waits for a GPU: the losses come, and the mask learns of those of all processes."""
        index, weights, per_image = self._batch
        terms = torch.stack(list(per_image.values()), dim=1).cpu()
        finite = is_loss(terms.sum(dim=1))
        own = weights[:, None] * torch.where(finite[:, None], terms, 0.0)
        self._metrics = dict(zip(per_image, own.mean(dim=0)))
        if not self._learn(index, list(per_image), terms):
            self._drop_spoilt_gradients()

    def metrics(self, losses: dict[str, Tensor]) -> dict[str, Tensor]:
        return self._metrics  # they are here already

    def _learn(self, own: Tensor, names: list[str], terms: Tensor) -> bool:
        """Moves the mask by the losses of all processes: (B,) own indices, (B, terms) losses. Whether all are finite."""
        index, terms = gathered(own, terms)
        finite = is_loss(terms.sum(dim=1))
        without_loss, index, terms = index[~finite], index[finite], terms[finite]
        if len(without_loss):
            self._note_non_finite(without_loss)
        counts = self.class_counts
        class_counts = None if counts is None else torch.from_numpy(counts[index.numpy()].toarray())
        self.pruner.update(index, terms.sum(dim=1), class_counts, len(without_loss))
        self.visits.add(index, names, terms)
        return not len(without_loss)

    def _note_non_finite(self, index: Tensor) -> None:
        """Names the images `index` (B,); raises FloatingPointError, with all of them, once they are too many."""
        counts = self.visits.non_finite
        new = [i for i in index.unique().tolist() if not counts[i]]
        counts.index_add_(0, index, torch.ones_like(index, dtype=torch.int32))
        for i in new:
            logger.warning(
                f"iteration {self.iter}: the loss of {self._name(i)} is not finite or below 0; its mask stays as it is, "
                "and the step does without it"
            )
        found = counts.nonzero().flatten().tolist()
        if len(found) > most_without_numbers(len(counts)):
            raise FloatingPointError(
                f"iteration {self.iter}: the losses of {len(found)} of {len(counts)} images have not been finite, or "
                f"below 0: {', '.join(map(self._name, found))}. If these images are sound, a lower SOLVER.BASE_LR or "
                "SOLVER.CLIP_GRADIENTS usually helps; a model whose loss is meant to fall below 0 cannot prune"
            )

    def _name(self, i: int) -> str:
        return f"{self.records[i]['dataset_name']} {self.records[i]['image_id']}"

    def _drop_spoilt_gradients(self) -> None:
        """Throws the gradients away where an image without a finite loss has spoilt them, though its loss counts 0."""
        gradients = (p.grad for p in self.model.parameters() if p.grad is not None)
        if not all(bool(gradient.isfinite().all()) for gradient in gradients):
            self.optimizer.zero_grad()

    def state_dict(self):
        """As without pruning, and the pruner's state with what it remembers of each image."""
        return {
            **super().state_dict(),
            "pruner": self.pruner.state_dict(),
            "visits": self.visits.state_dict(),
        }

    def load_state_dict(self, state_dict):
        if "pruner" not in state_dict:
            raise ValueError(
                "the checkpoint holds no mask: it is from a training without ADAPRUNER.ENABLED; start "
                "the pruning run in another OUTPUT_DIR"
            )
        super().load_state_dict(state_dict)
        self.pruner.load_state_dict(state_dict["pruner"])
        self.visits.load_state_dict(state_dict["visits"])
