"""One logit a sample, and how many of them are above zero."""

from typing import Any

import torch
from torch import Tensor

from .objective import soft_mask

INITIAL_LOGIT = 1.0  # as in the authors' published code: everything is kept at first
_TIE_GAP = torch.finfo(torch.float32).tiny  # below the distance of any two other logits


class Mask:
    """The logits of N samples, indexed by sample, and the count of samples kept (m > 0).

    `step` costs O(batch) whatever N is; only `project`, `walk_back`, `hard` and the state touch all N.
    """

    def __init__(self, num_samples: int, device: "torch.device | str" = "cpu", seed: int = 0):
        self.logits = torch.full((num_samples,), INITIAL_LOGIT, device=device)
        self.seed = seed  # of the draw between tied samples
        self.num_kept = num_samples

    def __len__(self) -> int:
        return len(self.logits)

    @property
    def kept_ratio(self) -> float:
        """r: the share of samples whose logit is above zero."""
        return self.num_kept / len(self)

    def checked(self, index: Tensor) -> Tensor:
        """`index` (B,) where the logits live. Raises IndexError for samples that are not there."""
        index = torch.as_tensor(index, device=self.logits.device)
        if len(index) and not (0 <= int(index.min()) and int(index.max()) < len(self)):
            raise IndexError(f"sample indices {index.tolist()} are not all in [0, {len(self)})")
        return index

    def soft(self, index: Tensor, alpha: float) -> Tensor:
        """s of the samples `index` (B,), as (B,)."""
        return soft_mask(self.logits[index], alpha)

    def hard(self) -> Tensor:
        """Which samples are kept, (N,) bool: the binarised mask."""
        return self.logits > 0

    def step(self, index: Tensor, change: Tensor) -> None:
        """Adds `change` (B,) to the logits of `index` (B,); a sample that occurs twice gets both."""
        touched, which = index.unique(return_inverse=True)
        before = self.logits[touched]
        after = before.index_add(0, which, change.to(before.dtype))
        self.logits[touched] = after
        self.num_kept += int((after > 0).sum() - (before > 0).sum())

    def replace(self, logits: Tensor) -> None:
        """Takes other logits (N,), as they are, for its own."""
        if len(logits) != len(self):
            raise ValueError(f"{len(logits)} logits for a mask of {len(self)} samples")
        self.logits = logits
        self.num_kept = int(self.hard().sum())

    def project(self, num_kept: int) -> int:
        """Shifts all logits by one number so that exactly the `num_kept` highest are above zero.

        Samples tied at the threshold are drawn from by the seed: those drawn get the smallest logit above zero,
        the others the largest below.

        Returns:
            How many samples were tied and have been parted.

        Raises:
            ValueError: `num_kept` is below 1 or not below N.
        """
        if not 0 < num_kept < len(self):
            raise ValueError(f"{num_kept} of {len(self)} samples cannot be kept: at least 1 and not all")
        self.logits.masked_fill_(self.logits.abs() <= _TIE_GAP, 0.0)  # what was parted before is tied again
        highest_out = self.logits.kthvalue(len(self) - num_kept).values
        above = self.logits > highest_out
        missing = num_kept - int(above.sum())
        self.num_kept = num_kept
        if not missing:
            gap = self.logits[above].min() - highest_out
            # One after the other: between neighbouring float32 numbers lies no float32 number.
            self.logits.sub_(highest_out).sub_(gap / 2)
            return 0
        tied = (self.logits == highest_out).nonzero().flatten()
        self.logits.sub_(highest_out)
        drawn = torch.randperm(len(tied), generator=torch.Generator().manual_seed(self.seed))[:missing]
        self.logits[tied] = -_TIE_GAP
        self.logits[tied[drawn.to(tied.device)]] = _TIE_GAP
        return len(tied)

    def walk_back(self, start: Tensor, num_kept: int) -> int:
        """Back towards `start` (N,), on the straight way all logits went together, to where `num_kept` are above zero.

        More than `num_kept` of `start` are above zero, at most so many are now. Returns as `project`, which sets the
        count exactly where the way has come to it.
        """
        fell = (start > 0) & (self.logits <= 0)
        # The share of the way after which a sample goes: none for those that had gone, never for the others.
        share = torch.where(start > 0, torch.inf, 0.0)
        share[fell] = start[fell] / (start[fell] - self.logits[fell])
        share_walked = share.kthvalue(len(self) - num_kept).values
        self.logits.copy_(start + share_walked * (self.logits - start))
        return self.project(num_kept)

    def state_dict(self) -> dict[str, Any]:
        return {"logits": self.logits.clone(), "num_kept": self.num_kept}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Takes over a saved mask. Raises ValueError if it is of another number of samples."""
        if len(state["logits"]) != len(self):
            raise ValueError(
                f"the saved mask is for {len(state['logits'])} samples, this data set has {len(self)}: "
                "resume with the data set the run was started with"
            )
        self.logits.copy_(state["logits"])
        self.num_kept = state["num_kept"]
