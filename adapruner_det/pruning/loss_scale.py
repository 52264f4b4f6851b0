"""What losses are divided by before Eq. 5: L - log L, smallest at L = 1, then means the same for every task.

N samples, B of a batch, K classes.
"""

import math
from typing import Any

import numpy as np
import torch
from scipy import sparse
from torch import Tensor

LOSS_SCALES = ("mean", "none", "expected")
# Of the mean. Divided by less, a sample would speak to the mask with more than 20 times its share of all losses.
_BLOCK = 2**16  # rows of a table that are held at a time
FLOOR = 0.05


class RunningMean:
    """The mean of the last whole epoch, which does not depend on the order of this one, in O(1) memory.

    A remnant of fewer than half of the N samples does not replace a whole epoch.
    """

    def __init__(self, num_samples: int):
        self.enough = num_samples // 2
        self.sum, self.count, self.previous = 0.0, 0, math.nan

    def add(self, values: Tensor) -> None:
        self.sum += float(values.sum(dtype=torch.float64))
        self.count += len(values)

    def next_epoch(self) -> None:
        if self.count and (self.count >= self.enough or math.isnan(self.previous)):
            self.previous = self.sum / self.count
        self.sum, self.count = 0.0, 0

    @property
    def known(self) -> bool:
        return not math.isnan(self.value())

    def value(self) -> float:
        """Before an epoch has ended, the mean so far; NaN if nothing was seen."""
        if not math.isnan(self.previous):
            return self.previous
        return self.sum / self.count if self.count else math.nan


class LossScale:
    """Divides losses by nothing ("none"), by their mean ("mean") or by what such samples usually cost ("expected").

    The last is a + sum_k b_k x_k, the least squares fit with no coefficient below 0; x are the sample's objects of each
    class. It needs sums over all samples alone: O(K^2) memory, O(B K^2) a step. It is fitted once an epoch, as
    `RunningMean`; before, the mean stands in, and nothing is divided by less than FLOOR of it.
    """

    def __init__(self, kind: str, num_samples: int, num_classes: int = 0, device: "torch.device | str" = "cpu"):
        self.kind, self.num_classes = kind, num_classes
        self.mean = RunningMean(num_samples)
        size = num_classes + 2 if kind == "expected" else 0
        self.moments = torch.zeros(size, size, dtype=torch.float64, device=device)  # of 1, x, the loss
        self.coefficients = torch.full((max(size - 1, 0),), math.nan, device=device)

    def check(self, num_losses: int, class_counts: Tensor | None) -> None:
        """Raises ValueError if "expected" lacks K counts, finite and not negative, for each loss."""
        if self.kind != "expected":
            return
        wanted = (num_losses, self.num_classes)
        if not self.num_classes or class_counts is None or tuple(class_counts.shape) != wanted:
            found = "none" if class_counts is None else f"shape {tuple(class_counts.shape)}"
            raise ValueError(
                "loss_scale 'expected' is fitted on the objects of each class: give AdaPruner num_classes and `update` "
                f"class_counts of shape {wanted}; got {found}"
            )
        if not bool((torch.isfinite(class_counts) & (class_counts >= 0)).all()):
            raise ValueError("class_counts have to be finite and not negative")

    def add(self, losses: Tensor, class_counts: Tensor | None = None) -> None:
        """Notes losses (B,) and, for "expected", their class_counts (B, K)."""
        self.mean.add(losses)
        if self.kind == "expected":
            assert class_counts is not None  # see `check`
            x = class_counts.to(self.moments)
            rows = torch.cat([torch.ones_like(x[:, :1]), x, losses.to(x)[:, None]], dim=1)
            self.moments += rows.T @ rows

    def next_epoch(self) -> None:
        """Fits anew and starts over."""
        seen = float(self.moments[0, 0]) if self.kind == "expected" else 0.0
        if seen and (seen >= self.mean.enough or not self._is_fitted()):
            self.coefficients = non_negative_fit(self.moments).to(self.coefficients)
        self.moments.zero_()
        self.mean.next_epoch()

    def scaled(self, losses: Tensor, class_counts: Tensor | None = None) -> Tensor:
        """The losses (B,) over what they are divided by."""
        if self.kind == "none":
            return losses
        mean = max(self.mean.value(), 1e-12)
        if not self._is_fitted():
            return losses / mean
        assert class_counts is not None
        x = class_counts.to(self.coefficients)
        return losses / (self.coefficients[0] + x @ self.coefficients[1:]).clamp(min=FLOOR * mean)

    def _is_fitted(self) -> bool:
        return self.kind == "expected" and not bool(self.coefficients[0].isnan())

    def state_dict(self) -> dict[str, Any]:
        own = {"moments": self.moments.clone(), "coefficients": self.coefficients.clone()}
        return {"mean": dict(vars(self.mean)), **own}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Raises ValueError if it was fitted on another number of classes."""
        if state["coefficients"].shape != self.coefficients.shape:
            raise ValueError(
                f"the saved loss scale has {len(state['coefficients']) - 1} classes, here are {self.num_classes}: "
                "resume with the data set the run was started with"
            )
        vars(self.mean).update(state["mean"])
        self.moments.copy_(state["moments"])
        self.coefficients.copy_(state["coefficients"])


def expected_values(values: np.ndarray, counts: np.ndarray | sparse.csr_matrix) -> np.ndarray:
    """What the loss scale "expected" divides by, for values (N,) of images with counts (N, K) objects, (N,)."""
    blocks = [slice(start, start + _BLOCK) for start in range(0, len(values), _BLOCK)]

    def design(block: slice) -> np.ndarray:
        own = counts[block] if isinstance(counts, np.ndarray) else counts[block].toarray()
        return np.concatenate([np.ones((len(values[block]), 1)), own], axis=1)

    moments = np.zeros(())
    for block in blocks:
        rows = np.concatenate([design(block), values[block, None]], axis=1)
        moments = moments + rows.T @ rows
    fit = non_negative_fit(torch.from_numpy(moments)).numpy()
    expected = np.concatenate([design(block) @ fit for block in blocks])
    return np.maximum(expected, FLOOR * values.mean())


def non_negative_fit(moments: Tensor) -> Tensor:
    """Coefficients of the least squares fit that has none below zero, (F,), from Z^T Z of the rows Z = (x, y).

    A matrix A with A^T A = X^T X, from its eigenvectors, stands for the samples X themselves. What no sample has gets
    0, and columns that cannot be told apart share what they explain. The result is float32: coarse, so that processes
    whose sums differ in the last bits get the same.
    """
    from scipy.optimize import nnls  # here, so that the mask needs nothing but torch

    moments = moments.cpu()
    gram, target = moments[:-1, :-1], moments[:-1, -1]
    size = gram.diagonal().sqrt()
    size = torch.where(size > 0, size, 1.0)
    values, vectors = torch.linalg.eigh(gram / torch.outer(size, size))
    told_apart = values > 1e-10 * values[-1]
    root, vectors = values[told_apart].sqrt(), vectors[:, told_apart]
    matrix, wanted = root[:, None] * vectors.T, vectors.T @ (target / size) / root
    coefficients, _ = nnls(matrix.numpy(), wanted.numpy())
    return (torch.from_numpy(coefficients) / size).float()
