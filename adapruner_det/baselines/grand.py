"""GraNd: the norm of an image's gradient early in training.

Paul et al. 2021, "Deep Learning on a Data Diet: Finding Important Examples Early in Training".

N images, C classes, F features.
"""

import numpy as np

from ..pruning.statistics import LastLayer, Statistics
from .el2n import prediction_errors


def grand(statistics: Statistics, keep_ratio: float, seed: int) -> np.ndarray:
    """Keeps the images with the largest gradient of the loss, early.

    The paper's score is E ||g_t(x, y)||_2: g_t is the gradient of the loss of one image on all parameters of a network
    after a few epochs t. The mean is over 10 networks. Here SCORING says how many networks there are, how early, and on
    which parameters. BatchNorm, which the paper leaves open, is in evaluation mode, as the gradient of one image is not
    defined otherwise.

    Caveats: as for EL2N. The paper's result at initialisation (t = 0) does not reproduce (Kirsch 2023, "Does 'Deep
    Learning on a Data Diet' reproduce? Overall yes, but GraNd at initialization does not").
    """
    return statistics.gradient_norms.mean(axis=0, dtype=np.float64)


def last_layer_gradient_norms(layer: LastLayer, labels: np.ndarray) -> np.ndarray:
    """Norm of the gradient of each image's cross-entropy on weight and bias of the last layer.

    The gradient is the outer product of p - y and (h, 1), h the features, so its norm is the product of theirs.

    Args:
        labels: (N,) integers in [0, C).

    Returns:
        (N,) float32.
    """
    squared_inputs = np.einsum("nf,nf->n", layer.features, layer.features) + 1
    return np.linalg.norm(prediction_errors(layer.probabilities, labels), axis=1) * np.sqrt(squared_inputs)
