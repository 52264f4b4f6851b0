"""CG-score: how much an image adds to the complexity of fitting the labels, known without training.

Ki et al. 2023, "Data Valuation Without Training of a Model".

N images, D numbers an input, n of the images in one matrix.
"""

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import ArrayLike
from scipy.linalg import cholesky, solve_triangular
from scipy.linalg.lapack import dtrtri
from tqdm import tqdm

from ..pruning.statistics import Statistics
from .scores import class_by_class, scores_of_order

# Added to the diagonal (0.5), so that duplicates leave the matrix invertible. Next to the smallest
# eigenvalue of distinct images it is nothing: 0.026 for 5000 images of CIFAR-10.
_JITTER = 1e-6
# Two inputs whose cosine is this near to 1 are the same; rounding must not make an angle of it.
_SAME_INPUT = 1e-12
# Columns, and images, that are brought to float64 at once.
_COLUMNS, _IMAGES = 4096, 1024


def cg_score(statistics: Statistics, keep_ratio: float, seed: int) -> np.ndarray:
    """Keeps the images of each class that add most to the complexity of the labels.

    The complexity of n labelled images is y^T H^-1 y, which bounds the generalisation error of an overparameterised
    two-layer ReLU network (Arora et al. 2019, "Fine-grained analysis of optimization and generalization for
    overparameterized two-layer neural networks"). H is `relu_gram`, y is 1 for the images of one class and -1 for
    others. The score of an image is the complexity with it less the one without it; see `cg_scores` for many classes.

    The paper wants inputs of length 1. As in the authors' code each channel is standardised over all images before, and
    each class is pruned by itself.

    Caveat: wrong labels and outliers score highest, hence are kept first. What the paper prunes is the redundant end.
    """
    images, labels = statistics.pixels, statistics.classes
    center, scale = (np.tile(own, images.shape[1] * images.shape[2]) for own in channel_statistics(images))
    gaps = cg_scores(images.reshape(len(images), -1), labels, seed, center, scale)
    return scores_of_order(class_by_class(labels, lambda of_class: np.argsort(-gaps[of_class]), seed))


def cg_scores(
    inputs: np.ndarray,
    labels: np.ndarray,
    seed: int,
    center: ArrayLike = 0.0,
    scale: ArrayLike = 1.0,
    draws: int = 3,
    class_images: int = 5000,
) -> np.ndarray:
    """Mean CG-score of each image over several random draws of images of other classes.

    One matrix holds images of one class and as many of all others, drawn without replacement; only the former get a
    score from it. So does the authors' published code, but that it draws once and does not bound the matrix. On
    CIFAR-10 the scores of two draws have a rank correlation of 0.73, so that means of three are worth their time: 30
    matrices, of 18 s of one core and 2.4 GB each.

    Args:
        inputs: (N, D) numbers, of any length.
        labels: (N,) integers.
        center, scale: what to subtract from the inputs, and then to divide them by; (D,) or one number.
        draws: how often other images are drawn.
        class_images: a class with more images is dealt out at random, to several matrices.

    Returns:
        (N,) float64, not negative.
    """
    rng = np.random.default_rng(seed)
    totals = np.zeros(len(labels))
    center, scale = (np.broadcast_to(numbers, inputs.shape[1]) for numbers in (center, scale))
    matrices = [pair for _ in range(draws) for pair in _deal(labels, rng, class_images)]
    for members, others in tqdm(matrices, "CG-score", unit="matrix", delay=5):
        gram = relu_gram(cosines(inputs[np.concatenate([others, members])], center, scale))
        y = np.repeat([-1.0, 1.0], [len(others), len(members)])
        totals[members] += complexity_gaps(gram, y, len(members))
    return totals / draws


def _deal(labels: np.ndarray, rng: np.random.Generator, class_images: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Deals each image to one matrix: its images of one class, and those of others drawn for it."""
    for label in np.unique(labels):
        of_class, not_of_class = np.flatnonzero(labels == label), np.flatnonzero(labels != label)
        for members in np.array_split(rng.permutation(of_class), -(-len(of_class) // class_images)):
            count = min(len(members), len(not_of_class))
            yield members, rng.choice(not_of_class, size=count, replace=False)


def complexity_gaps(gram: np.ndarray, y: np.ndarray, count: int) -> np.ndarray:
    """y^T H^-1 y less the same without image i, (count,), for each of the last `count` of n images.

    By the Schur complement the gap is (H^-1 y)_i^2 / (H^-1)_ii. With H = L L^T the last rows of both need the inverse
    of the last block of L alone, so one Cholesky decomposition does it for all.

    Args:
        gram: (n, n) float64, H, symmetric and positive definite. Overwritten.
        y: (n,) float64.
    """
    # Transposed: LAPACK works in place on columns.
    lower = cholesky(gram.T, lower=True, overwrite_a=True, check_finite=False)
    reduced = solve_triangular(lower, y, lower=True, check_finite=False)[-count:]
    inverse, _ = dtrtri(lower[-count:, -count:], lower=1)
    return (reduced @ inverse) ** 2 / np.einsum("ij,ij->j", inverse, inverse)


def relu_gram(cosines: np.ndarray) -> np.ndarray:
    """H_ij = c_ij (pi - arccos c_ij) / (2 pi), c the cosines, plus a little on the diagonal.

    It is the kernel of a wide two-layer ReLU network of which the first layer is trained: (n, n), positive definite.
    The cosines (n, n) float64 are overwritten.
    """
    kernel = torch.from_numpy(cosines)  # its arccos is five times as fast as NumPy's
    kernel.clamp_(-1, 1)
    kernel[kernel > 1 - _SAME_INPUT] = 1
    kernel.mul_(torch.acos(kernel).neg_().add_(np.pi)).div_(2 * np.pi)
    kernel.fill_diagonal_(0.5 + _JITTER)
    return kernel.numpy()


def cosines(inputs: np.ndarray, center: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """Cosine of each two of n inputs (n, D) less `center` over `scale` (D,), (n, n) float64; 0 for an input of zeros."""
    products = np.zeros((len(inputs), len(inputs)))
    for start in range(0, inputs.shape[1], _COLUMNS):
        columns = slice(start, start + _COLUMNS)
        part = (inputs[:, columns] - center[columns]) / scale[columns]
        products += part @ part.T
    lengths = np.sqrt(np.diag(products))
    lengths[lengths == 0] = 1
    products /= lengths
    products /= lengths[:, None]
    return products


def channel_statistics(images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation (C,) of each channel of images (N, H, W, C); 1 for a channel that is constant."""
    sums, squares = np.zeros(images.shape[3]), np.zeros(images.shape[3])
    for start in range(0, len(images), _IMAGES):
        block = images[start : start + _IMAGES].astype(np.float64)
        sums += block.sum(axis=(0, 1, 2))
        squares += np.square(block).sum(axis=(0, 1, 2))
    places = images[..., 0].size
    mean = sums / places
    deviation = np.sqrt(np.maximum(squares / places - mean**2, 0))
    return mean, np.where(deviation == 0, 1, deviation)
