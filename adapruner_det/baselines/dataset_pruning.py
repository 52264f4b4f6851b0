"""Dataset Pruning: remove the images that together leave the parameters where they are.

Yang, Xie, Peng, Xu, Sun, Li: "Dataset Pruning: Reducing Training Data by Examining Generalization Influence" (ICLR
2023). Leaving image i out of N moves the parameters by (1/N) H^-1 grad L_i to first order, H the Hessian of the
training loss; a set of images, by the sum S of theirs. The paper poses two problems: with the number m of images to
remove given, make ||S|| as small as possible (cardinality-guaranteed), and with a bound given, remove as many as
possible with ||S|| <= epsilon (generalization-guaranteed).

Decided here: parameters are those of the last layer, a softmax regression, whose gradient (p - y) (h, 1)^T and Hessian
have closed forms. The Hessian is exact up to MAX_EXACT parameters, else Kronecker-factored (Martens and Grosse 2015:
"Optimizing Neural Networks with Kronecker-factored Approximate Curvature"), so that an influence is an outer product.
Both problems are solved by greedy growth and swaps (dataset_pruning_solver.py) where the paper has simulated annealing:
the same objective, and an order of removal that can be cut at other ratios.

N images, F features, P = F + 1 with the bias, C classes.
"""

import numpy as np
from scipy.linalg import cho_factor, cho_solve

from ..pruning.statistics import LastLayer, Statistics
from .dataset_pruning_solver import Influences, Removal, largest_removable, smallest_sum
from .el2n import prediction_errors
from .scores import scores_of_order

# Of the penalty DAMPING/2 ||theta||^2, bias included, that the classifiers of configs/ are trained with (WEIGHT_DECAY).
DAMPING = 5e-4
MAX_EXACT = 2000  # parameters P C; more make the factorisation and the (N, P C) influences too large
BLOCK = 4096  # images whose float64 gradients are held at a time


def dataset_pruning(statistics: Statistics, keep_ratio: float, seed: int, variant: str = "cardinality") -> np.ndarray:
    """Keeps the images but for those that together move the parameters least.

    The scores are the order of removal, continued to all images.

    Args:
        variant: "cardinality": the cut at `keep_ratio` removes exactly the set that was found for it. Cut higher, it
            removes the first of that set, cut lower, those that growing it further would take. "generalization":
            epsilon is how far the parameters move, as a root mean square, when 1 - keep_ratio of the images is removed
            at random. How many images can go at that price is the method's own answer, often far more; they have scores
            of at most 0.

    Returns:
        (N,) float64 in (-1, 1].
    """
    influences = last_layer_influences(statistics.last_layer, statistics.classes)
    count = len(influences)
    to_remove = count - max(1, round(keep_ratio * count))
    if variant == "cardinality":
        return _scores(smallest_sum(influences, to_remove, seed))
    removal = largest_removable(influences, random_change(influences, to_remove), seed)
    return _scores(removal) - removal.size / count


def _scores(removal: Removal) -> np.ndarray:
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


def last_layer_influences(layer: LastLayer, labels: np.ndarray) -> Influences:
    """What leaving out each image does to weights and bias of the last layer, (1/N) H^-1 grad L_i."""
    size = (layer.features.shape[1] + 1) * layer.probabilities.shape[1]
    method = exact_influences if size <= MAX_EXACT else kronecker_influences
    return method(layer, labels, DAMPING)


def exact_influences(layer: LastLayer, labels: np.ndarray, damping: float) -> Influences:
    """With the exact Hessian; of `left` (N, P C) a row is the change of the (P, C) parameters, flattened."""
    inputs, probabilities = layer.inputs, layer.probabilities.astype(float)
    errors = prediction_errors(probabilities, labels)
    factor = cho_factor(hessian(layer, damping))
    vectors = np.empty((len(labels), len(factor[0])), np.float32)
    for start in range(0, len(labels), BLOCK):
        part = slice(start, start + BLOCK)
        gradients = np.einsum("np,nc->npc", inputs[part], errors[part])
        vectors[part] = cho_solve(factor, gradients.reshape(len(gradients), -1).T).T / len(labels)
    return Influences.of_vectors(vectors)


def kronecker_influences(layer: LastLayer, labels: np.ndarray, damping: float) -> Influences:
    """With H taken as A kron G, A = mean of (h, 1) (h, 1)^T and G = mean of diag(p) - p p^T.

    Both are damped so that their product is by about `damping`, split by their mean eigenvalues (Martens and Grosse
    2015, section 6.3).
    """
    inputs, probabilities = layer.inputs, layer.probabilities.astype(float)
    count, num_inputs, num_classes = len(labels), inputs.shape[1], probabilities.shape[1]
    of_inputs = inputs.T @ inputs / count
    of_outputs = (np.diag(probabilities.sum(axis=0)) - probabilities.T @ probabilities) / count
    tiny = 1e-12  # predictions that are all certain have G = 0
    split = np.sqrt(np.trace(of_inputs) / num_inputs / max(tiny, np.trace(of_outputs) / num_classes))
    left_factor = cho_factor(of_inputs + split * np.sqrt(damping) * np.eye(num_inputs))
    right_factor = cho_factor(of_outputs + np.sqrt(damping) / split * np.eye(num_classes))
    left = cho_solve(left_factor, inputs.T).T / count
    right = cho_solve(right_factor, prediction_errors(probabilities, labels).T).T
    return Influences(left.astype(np.float32), right.astype(np.float32))


def hessian(layer: LastLayer, damping: float) -> np.ndarray:
    """Of the mean cross-entropy and damping/2 ||theta||^2, (P C, P C); parameters as (P, C), flattened."""
    inputs, probabilities = layer.inputs, layer.probabilities.astype(float)
    num_inputs, num_classes = inputs.shape[1], probabilities.shape[1]
    blocks = np.empty((num_inputs, num_classes, num_inputs, num_classes))
    for i in range(num_classes):
        for j in range(i, num_classes):
            curvature = probabilities[:, i] * ((i == j) - probabilities[:, j]) / len(inputs)
            blocks[:, i, :, j] = blocks[:, j, :, i] = (inputs * curvature[:, None]).T @ inputs
    result = blocks.reshape(num_inputs * num_classes, -1)
    result[np.diag_indices_from(result)] += damping
    return result
