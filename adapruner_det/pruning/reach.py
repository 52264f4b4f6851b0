"""Whether a penalty can bring any logit to zero in the time it has: what arithmetic can tell before training.

A larger gradient at a visit, or a better alpha, takes a logit m > 0 lower, and from there each further visit takes it
further, as s (1 - s) rises towards m = 0. So one that always gets the largest and the best is never above another.
"""

import math

from .adapruner import Objective
from .mask import INITIAL_LOGIT
from .objective import SELECTION_EPS

_BEST = 1.5434  # alpha m at which alpha s (1 - s) is largest for a given m: tanh(x / 2) = 1 / x
_MANY = 10**6


def check_reach(
    objective: Objective, keep_ratio: float, alpha: tuple[float, float], pruning_steps: int, steps_per_epoch: float
) -> None:
    """Raises ValueError if a penalty cannot reach the ratio, whatever the losses will be.

    With a projection, without the compression term and with Eq. 4, as L has no bound, every ratio is reached.
    `pruning_steps` come after the warm-up; every sample is visited once in `steps_per_epoch`.
    """
    if objective.projects_at_end or objective.classification:
        return
    gradient = 2 * objective.compression_scale * (1 - keep_ratio) ** 2  # r is 1 at most
    if objective.selection:
        gradient -= objective.selection_weight * math.log(SELECTION_EPS)  # a loss of 0
    visits = math.ceil(pruning_steps / steps_per_epoch) + 1  # of one sample at most, as passes may begin in between
    needed = fewest_visits(gradient, objective.learning_rate, alpha)
    if visits < needed:
        raise ValueError(
            f"the penalty cannot reach keep_ratio {keep_ratio}: no logit can fall to zero in fewer than "
            f"{needed} visits, and pruning visits each sample {visits} times at most: raise learning_rate (ADAPRUNER.MASK.LR), "
            "compression_scale (ADAPRUNER.MASK.COMPRESSION_SCALE) or the length of the run, or add the classification loss"
        )


def fewest_visits(gradient: float, learning_rate: float, alpha: tuple[float, float]) -> float:
    """How many visits with `gradient` on s it takes a logit at least to come to zero, alpha being between two values."""
    logit = INITIAL_LOGIT
    for visits in range(_MANY):
        if logit <= 0:
            return visits
        best = min(max(_BEST / logit, alpha[0]), alpha[1])
        s = 1 / (1 + math.exp(-best * logit))
        logit -= learning_rate * best * s * (1 - s) * gradient
    return math.inf
