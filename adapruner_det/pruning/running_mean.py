"""Means of the epoch at hand and of the one before, in O(1) memory a group."""
import torch
from torch import Tensor


class RunningMean:
    """Sums and counts of what was seen in this epoch, by group, and the means of the one before.

    Args:
        sizes: samples of each group, (G,).
    """

    def __init__(self, sizes: Tensor):
        self._enough = sizes // 2
        self.sums = torch.zeros(len(sizes), dtype=torch.float64, device=sizes.device)
        self.counts = torch.zeros_like(sizes)
        self.previous = torch.full_like(self.sums, float("nan"))

    def add(self, sums: "Tensor | float", counts: "Tensor | float") -> None:
        """Adds values that are already summed by group, (G,) or a number where G = 1."""
        self.sums += sums
        self.counts += torch.as_tensor(counts, device=self.counts.device).to(self.counts.dtype)

    def next_epoch(self) -> None:
        """Starts over; a remnant of fewer than half of a group does not replace a whole epoch."""
        unknown = self.previous.isnan()
        replace = (self.counts > 0) & (unknown | (self.counts >= self._enough))
        self.previous = torch.where(replace, self.sums / self.counts, self.previous)
        self.sums.zero_()
        self.counts.zero_()

    def value(self, group: int = 0) -> float:
        """Mean of the last whole epoch, which does not depend on the order of this one.

        Before there is one, the mean so far.
        """
        return float(self.values(torch.tensor([group], device=self.sums.device)))

    def values(self, groups: Tensor) -> Tensor:
        """`value` of each of `groups` (B,) int64, as (B,) float64; NaN for groups never seen."""
        previous = self.previous[groups]
        return torch.where(previous.isnan(), self.sums[groups] / self.counts[groups], previous)

    def state_dict(self) -> dict:
        return {name: getattr(self, name).clone() for name in ("sums", "counts", "previous")}

    def load_state_dict(self, state: dict) -> None:
        for name, values in state.items():
            getattr(self, name).copy_(values)
