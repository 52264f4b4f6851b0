"""One logit a sample, and how many of them are above zero."""
from typing import Optional, Tuple

import torch
from torch import Tensor

from .groups import compact_groups, fingerprint_of_groups
from .objective import soft_mask
from .ranking import chunks, count_by_group, ranked

_TIE_GAP = 1e-12  # below the distance of any two other logits
INITIAL_LOGIT = 1.0  # as in the authors' published code: everything is kept at first


class Mask:
    """The logits of N samples, indexed by sample, and the count of samples kept (m > 0).

    `step` costs O(batch) whatever N is; only `project`, `hard` and the state touch all N. Resident are
    4 bytes a sample, and 1, 2 or 4 more with groups (up to 256, 32,768 and more of them).

    Args:
        num_samples: N.
        device: where the logits live.
        groups: id of each sample's group, (N,) integers from 0; None for one group. Each group is
            projected by itself.

    Raises:
        ValueError: groups that are not one integer a sample.
    """

    def __init__(
        self,
        num_samples: int,
        device: "torch.device | str" = "cpu",
        groups: Optional[Tensor] = None,
    ):
        self.owned = range(num_samples)  # the samples whose logits are here
        self._set_up(num_samples, num_samples, device, groups, None)

    def _set_up(
        self,
        num_samples: int,
        num_here: int,
        device: "torch.device | str",
        groups: Optional[Tensor],
        num_groups: Optional[int],
    ) -> None:
        self.num_samples = num_samples
        self.logits = torch.full((num_here,), INITIAL_LOGIT, device=device)
        self.num_kept = num_samples
        self.groups, self.num_groups = None, 1
        if groups is not None:
            groups, self.num_groups = compact_groups(groups, num_here, num_groups)
            self.groups = groups.to(self.logits.device)
        self._groups_fingerprint = fingerprint_of_groups(self.groups)
        if self.groups is None:
            sizes = torch.tensor([num_here], device=self.logits.device)
        else:
            sizes = torch.bincount(self.groups, minlength=self.num_groups)
        self.group_sizes = self.total(sizes)

    def __len__(self) -> int:
        return self.num_samples

    @property
    def kept_ratio(self) -> float:
        """r: the share of samples whose logit is above zero."""
        return self.num_kept / len(self)

    def total(self, counts: Tensor) -> Tensor:
        """Counts of the samples held here, added up over all who hold samples."""
        return counts

    def totals(self, *numbers: float) -> Tuple[float, ...]:
        """The same for plain numbers."""
        return numbers

    def mean(self, values: Tensor) -> "Tensor | float":
        """Mean of a batch of values, (B,), over all who hold samples."""
        return values.mean()

    def place(self, index: Tensor) -> Tensor:
        """Where in `logits` the samples `index` (B,) stand; the other methods want these places.

        Raises:
            IndexError: samples that are not there.
        """
        index = torch.as_tensor(index, device=self.logits.device)
        if len(index) and not (0 <= int(index.min()) and int(index.max()) < len(self)):
            raise IndexError(f"sample indices {index.tolist()} are not all in [0, {len(self)})")
        return index

    def soft(self, place: Tensor, alpha: float) -> Tensor:
        """s of the samples at `place` (B,), as (B,)."""
        return soft_mask(self.logits[place], alpha)

    def hard(self) -> Tensor:
        """Which samples are kept, (N,) bool: the binarised mask."""
        return self.logits > 0

    def step(self, place: Tensor, change: Tensor) -> None:
        """Adds `change` (B,) to the logits at `place` (B,); a place that occurs twice gets both."""
        touched, which = place.unique(return_inverse=True)
        before = self.logits[touched]
        after = before.index_add(0, which, change.to(before.dtype))
        self.logits[touched] = after
        self._count(int((after > 0).sum() - (before > 0).sum()))

    def _count(self, change: int) -> None:
        self.num_kept += change

    def project(self, num_kept: "int | Tensor") -> Tensor:
        """Shifts the logits of each group by one number so that its highest are above zero.

        Samples tied at the threshold stay on one side together, so ties can leave another count. Next
        to the logits this takes a few MB (more with thousands of groups), whatever N is.

        Args:
            num_kept: how many to keep of each group, (G,) integers, or one number without groups;
                at least 1 and at most the group's size.

        Returns:
            How many are kept now of each group, (G,) int64.

        Raises:
            ValueError: a number of samples that a group cannot keep.
        """
        wanted = torch.as_tensor(num_kept, device=self.logits.device).reshape(-1)
        if not bool(((wanted >= self.group_sizes.clamp(max=1)) & (wanted <= self.group_sizes)).all()):
            raise ValueError(
                f"groups of {self.group_sizes.tolist()} samples cannot keep {wanted.tolist()} of them"
            )
        threshold = self._thresholds(wanted)
        for part, group in chunks(self.logits, self.groups):
            # In float64: between neighbouring float32 numbers lies no float32 number.
            part.copy_(part.double() - (threshold if group is None else threshold[group]))
        kept = self.kept_by_group()
        self.num_kept = int(kept.sum())
        return kept

    def kept_by_group(self) -> Tensor:
        """How many samples of each group are kept, counted anew, (G,) int64."""
        kept = torch.zeros_like(self.group_sizes)
        for part, group in chunks(self.logits, self.groups):
            kept += count_by_group(part > 0, group, self.num_groups)
        return self.total(kept)

    def break_ties(self, num_kept: "int | Tensor") -> int:
        """After `project`: parts samples tied at the threshold so that the count is exact.

        Those drawn (with a fixed seed) get the smallest logits above zero, the others below. A group
        whose samples are all tied stays as it is: there is nothing to tell them apart by.

        Args:
            num_kept: as of `project`.

        Returns:
            How many samples were tied and have been parted.
        """
        wanted = torch.as_tensor(num_kept, device=self.logits.device).reshape(-1)
        generator = torch.Generator().manual_seed(0)
        num_tied = torch.zeros_like(wanted)  # at the threshold, which `project` took to zero
        for part, group in chunks(self.logits, self.groups):
            num_tied += count_by_group(part == 0, group, self.num_groups)
        missing = wanted - self.kept_by_group()
        can_be_parted = (missing > 0) & (missing < num_tied) & (num_tied < self.group_sizes)
        for group in can_be_parted.nonzero().flatten().tolist():  # mostly none: each looks at all logits
            tied = self.logits == 0 if self.groups is None else (self.groups == group) & (self.logits == 0)
            places = tied.nonzero().flatten()
            order = torch.randperm(len(places), generator=generator).to(places.device)
            self.logits[places] = -_TIE_GAP
            self.logits[places[order[: int(missing[group])]]] = _TIE_GAP
        self.num_kept = int(self.hard().sum())
        return int(num_tied[can_be_parted].sum())

    def _thresholds(self, wanted: Tensor) -> Tensor:
        """Halfway between the lowest logit to keep and the next, for each group, (G,) float64."""
        ranks = torch.stack([wanted - 1, wanted], dim=1)
        pair = ranked(self.logits, ranks, self.groups, self.total)
        # Where nothing is below, the lowest goes to where logits start.
        return torch.where(wanted < self.group_sizes, pair.mean(1), pair[:, 0] - INITIAL_LOGIT)

    def state_dict(self) -> dict:
        return {
            "logits": self.logits.clone(),
            "num_kept": self.num_kept,
            "groups": self._groups_fingerprint,
        }

    def load_state_dict(self, state: dict) -> None:
        """Takes over a saved mask.

        Raises:
            ValueError: it is of another number of samples, or was balanced over other groups.
        """
        if len(state["logits"]) != len(self.logits):
            raise ValueError(
                f"the saved mask is for {len(state['logits'])} samples, this data set has "
                f"{len(self.logits)}: resume with the data set the run was started with"
            )
        if state.get("groups") != self._groups_fingerprint:
            raise ValueError(
                "the saved mask was balanced over other groups of samples than these "
                f"({'none' if self.groups is None else self.num_groups} here): resume with the groups the "
                "run was started with"
            )
        self.logits.copy_(state["logits"])
        self.num_kept = state["num_kept"]
