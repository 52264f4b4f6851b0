"""What a pruning run remembers of each image, for people to look at."""

import torch
from torch import Tensor


class Visits:
    """How often each of N images was visited, its mean and last loss, and the mean of each loss term.

    Nothing the mask depends on; 4 bytes a value and image, for visits, last loss and each term.
    """

    def __init__(self, num_images: int):
        self.visits = torch.zeros(num_images, dtype=torch.int32)
        self.last_loss = torch.full((num_images,), float("nan"))
        self.term_sums: dict[str, Tensor] = {}

    def add(self, index: Tensor, names: list[str], terms: Tensor) -> None:
        """Notes a batch: identities (B,), names of T loss terms, their values (B, T)."""
        self.visits.index_add_(0, index, torch.ones_like(index, dtype=torch.int32))
        self.last_loss[index] = sum(terms.unbind(dim=1))
        for name, values in zip(names, terms.unbind(dim=1)):
            if name not in self.term_sums:
                self.term_sums[name] = torch.zeros(len(self.visits))
            self.term_sums[name].index_add_(0, index, values)

    def columns(self) -> dict[str, list]:
        """visits, mean_loss, last_loss and mean_<term> of every image; None where never visited."""
        total = sum(self.term_sums.values(), torch.zeros(len(self.visits)))
        terms = self.term_sums if len(self.term_sums) > 1 else {}
        return {
            "visits": self.visits.tolist(),
            "mean_loss": self._means(total),
            "last_loss": self._known(self.last_loss),
            **{f"mean_{name}": self._means(sums) for name, sums in terms.items()},
        }

    def _means(self, sums: Tensor) -> list:
        return self._known(sums / self.visits)

    def _known(self, values: Tensor) -> list:
        return [v if visits else None for v, visits in zip(values.tolist(), self.visits.tolist())]

    def state_dict(self) -> dict:
        return {
            "visits": self.visits.clone(),
            "last_loss": self.last_loss.clone(),
            "term_sums": {name: sums.clone() for name, sums in self.term_sums.items()},
        }

    def load_state_dict(self, state: dict) -> None:
        self.visits = state["visits"].clone()
        self.last_loss = state["last_loss"].clone()
        self.term_sums = {name: sums.clone() for name, sums in state["term_sums"].items()}
