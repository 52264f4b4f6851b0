"""GLISTER: the images whose gradient step most lowers the loss of images held out.

Killamsetty et al. 2021, "GLISTER: Generalization based Data Subset Selection for Efficient and Robust Learning".

N images, F features, C classes, B = F + 1 inputs of the last layer, bias included.
"""

import numpy as np
from scipy.special import softmax
from tqdm import tqdm

from ..pruning.statistics import LastLayer, Statistics
from .el2n import prediction_errors
from .scores import scores_of_order


def glister(statistics: Statistics, keep_ratio: float, seed: int) -> np.ndarray:
    """Keeps the images whose gradients lower the loss of held-out images most.

    The paper chooses a set S that minimises L_V(theta - eta sum_{i in S} g_i): the loss on held-out images V after one
    gradient step on S. Theta is the last layer alone, as in its approximation for deep networks. All classes compete in
    one greedy (`greedy_order`).

    Decided here:
    - V is a tenth of the training images, stratified by class. The same greedy ranks V with the roles exchanged. Both
      orders are merged by the share of its part that was chosen before an image.
    - The proxy was trained on V as well, and the choice is made once; the paper refreshes it while it trains.
    - eta is the learning rate of the proxy's training for one image. If it is too small grad L_V stays what it is, and
      the classes that it favours at first are chosen to the last image before others have their turn.

    Caveat: the gain of an image that the proxy fits is almost 0, so hard images come first as far as they agree with
    held-out ones, easy ones follow, and those that contradict come last.
    """
    layer, labels = statistics.last_layer, statistics.classes
    held_out, candidates = split(labels, seed)
    chosen = np.empty(len(labels))  # the share of an image's part that was chosen before it
    for part, other in ((candidates, held_out), (held_out, candidates)):
        # A tenth of the images has to move the parameters as far as the other nine do.
        rate = statistics.image_learning_rate * len(labels) / len(part)
        order = greedy_order(_rows(layer, part), labels[part], _rows(layer, other), labels[other], rate)
        chosen[part[order]] = (np.arange(len(part)) + 0.5) / len(part)
    return scores_of_order(np.argsort(chosen, kind="stable"))


def split(labels: np.ndarray, seed: int, share: float = 0.1) -> tuple[np.ndarray, np.ndarray]:
    """Sets a share of the images apart, stratified: those, at least one, and the others, both in random order."""
    if len(labels) < 2:
        raise ValueError(f"GLISTER holds some images out: it needs two at least, not {len(labels)}")
    rng = np.random.default_rng(seed)
    shuffled = rng.permutation(len(labels))
    by_class = shuffled[np.argsort(labels[shuffled], kind="stable")]
    count = max(1, round(share * len(labels)))
    # Every 1/share-th of the images in the order of their classes, from a random start.
    places = (np.arange(count) * len(labels) + rng.integers(len(labels))) // count
    return rng.permutation(by_class[places]), rng.permutation(np.delete(by_class, places))


def greedy_order(
    candidates: LastLayer,
    labels: np.ndarray,
    held_out: LastLayer,
    held_out_labels: np.ndarray,
    rate: float,
    rounds: int = 300,
) -> np.ndarray:
    """The order (N,) in which candidates are chosen, by their gain on M held-out images.

    The gain is of first order, eta g_i . grad L_V(theta_S). After each block of candidates grad L_V is computed anew at
    the theta_S of all chosen so far; the g_i stay those at theta. Time is O(rounds (N + M) C F).

    Args:
        candidates, held_out: the last layer of N and of M images.
        labels, held_out_labels: (N,) and (M,) integers in [0, C).
        rate: eta, what the gradient of one chosen image is multiplied by.
        rounds: number of blocks that the candidates are chosen in. N rounds: one by one.
    """
    inputs, errors = candidates.inputs, prediction_errors(candidates.probabilities.astype(float), labels)
    held_out_inputs = held_out.inputs
    # The softmax takes any logits that differ from the layer's own by a number an image.
    logits = np.log(np.maximum(held_out.probabilities, np.finfo(np.float32).tiny), dtype=np.float64)
    moved = np.zeros((logits.shape[1], inputs.shape[1]))  # (C, B), the summed gradients of the chosen
    remaining, order = np.arange(len(labels)), []
    for block in tqdm(np.array_split(remaining, min(rounds, len(labels))), "GLISTER", unit="block", delay=5):
        predicted = softmax(logits - held_out_inputs @ (rate * moved).T, axis=1)
        gradient = prediction_errors(predicted, held_out_labels).T @ held_out_inputs / len(logits)
        gains = np.einsum("nc,nc->n", inputs @ gradient.T, errors)
        best = np.argsort(-gains[remaining], kind="stable")[: len(block)]
        order.append(remaining[best])
        moved += errors[order[-1]].T @ inputs[order[-1]]
        remaining = np.delete(remaining, best)
    return np.concatenate(order)


def _rows(layer: LastLayer, index: np.ndarray) -> LastLayer:
    return LastLayer(layer.features[index], layer.probabilities[index])
