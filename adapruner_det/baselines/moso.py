"""MoSo: how much the loss of the others rises if an image is moved out.

Tan, Wu, Du, Chen, Wang, Wang and Qi, "Data Pruning via Moving-one-Sample-out" (2023). To first order the score is

    mean over states w_t of  grad L(S without z, w_t) . grad l(z, w_t)

times a constant: an image whose gradient agrees with that of the others is worth keeping.

Otherwise here: the gradients are those of the last layer, at the states there are: SCORING.NETWORKS early ones and the
finished one. With e = p - y and h the layer's input, they are the outer product of e and (h, 1).
"""

import numpy as np

from ..pruning.statistics import LastLayer, Statistics
from .el2n import prediction_errors


def moso(statistics: Statistics, keep_ratio: float, seed: int) -> np.ndarray:
    """Keeps the images whose gradient agrees most with that of all others."""
    states = [*statistics.early, statistics.last_layer]
    return np.mean([agreement_of_gradients(state, statistics.classes) for state in states], axis=0)


def agreement_of_gradients(layer: LastLayer, labels: np.ndarray) -> np.ndarray:
    """The product of each image's gradient with the mean of the others', (N,) float64."""
    errors = prediction_errors(layer.probabilities, labels).astype(np.float64)
    inputs = layer.inputs
    with_all = np.einsum("nc,cf,nf->n", errors, errors.T @ inputs, inputs, optimize=True)
    with_itself = np.square(errors).sum(axis=1) * np.square(inputs).sum(axis=1)
    return (with_all - with_itself) / max(1, len(errors) - 1)
