"""Whether a penalty can bring any logit to zero in the time it has: what arithmetic can tell before training.

While a logit m is above zero, a larger grad_soft at a visit, or an alpha nearer to the best one, only takes it lower, and
from a lower place each further visit takes it further, as s (1 - s) rises towards m = 0. So a logit that always gets
the largest grad_soft and the best alpha there can be is never above another.
"""

import math

from .mask import INITIAL_LOGIT
from .objective import SELECTION_EPS

_BEST = 1.5434  # alpha m at which alpha s (1 - s) is largest for a given m: tanh(x / 2) = 1 / x
_MANY = 10**6


def largest_gradient(objective, keep_ratio: float) -> float:
    """More than this no sample's loss can say against it while r is at least c; infinite with Eq. 4, as L is."""
    if objective.classification:
        return math.inf
    penalty = 2 * objective.compression_scale * (1 - keep_ratio) ** 2  # r is 1 at most
    easiest = -objective.selection_weight * math.log(SELECTION_EPS)  # a loss of 0
    return penalty + (easiest if objective.selection else 0.0)


def fewest_visits(grad_soft: float, learning_rate: float, alpha: "tuple[float, float]") -> float:
    """How many visits with `grad_soft` it takes a logit at least to come to zero, alpha being between two values."""
    logit = INITIAL_LOGIT
    for visits in range(_MANY):
        if logit <= 0:
            return visits
        best = min(max(_BEST / logit, alpha[0]), alpha[1])
        s = 1 / (1 + math.exp(-best * logit))
        logit -= learning_rate * best * s * (1 - s) * grad_soft
    return math.inf


def check_reach(
    objective, keep_ratio: float, alpha: "tuple[float, float]", pruning_steps: int, steps_per_epoch: float
) -> None:
    """Raises ValueError if a penalty cannot reach the ratio, whatever the losses will be.

    Args:
        objective: with a projection, or without the compression term, every ratio is reached.
        keep_ratio: c.
        alpha: first and last.
        pruning_steps: steps after the warm-up.
        steps_per_epoch: in which every sample is visited once.
    """
    if objective.projects_at_end:
        return
    visits = math.ceil(pruning_steps / steps_per_epoch) + 1  # of one sample at most, as passes may begin in between
    needed = fewest_visits(largest_gradient(objective, keep_ratio), objective.learning_rate, alpha)
    if visits < needed:
        raise ValueError(
            f"the penalty cannot reach keep_ratio {keep_ratio}: no logit can fall to zero in fewer than "
            f"{needed} visits, and pruning visits each sample {visits} times at most: raise learning_rate (ADAPRUNER.MASK.LR), "
            "compression_scale (ADAPRUNER.MASK.COMPRESSION_SCALE) or the length of the run, or add the classification loss"
        )
