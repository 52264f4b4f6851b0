"""AdaPruner for any training loop that knows the loss of each sample.

    pruner = AdaPruner(len(dataset), keep_ratio=0.9, total_steps=steps, device=device)
    loss = (pruner.weights(index) * per_sample_loss).mean()      # then backward, optimizer step
    pruner.update(index, per_sample_loss.detach())
    kept = pruner.finish()                                       # after the last step

`index` holds the identity of each sample of the batch: a number from 0 to num_samples - 1 that stays with the sample
however the loader shuffles, never its position in the batch.
"""

from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from .loss_scale import LOSS_SCALES, LossScale, RunningMean
from .mask import Mask
from .objective import (
    COMPRESSION_SCALE,
    classification_loss,
    compression_loss,
    compression_weight,
    mask_gradient,
    selection_cost,
    selection_loss,
)

RATIO_CONTROLS = ("projection", "penalty")
_SAVED = "alpha step num_tied settled_at _checked_ratio _seen_in_epoch _steps_in_epoch _seen_while_pruning".split()


class RatioNotReachedError(RuntimeError):
    """The mask does not keep the ratio asked for, within the tolerance."""


@dataclass(frozen=True)
class Objective:
    """What moves the mask.

    Attributes:
        classification, selection, compression: the three terms of Eq. 7; off for the ablation of Table 5. Without
            compression nothing controls the ratio while the mask learns; it is imposed on the finished mask.
        compression_scale: s_scale of Eq. 7.
        ratio_control: "projection" shifts all logits once an epoch so that exactly c of them are above zero (Eq. 6 as a
            constraint); "penalty" is Eq. 6 and 7 with r for ||s||_1 / N, until the ratio comes to c: see `AdaPruner`.
        loss_scale: what losses are divided by: see `LossScale`.
        learning_rate: step of a logit a visit, on N times the gradient of Eq. 7.
        selection_weight: w of Eq. 5's term; the paper's is 1. L - w log L is smallest at L = w: with a low weight the
            mask keeps the easier images, with a high one the harder.
    """

    classification: bool = True
    selection: bool = True
    compression: bool = True
    compression_scale: float = COMPRESSION_SCALE
    ratio_control: str = "projection"
    loss_scale: str = "mean"
    learning_rate: float = 0.3
    selection_weight: float = 1.0

    def __post_init__(self) -> None:
        for name, known in (("ratio_control", RATIO_CONTROLS), ("loss_scale", LOSS_SCALES)):
            if getattr(self, name) not in known:
                raise ValueError(f"{name} is {getattr(self, name)!r}; it can be {' or '.join(map(repr, known))}")
        for name, instead in (
            ("selection_weight", "to leave the term out, selection=False"),
            ("learning_rate", "with 0 no logit would move"),
            ("compression_scale", "to leave the term out, compression=False"),
        ):
            if not 0 < getattr(self, name) < float("inf"):
                raise ValueError(f"{name} is a number above 0 ({instead}); got {getattr(self, name)}")

    @property
    def projects(self) -> bool:
        """Whether the ratio is held by projection while the mask learns."""
        return self.compression and self.ratio_control == "projection"

    @property
    def projects_at_end(self) -> bool:
        """Whether the finished mask is brought to the ratio; "penalty" has to get there itself."""
        return self.projects or not self.compression


class AdaPruner:
    """Learns one mask logit a sample while the model trains (Yang et al. 2023, Eq. 4-7).

    With ratio control "penalty" the gap abs(r - c) is checked at the end of each epoch, when every logit has had its
    step, and lambda (r - c) of that check holds for the next one. Once r is at c or below, all logits go back together,
    on the straight way the epoch took them, to where r is c, and stay there (docs/method.md says why).

    Args:
        num_samples: N, the size of the training set.
        keep_ratio: c, the share of the samples to keep, in (0, 1); at least one sample and not all.
        total_steps: how often `update` will be called.
        warmup_steps: how many of these come before pruning starts: the model trains on everything, the mask is fixed.
        alpha: scale of the sigmoid in the first and in the last epoch of pruning.
        objective: which terms move the mask, and how.
        tolerance: epsilon, how far the kept ratio may end from `keep_ratio`; half a sample is always allowed.
        device: where the logits live; `weights` returns its result there.
        num_classes: K of `class_counts`, for the loss scale "expected" alone.
        seed: of the draw between samples that are tied at the threshold.

    Raises:
        ValueError: a setting that cannot work, named.
    """

    def __init__(
        self,
        num_samples: int,
        keep_ratio: float,
        total_steps: int,
        *,
        warmup_steps: int = 0,
        alpha: "tuple[float, float]" = (0.1, 5.0),
        objective: Objective = Objective(),
        tolerance: float = 0.02,
        device: "torch.device | str" = "cpu",
        num_classes: int = 0,
        seed: int = 0,
    ):
        if not 0 <= warmup_steps < total_steps:
            raise ValueError(
                f"warm-up of {warmup_steps} steps leaves nothing of {total_steps} steps for pruning: make the run longer "
                "or the warm-up shorter"
            )
        if not 0 < alpha[0] <= alpha[1]:
            raise ValueError(f"alpha has to rise from above 0, not from {alpha[0]} to {alpha[1]}")
        self.num_to_keep = number_to_keep(num_samples, keep_ratio)
        self.keep_ratio, self.objective = keep_ratio, objective
        self.total_steps, self.warmup_steps, self.alphas = total_steps, warmup_steps, tuple(alpha)
        self.tolerance = max(tolerance, 0.5 / num_samples)
        self.mask = Mask(num_samples, device, seed)
        self.alpha = alpha[0]
        self.step = 0
        self.num_tied = 0  # samples at the threshold that could only be parted by drawing
        self.settled_at: int | None = None  # the step at which a penalty had brought the ratio to c
        self.last_terms: dict[str, float] = {}  # Eq. 4-6 on the last batch, to look at
        self._checked_ratio = 1.0  # r when the epoch began
        # With a penalty: the logits when the epoch began, until the mask has settled.
        self._epoch_start = None if objective.projects_at_end else self.mask.logits.clone()
        self._seen_in_epoch = self._steps_in_epoch = self._seen_while_pruning = 0
        self._loss_scale = LossScale(objective.loss_scale, num_samples, num_classes, device)
        self._mean_gradient = RunningMean(num_samples)

    @property
    def num_samples(self) -> int:
        return len(self.mask)

    @property
    def kept_ratio(self) -> float:
        """r: the share of samples kept now."""
        return self.mask.kept_ratio

    @property
    def warming_up(self) -> bool:
        return self.step < self.warmup_steps

    @property
    def compression_weight(self) -> float:
        """lambda of Eq. 7, of the gap when the epoch began."""
        return compression_weight(self._checked_ratio, self.keep_ratio, self.objective.compression_scale)

    def weights(self, index: Tensor) -> Tensor:
        """The weight of each sample's loss in Eq. 4: s (B,), or ones during warm-up."""
        index = self.mask.checked(index)
        if self.warming_up:
            return torch.ones(index.shape, device=self.mask.logits.device)
        return self.mask.soft(index, self.alpha)

    def update(
        self, index: Tensor, losses: Tensor, class_counts: Tensor | None = None, num_without_loss: int = 0
    ) -> None:
        """Moves the mask by what the model's losses on a batch say; call it once a step.

        Args:
            index: identity of each sample, (B,) integers in [0, N). A sample may occur twice.
            losses: task loss of each, (B,), not negative.
            class_counts: for the loss scale "expected", objects of each class in each sample, (B, K).
            num_without_loss: samples of the step that are left out, as their loss is not finite: they count as seen.

        Raises:
            IndexError, FloatingPointError, ValueError: an index outside [0, N); a loss that is not finite; a negative
                loss, shapes that differ, class_counts that are missing. Nothing has moved then.
        """
        losses = losses.detach().to(self.mask.logits)
        index = torch.as_tensor(index, device=losses.device)
        _check_losses(index, losses)
        self._loss_scale.check(len(losses), class_counts)
        index = self.mask.checked(index)
        if len(losses):
            self._learn(index, losses, class_counts)
        self._advance(len(losses) + num_without_loss)

    def finish(self) -> Tensor:
        """Ends pruning and binarises the mask: which samples are kept, (N,) bool.

        Samples tied at the threshold are drawn from by the seed; `num_tied` says how many there were.

        Raises:
            RatioNotReachedError: pruning was too short for every sample to be seen, or for a penalty to bring the ratio
                within the tolerance.
        """
        if self._seen_while_pruning < self.num_samples:
            raise RatioNotReachedError(
                f"pruning ended before it had seen all {self.num_samples} samples once: make the "
                "run longer (at least one epoch after the warm-up) or the warm-up shorter"
            )
        if self.objective.projects_at_end:
            self.num_tied = self.mask.project(self.num_to_keep)
        else:
            self._settle()
        if abs(self.kept_ratio - self.keep_ratio) > self.tolerance + 1e-9:
            lowest_in = float(self.mask.logits.kthvalue(self.num_samples - self.num_to_keep).values)
            raise RatioNotReachedError(
                f"the mask keeps {self.kept_ratio:.3f} of the samples, asked for were {self.keep_ratio:.3f} +- "
                f"{self.tolerance:.3f}: by the penalty of Eq. 6 and 7 the logit that had to come to zero came from 1 to "
                f"{lowest_in:.2f}: raise the mask's learning rate (ADAPRUNER.MASK.LR) or the length of the run, or use ratio "
                "control 'projection'"
            )
        return self.mask.hard()

    def state_dict(self) -> dict[str, Any]:
        """Everything `update` depends on, as tensors and plain Python values."""
        return {
            "settings": self._settings(),
            "mask": self.mask.state_dict(),
            "loss_scale": self._loss_scale.state_dict(),
            "mean_gradient": dict(vars(self._mean_gradient)),
            "epoch_start": None if self._epoch_start is None else self._epoch_start.clone(),
            **{name: getattr(self, name) for name in _SAVED},
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continues where the saved pruner stood; ValueError if that has other settings or another number of samples."""
        ours = self._settings()
        changed = [f"{k} was {v}, is {ours.get(k)}" for k, v in state["settings"].items() if v != ours.get(k)]
        if changed:
            raise ValueError(
                "cannot resume pruning with other settings than it was started with: "
                + "; ".join(changed)
                + ". Use those again, or start a new run elsewhere"
            )
        self.mask.load_state_dict(state["mask"])
        self._loss_scale.load_state_dict(state["loss_scale"])
        vars(self._mean_gradient).update(state["mean_gradient"])
        start = state["epoch_start"]
        self._epoch_start = None if start is None else start.to(self.mask.logits, copy=True)
        for name in _SAVED:
            setattr(self, name, state[name])

    def _settings(self) -> dict[str, Any]:
        steps = {"total_steps": self.total_steps, "warmup_steps": self.warmup_steps, "alpha": self.alphas}
        return {"keep_ratio": self.keep_ratio, **steps, **asdict(self.objective)}

    def _grad_soft(self, losses: Tensor) -> Tensor:
        """What Eq. 4 and 5 say of each sample: L - w log L, for losses brought to scale, (B,)."""
        grad_soft = torch.zeros_like(losses)
        if self.objective.classification:
            grad_soft = grad_soft + losses
        if self.objective.selection:
            grad_soft = grad_soft + self.objective.selection_weight * selection_cost(losses)
        return grad_soft

    def _learn(self, index: Tensor, losses: Tensor, class_counts: Tensor | None) -> None:
        self._loss_scale.add(losses, class_counts)
        scaled = self._loss_scale.scaled(losses, class_counts)
        grad_soft = self._grad_soft(scaled)
        self._note_terms(index, losses, scaled)
        if not self.warming_up and self.settled_at is None:
            self._move(index, grad_soft)
        self._mean_gradient.add(grad_soft)

    def _note_terms(self, index: Tensor, losses: Tensor, scaled: Tensor) -> None:
        s = 1.0 if self.warming_up else self.mask.soft(index, self.alpha)
        self.last_terms = {
            "classification_loss": float(classification_loss(s, losses)),
            "selection_loss": float(selection_loss(s, scaled)),
            "compression_loss": float(compression_loss(self.kept_ratio, self.keep_ratio)),
        }

    def _move(self, index: Tensor, grad_soft: Tensor) -> None:
        if self.objective.projects:
            # The multiplier of the constraint: what all samples have in common moves no sample past another, except by
            # how often it happened to be visited.
            grad_soft = grad_soft - (self._mean_gradient.value() if self._mean_gradient.known else grad_soft.mean())
        elif self.objective.compression:
            # Eq. 6 with r, the ratio kept, for ||s||_1 / N: see docs/method.md.
            grad_soft = grad_soft + 2 * self.compression_weight * (self._checked_ratio - self.keep_ratio)
        gradient = mask_gradient(self.mask.logits[index], self.alpha, grad_soft)
        self.mask.step(index, -self.objective.learning_rate * gradient)

    def _advance(self, seen: int) -> None:
        """Counts a step; epochs are counted from the first step on, so that they end where a loader's do."""
        pruned = not self.warming_up
        self.step += 1
        self._seen_while_pruning += seen if pruned else 0
        self._seen_in_epoch += seen
        self._steps_in_epoch += 1
        if self._seen_in_epoch >= self.num_samples:
            if pruned:
                self._end_pruning_epoch()
            self._seen_in_epoch %= self.num_samples
            self._steps_in_epoch = 0
            self._loss_scale.next_epoch()
            self._mean_gradient.next_epoch()

    def _end_pruning_epoch(self) -> None:
        """The one place where a step touches all N samples."""
        self.alpha = self._next_alpha()
        if self.objective.projects:
            self.mask.project(self.num_to_keep)
        elif not self.objective.projects_at_end:
            self._settle()
        self._checked_ratio = self.kept_ratio

    def _next_alpha(self) -> float:
        """Alpha of the epoch that starts now: it rises evenly, and the last whole epoch gets the last."""
        until_last_epoch = self.total_steps - self.warmup_steps - self._steps_in_epoch
        progress = (self.step - self.warmup_steps) / until_last_epoch if until_last_epoch > 0 else 1.0
        first, last = self.alphas
        return first + (last - first) * min(1.0, progress)

    def _settle(self) -> None:
        """With a penalty, at the end of an epoch: if that has brought the ratio to c or below, c is where it stays."""
        if self.settled_at is not None or self._seen_while_pruning < self.num_samples:
            return
        assert self._epoch_start is not None
        if self.mask.num_kept > self.num_to_keep:
            self._epoch_start.copy_(self.mask.logits)
            return
        self.num_tied = self.mask.walk_back(self._epoch_start, self.num_to_keep)
        self.settled_at, self._epoch_start = self.step, None


def number_to_keep(num_samples: int, keep_ratio: float) -> int:
    """round(c N). Raises ValueError if that is none of the samples or all of them, or c is no share."""
    if not 0 < keep_ratio < 1:
        raise ValueError(f"keep_ratio is the share of samples that stays, above 0 and below 1; got {keep_ratio}")
    if num_samples < 2:
        raise ValueError(f"{num_samples} samples are too few to prune")
    number = round(keep_ratio * num_samples)
    if not 0 < number < num_samples:
        raise ValueError(
            f"keep_ratio {keep_ratio} of {num_samples} samples is {'none' if number == 0 else 'all'} of them: use a "
            f"ratio from {1 / num_samples:.2g} to {1 - 1 / num_samples:.6g}, or more samples"
        )
    return number


def _check_losses(index: Tensor, losses: Tensor) -> None:
    if losses.shape != index.shape:
        raise ValueError(f"one loss a sample is needed: {tuple(index.shape)} indices, {tuple(losses.shape)} losses")
    finite = torch.isfinite(losses)
    if not finite.all():
        bad = index[~finite].tolist()
        raise FloatingPointError(f"losses of samples {bad} are not finite; the mask was not moved")
    if (losses < 0).any():
        raise ValueError(f"losses of samples {index[losses < 0].tolist()} are negative: Eq. 5 takes their logarithm")
