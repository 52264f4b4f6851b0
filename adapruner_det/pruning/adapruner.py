"""AdaPruner for any training loop that knows the loss of each sample.

    pruner = AdaPruner(len(dataset), keep_ratio=0.9, total_steps=steps, device=device)
    loss = (pruner.weights(index) * per_sample_loss).mean()      # then backward, optimizer step
    pruner.update(index, per_sample_loss.detach())

`index` holds the identity of each sample of the batch, a number from 0 to num_samples - 1 that
stays with the sample however the loader shuffles; never its position in the batch.
"""
from dataclasses import asdict, dataclass
from typing import Optional

import torch
from torch import Tensor

from .groups import quotas
from .loss_scale import ExpectedLoss, LossQuantile
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
from .running_mean import RunningMean
from .schedule import Schedule

RATIO_CONTROLS = ("projection", "penalty")
LOSS_SCALES = ("mean", "none", "expected", "quantile")
_CHUNK = 1 << 16  # samples at a time, where all are looked at


class RatioNotReachedError(RuntimeError):
    """The mask does not keep the ratio asked for, within the tolerance."""


@dataclass(frozen=True)
class Objective:
    """What moves the mask.

    Attributes:
        classification, selection, compression: the three terms of Eq. 7; off for the ablation of
            Table 5. Without compression nothing controls the ratio while the mask learns, and it is
            imposed once, on the finished mask.
        selection_weight: w of Eq. 5's term; the paper's is 1. L - w log L is smallest at L = w: with a
            low weight the mask keeps the easier images, with a high one the harder.
        compression_scale: s_scale of Eq. 7.
        ratio_control: "projection" shifts all logits once an epoch so that exactly c of them are
            above zero (Eq. 6 as a constraint); "penalty" is Eq. 6 and 7 with r for ||s||_1 / N, which
            overshoots.
        loss_scale: "mean" divides each loss by the mean loss of the epoch before, so that
            L - log L, smallest at L = 1, means the same for a cross-entropy and for a detector's
            summed loss; "none" takes the loss as it is; "expected" divides it by what samples with
            such covariates usually cost (`ExpectedLoss`); "quantile" by a quantile of the losses of
            the epoch before.
        loss_quantile: which, in (0, 1), for "quantile".
        learning_rate: step of a logit a visit, on N times the gradient of Eq. 7.
    """

    classification: bool = True
    selection: bool = True
    compression: bool = True
    compression_scale: float = COMPRESSION_SCALE
    ratio_control: str = "projection"
    loss_scale: str = "mean"
    learning_rate: float = 0.3
    loss_quantile: float = 0.5
    selection_weight: float = 1.0

    def __post_init__(self):
        for name, value, known in (
            ("ratio_control", self.ratio_control, RATIO_CONTROLS),
            ("loss_scale", self.loss_scale, LOSS_SCALES),
        ):
            if value not in known:
                raise ValueError(f"{name} is {value!r}; it can be {' or '.join(map(repr, known))}")
        if not 0 < self.loss_quantile < 1:
            raise ValueError(f"loss_quantile is a share above 0 and below 1; got {self.loss_quantile}")
        if not 0 < self.selection_weight < float("inf"):
            raise ValueError(
                f"selection_weight is a number above 0 (to leave the term out, selection=False); got "
                f"{self.selection_weight}"
            )

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

    Args:
        num_samples: N, the size of the training set.
        keep_ratio: c, the share of the samples to keep, in (0, 1).
        total_steps: how often `update` will be called.
        warmup_steps: how many of these come before pruning starts.
        alpha: first and last scale of the sigmoid.
        objective: which terms move the mask, and how.
        tolerance: epsilon, how far the kept ratio may end from `keep_ratio`; half a sample is
            always allowed.
        device: where the logits live; `weights` returns its result there.
        groups: id of each sample's group, (N,) integers from 0, such as its class: every group is then
            held to `keep_ratio` by itself, and keeps one sample at least. None balances nothing.
        mask: the mask to learn, where it is not one on `device` that holds all N samples: a
            `ShardedMask`, which then brings its own device and groups.
        num_covariates: K, how many numbers tell what to expect of a sample's loss; for the loss scale
            "expected" alone.

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
        groups: Optional[Tensor] = None,
        mask: Optional[Mask] = None,
        num_covariates: int = 0,
    ):
        if num_samples < 2:
            raise ValueError(f"{num_samples} samples are too few to prune")
        if not 0 < keep_ratio < 1:
            raise ValueError(
                f"keep_ratio is the share of samples that stays, above 0 and below 1; got {keep_ratio}"
            )
        self.keep_ratio = keep_ratio
        self.tolerance = max(tolerance, 0.5 / num_samples)
        self.objective = objective
        self.schedule = Schedule(total_steps, warmup_steps, *alpha)
        self.mask = Mask(num_samples, device, groups) if mask is None else mask
        self._check_mask(num_samples, groups)
        self.num_to_keep = quotas(
            self.mask.group_sizes,
            min(max(1, round(keep_ratio * num_samples)), num_samples - 1),
        )
        self.alpha = alpha[0]
        self.step = 0
        # Samples kept at the end of the last epoch that were pruned at the end of the one before.
        self.num_came_back = 0
        self._kept_before: Optional[Tensor] = None
        self.num_tied = 0  # samples at the threshold that `finish` could only part by drawing
        self.last_terms: "dict[str, float]" = {}  # Eq. 4-6 on the last batch, to look at
        self._seen_in_epoch = 0
        self._steps_in_epoch = 0
        self._pruning_epochs = 0
        sizes = self.mask.group_sizes
        self._mean_loss = RunningMean(sizes.sum().reshape(1))
        self._mean_force = RunningMean(sizes.sum().reshape(1))
        self._mean_force_of_group = RunningMean(sizes)
        self._loss_scale = self._make_loss_scale(num_covariates)

    def _check_mask(self, num_samples: int, groups: Optional[Tensor]) -> None:
        if len(self.mask) != num_samples:
            raise ValueError(f"the mask is for {len(self.mask)} samples, not for {num_samples}")
        if groups is not None and self.mask.groups is None:
            raise ValueError("give the groups to the mask, since it may not hold all samples")
        if self.mask.groups is not None and not self.objective.projects_at_end:
            raise ValueError(
                "groups are held to the ratio by projection: use ratio control 'projection', or none "
                "(compression off), with groups"
            )

    def _make_loss_scale(self, num_covariates: int) -> "ExpectedLoss | LossQuantile | None":
        """What knows more of the losses than their mean, where it is asked for."""
        device = self.mask.logits.device
        if self.objective.loss_scale == "expected":
            return ExpectedLoss(num_covariates, self.num_samples, device)
        if self.objective.loss_scale == "quantile":
            return LossQuantile(self.objective.loss_quantile, self.num_samples, device)
        return None

    @property
    def num_samples(self) -> int:
        return len(self.mask)

    @property
    def kept_ratio(self) -> float:
        """r: the share of samples kept now."""
        return self.mask.kept_ratio

    @property
    def warming_up(self) -> bool:
        return self.step < self.schedule.warmup_steps

    @property
    def compression_weight(self) -> float:
        """lambda of Eq. 7 now."""
        return compression_weight(
            self.kept_ratio, self.keep_ratio, self.objective.compression_scale
        )

    def weights(self, index: Tensor) -> Tensor:
        """The weight of each sample's loss in Eq. 4: s (B,), or ones during warm-up."""
        place = self.mask.place(index)
        if self.warming_up:
            return torch.ones(place.shape, device=self.mask.logits.device)
        return self.mask.soft(place, self.alpha)

    def update(self, index: Tensor, losses: Tensor, covariates: Optional[Tensor] = None) -> None:
        """Moves the mask by what the model's losses on a batch say; call it once a step.

        Args:
            index: identity of each sample, (B,) integers in [0, N). A sample may occur twice.
            losses: task loss of each, (B,), not negative.
            covariates: what the loss scale "expected" goes by, (B, K), not negative; for a detector the
                number of boxes of each class.

        Raises:
            IndexError: an index outside [0, N), or of a sample that a sharded mask does not hold.
            FloatingPointError: a loss that is not finite, with the indices.
            ValueError: a negative loss, of which Eq. 5 has no logarithm, shapes that differ, or
                covariates that are missing.
            RuntimeError: another process, of a sharded mask, refused its batch.
        """
        losses = losses.detach().to(self.mask.logits)
        place, loss_sum, seen = self._examined(index, losses, covariates)
        self._mean_loss.add(loss_sum, seen)
        if self._loss_scale is not None:
            self._loss_scale.add(losses, covariates)
        scaled = self._scaled(losses, covariates)
        force = self._force(scaled)
        self._note_terms(place, losses, scaled)
        if not self.warming_up:
            self._move(place, force)
        self._note_force(place, force)
        self._advance(int(seen))

    def judge(self, losses: Tensor, covariates: Optional[Tensor] = None) -> None:
        """After the last `update`: makes the mask say what the finished model's losses do.

        While the model learns, a sample's loss also tells when it was visited, how it was augmented and
        with whom it shared a batch; here all are measured by one model. What Eq. 4 and 5 say of them is
        the same, brought to scale by these very losses, and so is the ratio.

        Args:
            losses: of all samples, (N,), in evaluation mode; with a sharded mask, of those held here.
            covariates: as of `update`, (N, K).

        Raises:
            ValueError: no projection holds the ratio.
            FloatingPointError, ValueError, RuntimeError: as of `update`; the mask is what it was.
        """
        if not self.objective.projects_at_end:
            raise ValueError("to judge by the finished model takes ratio_control 'projection'")
        losses = losses.detach().to(self.mask.logits)
        owned = self.mask.owned
        here, loss_sum, seen = self._examined(torch.arange(owned.start, owned.stop), losses, covariates)
        mean = max(loss_sum / seen, 1e-12)
        scale = self._make_loss_scale(0 if covariates is None else covariates.shape[1])
        if scale is not None:
            for part in here.split(_CHUNK):
                scale.add(losses[part], None if covariates is None else covariates[part])
            scale.next_epoch(self.mask.total)
        for part in here.split(_CHUNK):
            own = None if covariates is None else covariates[part]
            divisor = 1.0 if self.objective.loss_scale == "none" else mean if scale is None else scale.of(own, mean)
            self.mask.logits[part] = -self.objective.learning_rate * self._force(losses[part] / divisor)

    def finish(self) -> Tensor:
        """Ends pruning and binarises the mask: which samples are kept, (N,) bool.

        Samples tied at the threshold, such as those whose losses have long been zero, are drawn from
        with a fixed seed, so that the ratio is exact; `num_tied` says how many there were.

        With a sharded mask, which of the samples held here; every process has to call it.

        Raises:
            RatioNotReachedError: the ratio, or that of a group, is further than the tolerance from
                the one asked for, or pruning was too short for every sample to be seen.
        """
        if not self._pruning_epochs:
            raise RatioNotReachedError(
                f"pruning ended before it had seen all {self.num_samples} samples once: make the "
                "run longer (at least one epoch after the warm-up) or the warm-up shorter"
            )
        if self.objective.projects_at_end:
            self.mask.project(self.num_to_keep)
            self.num_tied = self.mask.break_ties(self.num_to_keep)
            self._check_groups(self.mask.kept_by_group())
        if abs(self.kept_ratio - self.keep_ratio) > self.tolerance + 1e-9:
            raise RatioNotReachedError(
                f"the mask keeps {self.kept_ratio:.3f} of the samples, asked for were "
                f"{self.keep_ratio:.3f} +- {self.tolerance:.3f}: "
                + (
                    "too many samples have the same mask logit; train longer or with a larger "
                    "learning rate of the mask"
                    if self.objective.projects_at_end
                    else "the penalty of Eq. 6 and 7 alone did not hold it; use ratio control "
                    "'projection', or other learning rates and scales"
                )
            )
        return self.mask.hard()

    def _check_groups(self, kept: Tensor) -> None:
        """Raises RatioNotReachedError where ties kept a group from its ratio."""
        wanted, sizes = self.num_to_keep.to(kept.device), self.mask.group_sizes
        allowed = (self.tolerance * sizes).clamp(min=0.5) + 1e-9
        off = ((kept - wanted).abs() > allowed).nonzero().flatten().tolist()
        if self.mask.groups is not None and off:
            some = ", ".join(f"{g} ({int(kept[g])} of {int(sizes[g])})" for g in off[:5])
            raise RatioNotReachedError(
                f"the mask does not keep {self.keep_ratio:.3f} of {len(off)} groups, such as {some}: too "
                "many of their samples have the same mask logit; train longer or with a larger "
                "learning rate of the mask"
            )

    def state_dict(self) -> dict:
        """Everything `update` depends on, as tensors and plain Python values."""
        return {
            "mask": self.mask.state_dict(),
            "settings": self._settings(),
            "alpha": self.alpha,
            "step": self.step,
            "seen_in_epoch": self._seen_in_epoch,
            "steps_in_epoch": self._steps_in_epoch,
            "pruning_epochs": self._pruning_epochs,
            "num_came_back": self.num_came_back,
            "kept_before": None if self._kept_before is None else self._kept_before.clone(),
            "mean_loss": self._mean_loss.state_dict(),
            "mean_force": self._mean_force.state_dict(),
            "mean_force_of_group": self._mean_force_of_group.state_dict(),
            **({"loss_scale": self._loss_scale.state_dict()} if self._loss_scale is not None else {}),
        }

    def load_state_dict(self, state: dict) -> None:
        """Continues where the saved pruner stood.

        Raises:
            ValueError: the saved state belongs to other settings, other groups or another number of
                samples.
        """
        ours = self._settings()
        changed = [
            f"{k} was {v}, is {ours.get(k)}" for k, v in state["settings"].items() if v != ours.get(k)
        ]
        if changed:
            raise ValueError(
                "cannot resume pruning with other settings than it was started with: "
                + "; ".join(changed)
                + ". Use those again, or start a new run elsewhere"
            )
        self.mask.load_state_dict(state["mask"])
        self.alpha = state["alpha"]
        self.step = state["step"]
        self._seen_in_epoch = state["seen_in_epoch"]
        self._steps_in_epoch = state["steps_in_epoch"]
        self._pruning_epochs = state["pruning_epochs"]
        self.num_came_back = state.get("num_came_back", 0)
        self._kept_before = state.get("kept_before")
        self._mean_loss.load_state_dict(state["mean_loss"])
        self._mean_force.load_state_dict(state["mean_force"])
        self._mean_force_of_group.load_state_dict(state["mean_force_of_group"])
        if self._loss_scale is not None:
            self._loss_scale.load_state_dict(state["loss_scale"])

    def _settings(self) -> dict:
        return {
            "keep_ratio": self.keep_ratio,
            **asdict(self.schedule),
            **asdict(self.objective),
        }

    def _examined(
        self, index: Tensor, losses: Tensor, covariates: Optional[Tensor]
    ) -> "tuple[Tensor, float, float]":
        """Places of a batch that no process refuses; sum and number of the losses of all processes."""
        place, refusal = self._examine(index, losses, covariates)
        batch = (0.0, 0) if refusal else (_sum(losses), len(losses))
        refused, loss_sum, seen = self.mask.totals(float(refusal is not None), *batch)
        if refused:
            raise refusal or RuntimeError(
                "another process refused its batch (its error says why); the mask was not moved"
            )
        return place, loss_sum, seen

    def _examine(
        self, index: Tensor, losses: Tensor, covariates: Optional[Tensor]
    ) -> "tuple[Tensor, Exception | None]":
        """Places of a batch, and what is wrong with it: every process has to hear before it is raised."""
        try:
            index = torch.as_tensor(index, device=losses.device)
            self._check_losses(index, losses)
            if self._loss_scale is not None:
                self._loss_scale.check(len(losses), covariates)
            return self.mask.place(index), None
        except (IndexError, FloatingPointError, ValueError) as error:
            return index, error

    @staticmethod
    def _check_losses(index: Tensor, losses: Tensor) -> None:
        if losses.shape != index.shape:
            raise ValueError(
                f"one loss a sample is needed: {tuple(index.shape)} indices, "
                f"{tuple(losses.shape)} losses"
            )
        finite = torch.isfinite(losses)
        if not finite.all():
            raise FloatingPointError(
                f"losses of samples {_first(index[~finite])} are not finite; the mask was not moved"
            )
        if (losses < 0).any():
            raise ValueError(
                f"losses of samples {_first(index[losses < 0])} are negative: Eq. 5 takes their "
                "logarithm"
            )

    def _force(self, losses: Tensor) -> Tensor:
        """What Eq. 4 and 5 say of each sample: L - w log L, for losses brought to scale, (B,)."""
        force = torch.zeros_like(losses)
        if self.objective.classification:
            force = force + losses
        if self.objective.selection:
            force = force + self.objective.selection_weight * selection_cost(losses)
        return force

    def _note_terms(self, place: Tensor, losses: Tensor, scaled: Tensor) -> None:
        s = 1.0 if self.warming_up else self.mask.soft(place, self.alpha)
        self.last_terms = {
            "classification_loss": float(classification_loss(s, losses)),
            "selection_loss": float(selection_loss(s, scaled)),
            "compression_loss": float(compression_loss(self.kept_ratio, self.keep_ratio)),
        }

    def _scaled(self, losses: Tensor, covariates: Optional[Tensor]) -> Tensor:
        if self.objective.loss_scale == "none":
            return losses
        mean = max(self._mean_loss.value(), 1e-12)
        return losses / (mean if self._loss_scale is None else self._loss_scale.of(covariates, mean))

    def _move(self, place: Tensor, force: Tensor) -> None:
        if self.objective.projects:
            # The multiplier of the constraint: what all samples have in common moves no sample past
            # another, except by how often it happened to be visited.
            force = force - self._multiplier(place, force)
        elif self.objective.compression:
            # Eq. 6 with r, the ratio kept, for ||s||_1 / N: see docs/method.md.
            force = force + 2 * self.compression_weight * (self.kept_ratio - self.keep_ratio)
        gradient = mask_gradient(self.mask.logits[place], self.alpha, force)
        self.mask.step(place, -self.objective.learning_rate * gradient)

    def _multiplier(self, place: Tensor, force: Tensor) -> "Tensor | float":
        """Mean force of all samples, or of each sample's group where each has a constraint."""
        of_all = self._mean_force.value() if self.step else self.mask.mean(force)
        if self.mask.groups is None:
            return of_all
        of_group = self._mean_force_of_group.values(self.mask.groups[place].long())
        return torch.where(of_group.isnan(), of_all, of_group).to(force.dtype)

    def _note_force(self, place: Tensor, force: Tensor) -> None:
        self._mean_force.add(*self.mask.totals(_sum(force), len(force)))
        if self.mask.groups is None:
            return
        group = self.mask.groups[place].long()
        sums = torch.zeros_like(self._mean_force_of_group.sums)
        sums.index_add_(0, group, force.double())
        counts = torch.bincount(group, minlength=self.mask.num_groups).to(sums)
        self._mean_force_of_group.add(*self.mask.total(torch.stack([sums, counts])))

    def _advance(self, seen: int) -> None:
        """Counts a step in which `seen` samples were seen, by all processes together."""
        was_warming_up = self.warming_up
        self.step += 1
        self._seen_in_epoch += seen
        self._steps_in_epoch += 1
        if was_warming_up and not self.warming_up:
            self._start_epoch()
        elif self._seen_in_epoch >= self.num_samples:
            if not was_warming_up:
                self._end_pruning_epoch()
            self._start_epoch()

    def _end_pruning_epoch(self) -> None:
        """The one place where a step touches all N samples."""
        self._pruning_epochs += 1
        self.alpha = self.schedule.alpha(self.step, self._steps_in_epoch)
        if self.objective.projects:
            self.mask.project(self.num_to_keep)
        kept = self.mask.hard()
        if self._kept_before is not None:
            came_back = (kept & ~self._kept_before.to(kept.device)).sum()
            self.num_came_back = int(self.mask.total(came_back))
        self._kept_before = kept

    def _start_epoch(self) -> None:
        self._seen_in_epoch = self._steps_in_epoch = 0
        self._mean_loss.next_epoch()
        self._mean_force.next_epoch()
        self._mean_force_of_group.next_epoch()
        if self._loss_scale is not None:
            self._loss_scale.next_epoch(self.mask.total)


def _first(index: Tensor, number: int = 20) -> str:
    more = len(index) - number
    return str(index[:number].tolist()) + (f" and {more} more" if more > 0 else "")


def _sum(values: Tensor) -> float:
    return float(values.sum(dtype=torch.float64))
