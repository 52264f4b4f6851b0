"""D2 pruning: hard images in dense places first, and fewer of those beside them.

Maharana, Yadav and Bansal, "D2 Pruning: Message Passing for Balancing Diversity and Difficulty in Data Pruning" (2024).
On the graph of the k nearest neighbours, with x the difficulty and d the distance of features,

    forward: u_i = x_i + sum_j exp(-gamma d_ij^2) x_j,      reverse, when i is chosen: u_j -= exp(-gamma d_ij^2) u_i,

and the image with the highest u is chosen next.

Left open there, or otherwise here: k, gamma and the measure of difficulty are chosen for each data set. Here k = 10,
gamma = 1, difficulty is the mean loss while the proxy trained, and features have length 1.
"""

import numpy as np

from ..pruning.neighbors import nearest_of_all, unit_vectors
from ..pruning.statistics import Statistics
from .mean_loss import mean_loss
from .scores import scores_of_order

NEIGHBOURS, GAMMA = 10, 1.0


def d2_pruning(statistics: Statistics, keep_ratio: float, seed: int) -> np.ndarray:
    """Keeps the images that are hard and among hard ones, but not beside one that stays.

    The score is their place in the order of choice.
    """
    difficulty = mean_loss(statistics, keep_ratio, seed)
    return scores_of_order(message_order(statistics.features, difficulty))


def message_order(features: np.ndarray, difficulty: np.ndarray, neighbours: int = NEIGHBOURS) -> np.ndarray:
    """The order (N,) in which images are chosen, features (N, F), difficulty (N,); of equal ones the first first."""
    units = unit_vectors(features)
    places, distances = nearest_of_all(units, min(neighbours, len(units) - 1))
    weights = np.exp(-GAMMA * 2 * distances)  # ||a - b||^2 = 2 (1 - cosine)
    values = difficulty + (weights * difficulty[places]).sum(axis=1)
    order = np.empty(len(units), np.int64)
    for i in range(len(units)):
        order[i] = chosen = values.argmax()
        values[places[chosen]] -= weights[chosen] * values[chosen]
        values[chosen] = -np.inf
    return order
