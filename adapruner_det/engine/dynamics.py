"""What happens to the images while the proxy trains.

N images, E epochs, B images of a batch.
"""

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from ..pruning.statistics import Dynamics

_NOT_VISITED = 2  # beside 0 for wrong and 1 for right: a byte each, since the checkpoints hold it


class DynamicsRecorder:
    """Loss of each image at its visits, whether it was right, and what was measured in between.

    The first visit of an image is in row 0. Visits beyond the last epoch, of a run that is no whole number of epochs
    long, are left out; NaN stands for a visit that did not take place.

    Args:
        num_images: N.
        epochs: E.
        answers: whether images are right or wrong at their visits; else what is `measured` counts.
    """

    def __init__(self, num_images: int, epochs: int, answers: bool):
        self.visits = torch.zeros(num_images, dtype=torch.int32)
        self.losses = torch.full((epochs, num_images), float("nan"))
        self.correct = torch.full((epochs if answers else 0, num_images), _NOT_VISITED, dtype=torch.uint8)
        self.measured: list[Tensor] = []
        self.agreement: list[Tensor] = []

    def add(self, index: Tensor, losses: Tensor, correct: Tensor | None = None) -> None:
        """Notes a batch: identities (B,), losses (B,), and (B,) bool where there are answers.

        A batch that reaches over the end of an epoch may hold an image twice.
        """
        earlier = pd.Series(0, index.numpy()).groupby(level=0).cumcount()
        epoch = self.visits[index].long() + torch.tensor(earlier.tolist())
        self.visits.index_add_(0, index, torch.ones_like(index, dtype=torch.int32))
        known = epoch < len(self.losses)
        place = epoch[known], index[known]
        self.losses[place] = losses[known].float()
        if correct is not None:
            self.correct[place] = correct[known].to(torch.uint8)

    def measure(self, shares: np.ndarray, agreement: np.ndarray) -> None:
        """Notes a measurement between two steps: the share of each image's boxes that is found (N,), and how well each (M,)."""
        self.measured.append(torch.from_numpy(np.asarray(shares, dtype=np.float32)))
        self.agreement.append(torch.from_numpy(np.asarray(agreement, dtype=np.float32)))

    def dynamics(self) -> Dynamics:
        """All of it."""
        if self.measured:
            measured = (torch.stack(rows).numpy() for rows in (self.measured, self.agreement))
            return Dynamics(self.losses.numpy(), *measured)
        correct = self.correct.numpy().astype(np.float32)
        return Dynamics(self.losses.numpy(), np.where(correct == _NOT_VISITED, np.float32("nan"), correct))

    def state_dict(self) -> dict:
        return {
            "visits": self.visits.clone(),
            "losses": self.losses.clone(),
            "correct": self.correct.clone(),
            "measured": list(self.measured),
            "agreement": list(self.agreement),
        }

    def load_state_dict(self, state: dict) -> None:
        self.visits, self.losses, self.correct = (state[name].clone() for name in ("visits", "losses", "correct"))
        self.measured, self.agreement = list(state["measured"]), list(state["agreement"])


def num_epochs(iterations: int, batch_size: int, num_images: int) -> int:
    """Epochs of a run, at least 1; one that only the rounding to whole batches cuts short counts."""
    return max(1, (iterations + 1) * batch_size // num_images)
