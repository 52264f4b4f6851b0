"""Herding: the images whose running mean follows the mean of their class.

Welling, "Herding dynamical weights to learn" (2009); Chen, Welling and Smola, "Super-samples from kernel herding"
(2010); the form used here is the one of iCaRL (Rebuffi et al., "iCaRL: Incremental classifier and representation
learning", 2017). With mu the mean of a class and S the images chosen so far, the next is

    argmin_x || mu - (x + sum_S x_j) / (|S| + 1) ||

Features are taken as they are, not scaled to one length (iCaRL scales them; the other papers leave it open).

N images, n images of one class, F features.
"""

import numpy as np
from tqdm import tqdm

from ..pruning.statistics import Statistics
from .scores import class_by_class, classes_or_one, scores_of_order


def herding(statistics: Statistics, keep_ratio: float, seed: int, variant: str = "nearest") -> np.ndarray:
    """Keeps the images that are together nearest to the mean of their class.

    The score is their place in the order of choice. For detection all images are one class: an image has boxes of
    several classes, and its features describe all of them.

    Args:
        variant: "nearest", or "farthest": what the library DeepCore calls herding (Guo, Zhao and Bai, "DeepCore: A
            comprehensive library for coreset selection in deep learning", 2022). Its published code takes the argmax
            where herding takes the argmin, and comparisons that took "Herding" from there have this one.
    """
    features = statistics.features
    with tqdm(total=len(features), desc="Herding", unit="image", delay=5) as progress:
        order = class_by_class(
            classes_or_one(statistics),
            lambda members: herding_order(features[members], variant == "farthest", progress),
            seed,
        )
    return scores_of_order(order)


def herding_order(
    features: np.ndarray, farthest: bool = False, progress: tqdm | None = None, centre: np.ndarray | None = None
) -> np.ndarray:
    """The order (n,) in which herding chooses the images of one class, features (n, F); of equal ones the first first.

    Takes about 2/3 n^2 F multiplications, and memory for 2 n F numbers. `centre` (F,) takes the place of the mean.
    """
    # With y = x - mu and R the sum of the chosen y, the distance is ||R + y|| / (|S| + 1), and R stays small
    # however many are chosen: nothing is lost in float32.
    centre = features.mean(axis=0, dtype=np.float64) if centre is None else centre
    centred = (features - centre).astype(np.float32)
    left, total = np.arange(len(centred)), np.zeros(centred.shape[1])
    order = []
    while len(left):
        rows = centred[left]
        picks = _choose(rows, total, (len(left) + 1) // 2, -1.0 if farthest else 1.0, progress)
        order.append(left[picks])
        left = np.delete(left, picks)  # half of the rows are done with; what follows looks only at the others
    return np.concatenate(order) if order else left


def _choose(rows: np.ndarray, total: np.ndarray, count: int, sign: float, progress: tqdm | None) -> list[int]:
    """The next `count` of the centred (n, F) rows; `total` (F,), the sum of the chosen, is updated."""
    cost = sign * np.einsum("ij,ij->i", rows, rows)
    picks = []
    for _ in range(count):
        pick = int(np.argmin(cost + rows @ (2 * sign * total).astype(rows.dtype)))
        cost[pick] = np.inf
        total += rows[pick]
        picks.append(pick)
        if progress is not None:
            progress.update()
    return picks
