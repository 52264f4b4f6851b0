"""EL2N: the error of the prediction early in training.

Paul et al. 2021, "Deep Learning on a Data Diet: Finding Important Examples Early in Training".

N images, C classes, F features.
"""

import numpy as np

from .evidence import Evidence, LastLayer


def el2n(evidence: Evidence, keep_ratio: float, seed: int) -> np.ndarray:
    """Keeps the images with the largest error, (N,) float64.

    The paper's score is E ||p(w_t, x) - y||_2, p the softmax of a network after a few epochs t (20 of
    200 on CIFAR-10), y the class as one-hot vector, the mean taken over 10 networks that differ in
    their initialisation and the order of the images. How many networks there are, and how early, is
    the evidence's to say.

    Caveat: the paper itself finds that the images with the very highest scores, many of them labelled
    wrong, are better left out when labels are noisy or little is kept. They are kept here, as in its
    main experiments.
    """
    norms = [error_norms(layer, evidence.labels) for layer in evidence.early()]
    return np.mean(norms, axis=0, dtype=np.float64)


def error_norms(layer: LastLayer, labels: np.ndarray) -> np.ndarray:
    """||p - y||_2 of each image: the norm of the gradient of its cross-entropy on its logits.

    Args:
        labels: (N,) integers in [0, C).

    Returns:
        (N,) float32.
    """
    errors = layer.probabilities.copy()
    images = np.arange(len(errors))
    errors[images, labels] = 0
    # 1 - p_y, as the sum of the others: next to 1 a float32 has too few digits to tell images apart.
    errors[images, labels] = errors.sum(axis=1)
    return np.linalg.norm(errors, axis=1)
