"""The loss of AdaPruner, Eq. 4-7 of Yang et al. 2023, and its gradient on the mask in closed form.

N samples, logits m (N,), scale alpha, soft mask s = sigmoid(alpha m), L (N,) the task loss of each sample, c the ratio
to keep, r the ratio kept. Everything here is a plain function of tensors.
"""

import torch
from torch import Tensor

SELECTION_EPS = 1e-5  # inside the logarithm of Eq. 5, as in the authors' published code
COMPRESSION_SCALE = 100.0  # s_scale of Eq. 7


def soft_mask(logits: Tensor, alpha: float) -> Tensor:
    """s = sigmoid(alpha m), in the shape of `logits`."""
    return torch.sigmoid(alpha * logits)


def classification_loss(s: "Tensor | float", losses: Tensor) -> Tensor:
    """Eq. 4: sum_i s_i L_i / N. The task's loss on what is kept (a detector's loss, for us)."""
    return (s * losses).mean()


def selection_loss(s: "Tensor | float", losses: Tensor) -> Tensor:
    """Eq. 5: sum_i s_i [-log L_i] / N with L detached: keeping an easy sample costs most."""
    return (s * selection_cost(losses)).mean()


def selection_cost(losses: Tensor) -> Tensor:
    """-log(L_i + eps), detached: what Eq. 5 charges for keeping sample i."""
    return -torch.log(losses.detach() + SELECTION_EPS)


def compression_loss(ratio: "Tensor | float", keep_ratio: float) -> "Tensor | float":
    """Eq. 6: (ratio - c)^2, where ratio is ||s||_1 / N."""
    return (ratio - keep_ratio) ** 2


def compression_weight(kept_ratio: float, keep_ratio: float, scale: float = COMPRESSION_SCALE) -> float:
    """lambda of Eq. 7: s_scale |r - c|."""
    return scale * abs(kept_ratio - keep_ratio)


def mask_gradient(logits: Tensor, alpha: float, grad_soft: Tensor) -> Tensor:
    """N times the gradient of Eq. 7 with respect to logits (B,), from that with respect to s (B,): ds/dm = alpha s (1 - s).

    With grad_soft_i = L_i - log(L_i + eps) + 2 lambda (ratio - c), lambda held constant, it is that of all three terms; a
    term that is switched off is left out. Multiplied by N, it does not shrink with the size of the data set, so that a
    learning rate means the same for 300 and for 300,000 samples.
    """
    s = soft_mask(logits, alpha)
    return alpha * s * (1 - s) * grad_soft
