"""The mean of what the visits of each sample said, however often each happened to be visited."""
from typing import Tuple

import torch
from torch import Tensor


class VisitMeans:
    """Sums and counts by sample: 8 bytes each.

    Args:
        num_samples: how many samples' logits are held here.
        device: where they live.
    """

    def __init__(self, num_samples: int, device: "torch.device | str" = "cpu"):
        self.sums = torch.zeros(num_samples, device=device)
        self.visits = torch.zeros(num_samples, dtype=torch.int32, device=device)

    def add(self, place: Tensor, values: Tensor) -> Tuple[Tensor, Tensor]:
        """Notes a value (B,) of each sample at `place` (B,); one that occurs twice has two visits.

        Returns:
            The places touched, each once, and by how much their means have changed; that of a sample
            without visits is 0.
        """
        touched = place.unique()
        before = self._means(touched)
        self.sums.index_add_(0, place, values.to(self.sums))
        self.visits.index_add_(0, place, torch.ones_like(place, dtype=torch.int32))
        return touched, self._means(touched) - before

    def _means(self, place: Tensor) -> Tensor:
        return self.sums[place] / self.visits[place].clamp(min=1)

    def state_dict(self) -> dict:
        return {"sums": self.sums.clone(), "visits": self.visits.clone()}

    def load_state_dict(self, state: dict) -> None:
        self.sums.copy_(state["sums"])
        self.visits.copy_(state["visits"])
