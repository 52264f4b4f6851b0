"""From a method's name to its selection, by a proxy."""

from time import perf_counter
from typing import Any

import numpy as np

from ..baselines.registry import ADAPRUNER, EARLY, METHODS
from ..data.selection_record import make_selection
from ..pruning import Selection
from ..pruning.adapruner import number_to_keep
from ..pruning.statistics import Statistics
from .proxy import Proxy
from .proxy_statistics import gradients_of, statistics_by
from .select import scores_by, variant_of


def select_by(method: str, proxy: Proxy, keep_ratio: float, seed: int) -> tuple[Selection, Statistics]:
    """The selection of a method of the registry, and what it went by; trains what of the proxy it needs and is not there.

    Its provenance has the seconds the method would have taken alone: those of the proxy's training as far as it needs
    it, of what it asks of the trained networks, and its own; `seconds_of` has the parts. `seconds_here` are those it
    took, with what was known from another method before.

    Raises:
        ValueError: before any work, a setting that cannot be, a ratio that keeps none or all, fewer images than classes
            that each keep one (SCORING.CLASS_BALANCE); afterwards, scores that are no finite numbers.
    """
    entry, cfg = METHODS[method], proxy.cfg
    variant = variant_of(method, cfg)
    if method == ADAPRUNER and cfg.SCORING.CLASS_BALANCE:
        raise ValueError(
            "SCORING.CLASS_BALANCE holds classes to the ratio, which AdaPruner weighs by a term of its own"
        )
    if (keep_ratio < 1 or entry.looks_at_ratio) and not (variant and variant == entry.sets_ratio):
        number_to_keep(len(proxy.records), keep_ratio)
        equal, balanced = [0.0] * len(proxy.records), cfg.SCORING.CLASS_BALANCE
        make_selection(proxy.records, equal, keep_ratio=keep_ratio, method=method, class_balance=balanced)
    start = perf_counter()
    for training in entry.trainings:
        proxy.train(training)
    statistics, parts = statistics_by(proxy, entry.needs)
    known = perf_counter()
    scores = scores_by(method, cfg, statistics, keep_ratio, seed)
    parts[method] = perf_counter() - known
    if entry.trainings:
        parts = {"proxy": sum(map(proxy.seconds, entry.trainings)), **parts}
    if variant and variant == entry.sets_ratio:
        keep_ratio = max(1, int(np.count_nonzero(scores.values > 0))) / len(statistics)
    selection = make_selection(
        proxy.records,
        scores.values.tolist(),
        keep_ratio=keep_ratio,
        method=method,
        others=proxy.others,
        keep_others=cfg.ADAPRUNER.EMPTY_IMAGES == "keep",
        class_balance=cfg.SCORING.CLASS_BALANCE,
        columns=scores.columns,
        provenance={
            "seed": seed,
            "seconds": round(sum(parts.values()), 1),
            "seconds_here": round(perf_counter() - start, 1),
            "seconds_of": {name: round(seconds, 2) for name, seconds in parts.items()},
            "settings": _settings(method, proxy),
            **scores.facts,
            "config": cfg.dump(),
        },
    )
    return selection, statistics


def _settings(method: str, proxy: Proxy) -> dict[str, Any]:
    """The settings of the proxy that count for a method."""
    entry, options = METHODS[method], proxy.cfg.SCORING
    settings: dict[str, Any] = {}
    if entry.trainings:
        settings.update(max_iter=proxy.cfg.SOLVER.MAX_ITER, proxy_seed=proxy.cfg.SEED)
    if EARLY in entry.trainings:
        settings.update(early=options.EARLY, networks=options.NETWORKS)
    if "gradient_norms" in entry.needs:
        settings["gradients"] = gradients_of(proxy)
    if entry.variants:
        settings["variant"] = variant_of(method, proxy.cfg)
    return settings
