"""Dataset Pruning: remove the images that together leave the parameters where they are.

Yang, Xie, Peng, Xu, Sun, Li: "Dataset Pruning: Reducing Training Data by Examining Generalization
Influence" (ICLR 2023). Leaving image i out of N moves the parameters by (1/N) H^-1 grad L_i to first order,
H the Hessian of the training loss; a set of images, by the sum S of theirs. The paper poses two problems:
with the number m of images to remove given, make ||S|| as small as possible (cardinality-guaranteed), and
with a bound given, remove as many as possible with ||S|| <= epsilon (generalisation-guaranteed).

Decided here:
    - Parameters are those of the last layer, a softmax regression on the features that come into it. Its
      gradient (p - y) (h, 1)^T and its Hessian have closed forms, so nothing is estimated by sampling.
    - The Hessian is exact up to MAX_EXACT parameters, else Kronecker-factored (Martens and Grosse 2015:
      "Optimizing Neural Networks with Kronecker-factored Approximate Curvature"). An influence is then an
      outer product and is kept as its two factors. A random projection would save no more memory, and
      would mislead: a set sought among all sets for its short sum is one whose sum the projection hides.
    - Both problems are solved by greedy growth and swaps (dataset_pruning_solver.py) where the paper has
      simulated annealing: the same objective, and an order of removal that can be cut at other ratios.

N images, F features, P = F + 1 with the bias, C classes.
"""

import logging

import numpy as np
from scipy.linalg import cho_factor, cho_solve

from adapruner_det.baselines.dataset_pruning_solver import (
    Influences,
    Removal,
    largest_removable,
    smallest_sum,
)
from adapruner_det.baselines.evidence import Evidence, LastLayer
from adapruner_det.baselines.orders import scores_of_order

DAMPING = 5e-4  # the L2 penalty that the classifiers of configs/ are trained with (SOLVER.WEIGHT_DECAY)
MAX_EXACT = 2000  # parameters P C; more make the factorisation and the (N, P C) influences too large
BLOCK = 4096  # images whose float64 copies are held at a time

logger = logging.getLogger(__name__)


def dataset_pruning(evidence: Evidence, keep_ratio: float, seed: int) -> np.ndarray:
    """Cardinality-guaranteed Dataset Pruning.

    The cut at `keep_ratio` removes exactly the set that was found for it. Cut higher, it removes the
    first of that set in the order in which they were chosen, each time to keep the sum short; cut lower,
    that set and those that growing it further would take.

    Returns:
        (N,) float64 in (0, 1].
    """
    influences = last_layer_influences(evidence.last_layer(), evidence.labels)
    removal = smallest_sum(influences, _num_removed(len(influences), keep_ratio), seed)
    return _scores(removal)


def dataset_pruning_guaranteed(evidence: Evidence, keep_ratio: float, seed: int) -> np.ndarray:
    """Generalisation-guaranteed Dataset Pruning.

    Epsilon is given in the paper's problem. Here it is how far the parameters move, as a root mean square,
    when 1 - keep_ratio of the images is removed at random. How many images can go at that price is the
    method's own answer, often far more: 85% where a random 10% may. Those images are the ones with scores
    of at most 0, in order of removal; `select_by` prunes all of them, and a comparison at given ratios has
    no place for the method. Any other epsilon: `largest_removable(last_layer_influences(...), epsilon)`.

    Returns:
        (N,) float64 in (-1, 1]; those that can go at most 0, all others above.
    """
    influences = last_layer_influences(evidence.last_layer(), evidence.labels)
    count = len(influences)
    epsilon = random_change(influences, _num_removed(count, keep_ratio))
    removal = largest_removable(influences, epsilon, seed)
    logger.info(
        "Dataset pruning: %d of %d images (%.1f%%) can go with the parameters of the last layer moving by "
        "at most %.3g, as far as without a random %.1f%% of the images.",
        *(removal.size, count, 100 * removal.size / count, epsilon, 100 * (1 - keep_ratio)),
    )
    return _scores(removal) - removal.size / count


def _num_removed(count: int, keep_ratio: float) -> int:
    return count - max(1, round(keep_ratio * count))


def _scores(removal: Removal) -> np.ndarray:
    """The order of removal, continued to all images, as scores in (0, 1]: removed last, scored highest."""
    removal = removal.copy()
    removal.grow(len(removal.order) - removal.size)
    return scores_of_order(removal.order[::-1])


def random_change(influences: Influences, count: int) -> float:
    """Root mean square of the norm of the summed influences of `count` images drawn at random."""
    total = len(influences)
    square_of_sum = np.sum(influences.sum(np.arange(total)) ** 2)
    spread = influences.squared_norms().sum() - square_of_sum / total
    share = count / total
    return float(np.sqrt(share * (total - count) / max(1, total - 1) * spread + share**2 * square_of_sum))


def last_layer_influences(last_layer: LastLayer, labels: np.ndarray, damping: float = DAMPING) -> Influences:
    """What leaving out each image does to weights and bias of the last layer, (1/N) H^-1 grad L_i.

    Args:
        labels: (N,) int64.
        damping: weight of the penalty damping/2 ||theta||^2 of the training loss, which includes the bias.

    Returns:
        The influences of N images on P C parameters.
    """
    size = (last_layer.features.shape[1] + 1) * last_layer.probabilities.shape[1]
    method = exact_influences if size <= MAX_EXACT else kronecker_influences
    return method(last_layer, labels, damping)


def exact_influences(last_layer: LastLayer, labels: np.ndarray, damping: float) -> Influences:
    """With the exact Hessian; of `left` (N, P C) a row is the change of the (P, C) parameters, flattened."""
    factor = cho_factor(hessian(last_layer, damping))
    count = len(labels)
    vectors = np.empty((count, len(factor[0])), np.float32)
    for part in _blocks(count):
        gradients = np.einsum("np,nc->npc", _inputs(last_layer, part), residuals(last_layer, labels, part))
        vectors[part] = cho_solve(factor, gradients.reshape(len(gradients), -1).T).T / count
    return Influences.of_vectors(vectors)


def kronecker_influences(last_layer: LastLayer, labels: np.ndarray, damping: float) -> Influences:
    """With H taken as A kron G, A = mean of (h, 1) (h, 1)^T and G = mean of diag(p) - p p^T.

    Both are damped so that their product is by about `damping`, split by their mean eigenvalues
    (Martens and Grosse 2015, section 6.3).
    """
    count, num_classes = last_layer.probabilities.shape
    num_inputs = last_layer.features.shape[1] + 1
    of_inputs, of_outputs = np.zeros((num_inputs, num_inputs)), np.zeros((num_classes, num_classes))
    for part in _blocks(count):
        inputs, probabilities = _inputs(last_layer, part), last_layer.probabilities[part].astype(float)
        of_inputs += inputs.T @ inputs / count
        of_outputs += (np.diag(probabilities.sum(axis=0)) - probabilities.T @ probabilities) / count
    tiny = 1e-12  # predictions that are all certain have G = 0
    split = np.sqrt(np.trace(of_inputs) / num_inputs / max(tiny, np.trace(of_outputs) / num_classes))
    left_factor = cho_factor(of_inputs + split * np.sqrt(damping) * np.eye(num_inputs))
    right_factor = cho_factor(of_outputs + np.sqrt(damping) / split * np.eye(num_classes))
    left = np.empty((count, num_inputs), np.float32)
    right = np.empty((count, num_classes), np.float32)
    for part in _blocks(count):
        left[part] = cho_solve(left_factor, _inputs(last_layer, part).T).T / count
        right[part] = cho_solve(right_factor, residuals(last_layer, labels, part).T).T
    return Influences(left, right)


def hessian(last_layer: LastLayer, damping: float) -> np.ndarray:
    """Of the mean cross-entropy and damping/2 ||theta||^2, (P C, P C); parameters as (P, C), flattened."""
    count, num_classes = last_layer.probabilities.shape
    num_inputs = last_layer.features.shape[1] + 1
    result = np.zeros((num_inputs, num_classes, num_inputs, num_classes))
    for part in _blocks(count):
        inputs, probabilities = _inputs(last_layer, part), last_layer.probabilities[part].astype(float)
        for i in range(num_classes):
            for j in range(i, num_classes):
                curvature = probabilities[:, i] * ((i == j) - probabilities[:, j]) / count
                result[:, i, :, j] += (inputs * curvature[:, None]).T @ inputs
    for i in range(num_classes):
        for j in range(i):
            result[:, i, :, j] = result[:, j, :, i]
    result = result.reshape(num_inputs * num_classes, -1)
    result[np.diag_indices_from(result)] += damping
    return result


def residuals(last_layer: LastLayer, labels: np.ndarray, part: slice = slice(None)) -> np.ndarray:
    """p - y, the gradient of the cross-entropy on the outputs, of the images of `part`: (n, C) float64."""
    result = last_layer.probabilities[part].astype(float)
    own = np.arange(len(result)), labels[part]
    # Not p - 1, which float32 rounds to 0 for images that are classified with certainty.
    result[own] = 0
    result[own] = -result.sum(axis=1)
    return result


def _inputs(last_layer: LastLayer, part: slice) -> np.ndarray:
    """(h, 1) of the images of `part`, (n, P) float64."""
    features = last_layer.features[part].astype(float)
    return np.concatenate([features, np.ones((len(features), 1))], axis=1)


def _blocks(count: int):
    return [slice(start, start + BLOCK) for start in range(0, count, BLOCK)]
