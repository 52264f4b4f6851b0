"""One logit a sample, and how many of them are above zero."""
import torch
from torch import Tensor

from .objective import soft_mask

INITIAL_LOGIT = 1.0  # as in the authors' published code: everything is kept at first


class Mask:
    """The logits of N samples, indexed by sample, and the count of samples kept (m > 0).

    `step` costs O(batch) whatever N is; only `project` and `hard` touch all N.
    """

    def __init__(self, num_samples: int, device: "torch.device | str" = "cpu"):
        self.logits = torch.full((num_samples,), INITIAL_LOGIT, device=device)
        self.num_kept = num_samples

    def __len__(self) -> int:
        return len(self.logits)

    @property
    def kept_ratio(self) -> float:
        """r: the share of samples whose logit is above zero."""
        return self.num_kept / len(self)

    def soft(self, index: Tensor, alpha: float) -> Tensor:
        """s of the samples `index` (B,), as (B,)."""
        return soft_mask(self.logits[index], alpha)

    def hard(self) -> Tensor:
        """Which samples are kept, (N,) bool: the binarised mask."""
        return self.logits > 0

    def step(self, index: Tensor, change: Tensor) -> None:
        """Adds `change` (B,) to the logits of `index` (B,); an index that occurs twice gets both."""
        touched, place = index.unique(return_inverse=True)
        before = self.logits[touched]
        after = before.index_add(0, place, change.to(before.dtype))
        self.logits[touched] = after
        self.num_kept += int((after > 0).sum() - (before > 0).sum())

    def project(self, num_kept: int) -> None:
        """Shifts all logits by one number so that the `num_kept` highest of them are above zero.

        Samples tied at the threshold stay on one side together, so ties can leave another count.
        """
        descending = self.logits.sort(descending=True).values
        # Halfway, in float64: between neighbouring float32 numbers lies no float32 number.
        threshold = descending[num_kept - 1 : num_kept + 1].double().mean()
        self.logits = (self.logits.double() - threshold).float()
        self.num_kept = int(self.hard().sum())

    def state_dict(self) -> dict:
        return {"logits": self.logits.clone(), "num_kept": self.num_kept}

    def load_state_dict(self, state: dict) -> None:
        if len(state["logits"]) != len(self):
            raise ValueError(
                f"the saved mask is for {len(state['logits'])} samples, this data set has "
                f"{len(self)}: resume with the data set the run was started with"
            )
        self.logits = state["logits"].to(self.logits.device).clone()
        self.num_kept = state["num_kept"]
