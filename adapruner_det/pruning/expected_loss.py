"""What a sample like this one usually costs, which the loss scale "expected" divides its loss by.

B samples of a batch, K class_counts.
"""

import torch
from torch import Tensor

# Divided by less, a sample would speak to the mask with more than 20 times its share of all losses.
FLOOR = 0.05


class ExpectedLoss:
    """What samples like this one usually cost: a + sum_k b_k x_k, none of the coefficients negative.

    The least squares fit of the losses on the class_counts x, for a detector the number of boxes of each
    class. It needs sums over all samples alone: O(K^2) memory, O(B K^2) a step. It holds the fit of the last whole
    epoch; before there is one, the mean stands in, and nothing is divided by less than FLOOR of it.

    Args:
        num_classes: K.
        num_samples: N; a remnant of fewer than half of them is no epoch.
        device: where the sums live.
    """

    def __init__(self, num_classes: int, num_samples: int, device: "torch.device | str" = "cpu"):
        self._enough = num_samples // 2
        self.num_classes = num_classes
        size = num_classes + 2
        self.moments = torch.zeros(size, size, dtype=torch.float64, device=device)  # of 1, x, the loss
        self.coefficients = torch.full((num_classes + 1,), float("nan"), device=device)

    def check(self, num_losses: int, class_counts: Tensor | None) -> None:
        """Raises ValueError unless there are K class_counts, finite and not negative, for each loss."""
        wanted = (num_losses, self.num_classes)
        if not self.num_classes or class_counts is None or tuple(class_counts.shape) != wanted:
            found = "none" if class_counts is None else f"shape {tuple(class_counts.shape)}"
            raise ValueError(
                "loss_scale 'expected' is fitted on class_counts, such as the number of boxes of each class: "
                f"give AdaPruner num_classes and `update` a tensor of shape {wanted}; got {found}"
            )
        if not bool((torch.isfinite(class_counts) & (class_counts >= 0)).all()):
            raise ValueError("class_counts have to be finite and not negative")

    def add(self, losses: Tensor, class_counts: Tensor) -> None:
        """Notes losses (B,) with their class_counts (B, K)."""
        x = class_counts.to(self.moments)
        rows = torch.cat([torch.ones_like(x[:, :1]), x, losses.to(x)[:, None]], dim=1)
        self.moments += rows.T @ rows

    def next_epoch(self) -> None:
        """Fits anew and starts over."""
        seen = float(self.moments[0, 0])
        if seen and (seen >= self._enough or self._unknown()):
            self.coefficients = non_negative_fit(self.moments).to(self.coefficients)
        self.moments.zero_()

    def of(self, class_counts: Tensor, mean: float) -> "Tensor | float":
        """What to divide by, (B,), where `mean` is the mean loss."""
        if self._unknown():
            return mean
        x = class_counts.to(self.coefficients)
        return (self.coefficients[0] + x @ self.coefficients[1:]).clamp(min=FLOOR * mean)

    def _unknown(self) -> bool:
        return bool(self.coefficients[0].isnan())

    def state_dict(self) -> dict:
        return {"moments": self.moments.clone(), "coefficients": self.coefficients.clone()}

    def load_state_dict(self, state: dict) -> None:
        """
        Raises:
            ValueError: it was fitted on another number of class_counts.
        """
        if state["coefficients"].shape != self.coefficients.shape:
            raise ValueError(
                f"the saved loss scale has {len(state['coefficients']) - 1} class_counts, here are "
                f"{self.num_classes}: resume with the data set the run was started with"
            )
        self.moments.copy_(state["moments"])
        self.coefficients.copy_(state["coefficients"])


def non_negative_fit(moments: Tensor) -> Tensor:
    """Coefficients of the least squares fit that has none below zero.

    A matrix A with A^T A = X^T X, from its eigenvectors, stands for the samples X themselves. What no
    sample has gets 0, and class_counts that cannot be told apart share what they explain.

    Args:
        moments: Z^T Z of the rows Z = (x, y), (F + 1, F + 1) float64.

    Returns:
        (F,) float32: coarse, so that processes whose sums differ in the last bits get the same.
    """
    from scipy.optimize import nnls  # here, so that the method itself needs nothing but torch

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
