"""What happens to the images while the proxy trains.

N images, E epochs, B images of a batch, S measurements.
"""

import numpy as np
import torch
from torch import Tensor

from ..baselines.evidence import Dynamics


class DynamicsRecorder:
    """Loss of each image at its visits, whether it was right, and what was measured in between.

    A visit counts for the epoch that its number says: the first one is in row 0. Visits beyond the
    last epoch, of a run that is no whole number of epochs long, are left out; NaN stands for a visit
    that did not take place.

    Args:
        num_images: N.
        epochs: E.
        answers: whether images are right or wrong at their visits; else what is `measured` counts.
    """

    def __init__(self, num_images: int, epochs: int, answers: bool):
        self.visits = torch.zeros(num_images, dtype=torch.int32)
        self.losses = torch.full((epochs, num_images), float("nan"))
        # A byte each, 2 for no visit: the checkpoints hold it.
        self.correct = torch.full((epochs if answers else 0, num_images), 2, dtype=torch.uint8)
        self.measured: list[Tensor] = []

    def add(self, index: Tensor, losses: Tensor, correct: Tensor | None = None) -> None:
        """Notes a batch: identities (B,), losses (B,), and (B,) bool where there are answers."""
        epoch = self.visits[index].long() + earlier_in_batch(index)
        self.visits.index_add_(0, index, torch.ones_like(index, dtype=torch.int32))
        known = epoch < len(self.losses)
        place = epoch[known], index[known]
        self.losses[place] = losses[known].float()
        if correct is not None:
            self.correct[place] = correct[known].to(torch.uint8)

    def measure(self, shares: np.ndarray) -> None:
        """Notes a measurement between two steps: the share of each image's boxes that is found, (N,)."""
        self.measured.append(torch.from_numpy(np.asarray(shares, dtype=np.float32)))

    def dynamics(self) -> Dynamics:
        """All of it."""
        if self.measured:
            return Dynamics(self.losses.numpy(), torch.stack(self.measured).numpy())
        correct = self.correct.numpy().astype(np.float32)
        return Dynamics(self.losses.numpy(), np.where(correct == 2, np.float32("nan"), correct))

    def state_dict(self) -> dict:
        return {
            "visits": self.visits.clone(),
            "losses": self.losses.clone(),
            "correct": self.correct.clone(),
            "measured": [shares.clone() for shares in self.measured],
        }

    def load_state_dict(self, state: dict) -> None:
        self.visits = state["visits"].clone()
        self.losses = state["losses"].clone()
        self.correct = state["correct"].clone()
        self.measured = [shares.clone() for shares in state["measured"]]


def earlier_in_batch(index: Tensor) -> Tensor:
    """How often each entry has occurred before in a vector of integers, (B,) long.

    A batch that reaches over the end of an epoch may hold an image twice.
    """
    order = torch.argsort(index, stable=True)
    ordered = index[order]
    earlier = torch.empty_like(order)
    earlier[order] = torch.arange(len(index)) - torch.searchsorted(ordered, ordered)
    return earlier


def num_epochs(iterations: int, batch_size: int, num_images: int) -> int:
    """Epochs of a run, at least 1; one that only the rounding to whole batches cuts short counts."""
    return max(1, (iterations + 1) * batch_size // num_images)
