"""From a method's name to its selection."""

from time import perf_counter
from typing import Any

import numpy as np
from detectron2.config import CfgNode

from ..baselines.registry import EARLY, METHODS, NOTHING, scoring_function
from ..pruning import Selection
from ..pruning.adapruner import number_to_keep
from .proxy import Proxy
from .proxy_statistics import ProxyEvidence
from .selection_of_scores import selection_of_scores


def select_by(method: str, proxy: Proxy, keep_ratio: float, seed: int) -> Selection:
    """The selection of a method of the registry; trains what of the proxy it needs and is not there.

    One that sets the ratio itself keeps the images with scores above 0, whatever share that is.

    Its provenance has the seconds the method would have taken alone: those of the proxy's training as
    far as it needs it, of what it asks of the trained networks, and its own; `seconds_of` has the parts.
    `seconds_here` are those it took, with what was known from another method before.

    Raises:
        ValueError: the method gives scores that are no finite numbers; before training, a ratio that keeps none or all,
            or fewer images than there are classes to be kept (SCORING.CLASS_BALANCE).
    """
    needs = METHODS[method].needs
    if not METHODS[method].sets_ratio and keep_ratio < 1:  # what arithmetic can tell is said before training
        number_to_keep(len(proxy.records), keep_ratio)
        nothing = np.zeros(len(proxy.records))
        selection_of_scores(proxy.cfg, proxy.records, proxy.others, nothing, keep_ratio, method, {})
    start = perf_counter()
    if needs != NOTHING:
        proxy.train(needs)
    evidence = ProxyEvidence(proxy)
    scores, parts = _scores(method, evidence, keep_ratio, seed)
    seconds_here = perf_counter() - start
    if METHODS[method].sets_ratio:
        keep_ratio = max(1, np.count_nonzero(scores > 0)) / len(scores)
    if needs != NOTHING:
        parts = {"proxy": proxy.seconds(needs), **parts}
    provenance = {
        "seed": seed,
        "seconds": round(sum(parts.values()), 1),
        "seconds_here": round(seconds_here, 1),
        "seconds_of": {name: round(seconds, 2) for name, seconds in parts.items()},
        "settings": {**_settings(proxy.cfg, needs), **evidence.settings},
        "config": proxy.cfg.dump(),
    }
    return selection_of_scores(proxy.cfg, proxy.records, proxy.others, scores, keep_ratio, method, provenance)


def _scores(method: str, evidence: ProxyEvidence, keep_ratio: float, seed: int) -> tuple[np.ndarray, dict[str, float]]:
    """(scores (N,), seconds of each piece of evidence and of the method itself)."""
    function = scoring_function(method)  # first: importing is none of the method's work
    start = perf_counter()
    scores = function(evidence, keep_ratio, seed)
    own = perf_counter() - start - evidence.waited
    return scores, {**evidence.costs, method: own}


def _settings(cfg: CfgNode, needs: str) -> dict[str, Any]:
    """The settings of the proxy that count for a method."""
    if needs == NOTHING:
        return {}
    options = {"max_iter": cfg.SOLVER.MAX_ITER, "proxy_seed": cfg.SEED}
    if needs == EARLY:
        options.update(early=cfg.SCORING.EARLY, networks=cfg.SCORING.NETWORKS)
    return options
