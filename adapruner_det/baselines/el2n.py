"""EL2N: the error of the prediction early in training.

Paul et al. 2021, "Deep Learning on a Data Diet: Finding Important Examples Early in Training".

N images, C classes.
"""

import numpy as np

from ..pruning.statistics import Statistics


def el2n(statistics: Statistics, keep_ratio: float, seed: int) -> np.ndarray:
    """Keeps the images with the largest error of the probabilities, early.

    The paper's score is E ||p(w_t, x) - y||_2: p is the softmax of a network after a few epochs t (20 of 200 on
    CIFAR-10), y the class as one-hot vector. The mean is over 10 networks that differ in their initialisation and the
    order of the images. Here SCORING says how many networks there are, and how early.

    Caveat: images with the very highest scores, many of them labelled wrong, are better left out when labels are noisy
    or little is kept, as the paper itself finds. They are kept here, as in its main experiments.
    """
    errors = [prediction_errors(layer.probabilities, statistics.classes) for layer in statistics.early]
    return np.asarray(np.mean([np.linalg.norm(own, axis=1) for own in errors], axis=0, dtype=np.float64))


def prediction_errors(probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """p - y, y the label as one-hot vector: the gradient of the cross-entropy on the logits.

    Args:
        probabilities: (N, C).
        labels: (N,) integers in [0, C).

    Returns:
        (N, C), in the precision of the probabilities.
    """
    errors = probabilities.copy()
    images = np.arange(len(errors))
    errors[images, labels] = 0
    # p_y - 1, as the sum of the others: next to 1 a float32 has too few digits to tell images apart.
    errors[images, labels] = -errors.sum(axis=1)
    return errors
