"""From statistics to scores, by a method of the registry with its options; and to a selection at another ratio."""

import math
from collections.abc import Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from detectron2.config import CfgNode

from ..baselines.adapruner import OBJECTIVE, adapruner
from ..baselines.registry import ADAPRUNER, METHODS
from ..baselines.scores import Scores
from ..pruning import Selection
from ..pruning.energy import TermWeights
from ..pruning.statistics import FILE, Statistics

# Where the config has the weight of each term of E.
_WEIGHT_KEYS = {
    field.name: "MASK.SELECTION_WEIGHT" if field.name == "selection_weight" else field.name.upper()
    for field in fields(TermWeights)
}


def term_weights(cfg: CfgNode) -> TermWeights:
    """The keys of cfg.ADAPRUNER that weigh the terms of E.

    Raises:
        ValueError: a weight that cannot be, by its key.
    """
    values = {**cfg.ADAPRUNER, "MASK.SELECTION_WEIGHT": cfg.ADAPRUNER.MASK.SELECTION_WEIGHT}
    try:
        return TermWeights(**{name: values[key] for name, key in _WEIGHT_KEYS.items()})
    except ValueError as error:
        raise ValueError(f"ADAPRUNER: {error}") from error


def variant_of(method: str, cfg: CfgNode) -> str:
    """The variant of a method that SCORING.<METHOD> asks for; empty if there are none.

    Raises:
        ValueError: no such variant.
    """
    variants = METHODS[method].variants
    if not variants:
        return ""
    asked = cfg.SCORING[method.upper()]
    if asked not in variants:
        raise ValueError(f"SCORING.{method.upper()} is {asked!r}; it can be {', '.join(variants)}")
    return asked


def scores_by(method: str, cfg: CfgNode, statistics: Statistics, keep_ratio: float, seed: int) -> Scores:
    """What a method of the registry makes of statistics, with the options that the config has for it."""
    options: dict[str, Any] = {"variant": variant_of(method, cfg)} if METHODS[method].variants else {}
    if method == ADAPRUNER:
        options = {"weights": term_weights(cfg)}
    scores = METHODS[method].score(statistics, keep_ratio, seed, **options)
    return scores if isinstance(scores, Scores) else Scores(scores)


def ratio_with_reason(cfg: CfgNode, statistics: Statistics, seed: int) -> float:
    """The lowest ratio at which there are reasons for as many images as go: how many depends on which stay.

    Found by bisection to a percent of the images, as the fewer stay, the fewer repeat one that does. At least one image goes.
    """
    num = len(statistics)
    step = max(1, num // 100)
    most, beyond = 1, num // step  # steps of images that go: for so many there are reasons, for so many there are not
    while beyond - most > 1:
        middle = (most + beyond) // 2
        told = scores_by(ADAPRUNER, cfg, statistics, 1 - middle * step / num, seed).facts["reasons"]["with_reason"]
        most, beyond = (middle, beyond) if told >= middle * step else (most, middle)
    return math.ceil(1e4 * (1 - most * step / num) - 1e-6) / 1e4  # of four digits, at which no more go


def is_solved(selection: Selection) -> bool:
    """Whether its mask is the minimum of E, so that statistics lie beside it."""
    return OBJECTIVE in selection.provenance


def solve_again(folder: "str | Path", keep_ratio: float, changes: Sequence[str] = ()) -> tuple[Selection, Statistics]:
    """The selection that the run which left `folder` would have made at another ratio, from its statistics.

    Args:
        folder: of a selection for which `is_solved`.
        keep_ratio: of the images that competed.
        changes: KEY VALUE pairs of terms to weigh otherwise, such as ("ADAPRUNER.RANDOM", "0").

    Raises:
        FileNotFoundError, ValueError: as `Selection.load` and `Statistics.load`; statistics of other images; a key that
            is no term's.
    """
    selection, statistics = Selection.load(folder), Statistics.load(folder)
    others = _num_others(selection, statistics, folder)
    weights = {**selection.provenance[OBJECTIVE]}
    seed = weights.pop("seed")
    unknown = weights.keys() - _WEIGHT_KEYS.keys()
    if unknown:
        raise ValueError(f"{folder}: its terms {', '.join(sorted(unknown))} are unknown to this version: prune anew")
    try:
        solved = adapruner(statistics, keep_ratio, seed, TermWeights(**{**weights, **_changed(changes)}))
    except FloatingPointError as error:
        raise ValueError(f"{Path(folder) / FILE}: {error}") from error
    again = replace(
        selection,
        scores=solved.values.tolist() + [None] * others,
        kept=[*(solved.values > 0).tolist(), *selection.kept[len(statistics) :]],
        keep_ratio=keep_ratio,
        columns={
            **selection.columns,
            **{name: list(values) + [None] * others for name, values in solved.columns.items()},
        },
        provenance={**selection.provenance, **solved.facts, "solved_again_from": selection.keep_ratio},
    )
    return again, statistics


def _changed(pairs: Sequence[str]) -> dict[str, float]:
    """The weights that KEY VALUE pairs set, by name of the term."""
    names = {f"ADAPRUNER.{key}": name for name, key in _WEIGHT_KEYS.items()}
    if len(pairs) % 2:
        raise ValueError(f"KEY VALUE pairs are needed; {pairs[-1]} has no value")
    changed = {}
    for key, value in zip(pairs[::2], pairs[1::2]):
        if key not in names:
            raise ValueError(
                f"{key} is no term that can be weighed otherwise without training; those are {', '.join(names)}"
            )
        try:
            changed[names[key]] = float(value)
        except ValueError:
            raise ValueError(f"{key} is a number, not {value!r}") from None
    return changed


def _num_others(selection: Selection, statistics: Statistics, folder: "str | Path") -> int:
    """How many images stand behind those of the statistics in the selection, because they did not compete."""
    competing = [key for key, score in zip(selection.keys, selection.scores) if score is not None]
    if competing != list(zip(statistics.datasets, statistics.ids)):
        raise ValueError(
            f"the statistics in {folder} are of {len(statistics)} images, its selection chose among {len(competing)}, "
            "and they are not the same: one of the two files is from elsewhere"
        )
    return len(selection) - len(competing)
