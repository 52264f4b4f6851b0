"""MoSo: how much the loss of the others rises if an image is moved out.

Tan, Wu, Du, Chen, Wang, Wang and Qi, "Data Pruning via Moving-one-Sample-out" (2023). To first order the score is

    mean over states w_t of  eta_t grad L(S without z, w_t) . grad l(z, w_t),   eta_t the learning rate,

times a constant: an image whose gradient agrees with that of the others is worth keeping.

Otherwise here: the gradients are those of the last layer, with e = p - y and h its input the outer product of e and (h, 1);
the states are those of SCORING.NETWORKS networks early in their training, at one learning rate (the paper's are ten
epochs of one). At the end, where a cosine has come to 0, a state would not count.
"""

import numpy as np

from ..pruning.statistics import LastLayer, Statistics
from .el2n import prediction_errors


def moso(statistics: Statistics, keep_ratio: float, seed: int) -> np.ndarray:
    """Keeps the images whose gradient agrees most with that of all others."""
    return np.mean([agreement_of_gradients(state, statistics.classes) for state in statistics.early], axis=0)


def agreement_of_gradients(layer: LastLayer, labels: np.ndarray) -> np.ndarray:
    """The product of each image's gradient with the mean of the others', (N,) float64."""
    errors = prediction_errors(layer.probabilities, labels).astype(np.float64)
    inputs = layer.inputs
    with_all = np.einsum("nc,cf,nf->n", errors, errors.T @ inputs, inputs, optimize=True)
    with_itself = np.square(errors).sum(axis=1) * np.square(inputs).sum(axis=1)
    return (with_all - with_itself) / max(1, len(errors) - 1)
