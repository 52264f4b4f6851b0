"""AdaPruner: the mask that is the minimum of E, given what a finished model says (pruning/energy.py has E)."""

import math
from dataclasses import asdict

from ..pruning.decision import columns_of, counts_of, decide
from ..pruning.energy import TermWeights
from ..pruning.statistics import Statistics
from .scores import Scores

OBJECTIVE = "objective"  # in a record's provenance: the weights of the terms, and the seed of the draw


def adapruner(statistics: Statistics, keep_ratio: float, seed: int, weights: TermWeights | None = None) -> Scores:
    """Keeps the images that the least speaks against, with the reason of every image.

    The scores are the logits of the mask; images above 0 stay.

    Args:
        weights: of the terms of E; the defaults are those of detection.

    Raises:
        ValueError: the ratio keeps none of the images, or all.
        FloatingPointError: the statistics are not finite.
    """
    weights = weights or TermWeights()
    decision = decide(statistics, weights, keep_ratio, seed)
    final_loss = [loss if math.isfinite(loss) else None for loss in statistics.loss.tolist()]
    return Scores(
        decision.logits,
        {"final_loss": final_loss, **columns_of(decision, statistics)},
        {OBJECTIVE: {**asdict(weights), "seed": seed}, "reasons": counts_of(decision)},
    )
