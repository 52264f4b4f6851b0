"""From statistics to a selection: after training, and again for another ratio."""

import math
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from detectron2.config import CfgNode

from ..data.selection_record import make_selection
from ..pruning import Selection
from ..pruning.decision import columns_of, counts_of, decide
from ..pruning.energy import TermWeights
from ..pruning.mask import Mask
from ..pruning.statistics import Statistics

METHOD = "adapruner"
OBJECTIVE = "objective"  # in a record's provenance: the weights of the terms, and the seed of the draw


def term_weights(cfg: CfgNode) -> TermWeights:
    """The keys of cfg.ADAPRUNER that weigh the terms of E.

    Raises:
        ValueError: a weight that cannot be, by its key.
    """
    options = cfg.ADAPRUNER
    try:
        return TermWeights(
            difficulty=options.DIFFICULTY,
            label_errors=options.LABEL_ERRORS,
            redundancy=options.REDUNDANCY,
            random=options.RANDOM,
            class_balance=options.CLASS_BALANCE,
            selection_weight=options.MASK.SELECTION_WEIGHT,
        )
    except ValueError as error:
        raise ValueError(f"ADAPRUNER: {error}") from error


def settle(
    mask: Mask, statistics: Statistics, weights: TermWeights, keep_ratio: float, seed: int
) -> tuple[dict[str, list[Any]], dict[str, Any]]:
    """Brings the mask to rest at the minimum of E.

    Returns:
        Columns for the record, and facts for its provenance.
    """
    decision = decide(statistics, weights, keep_ratio, seed)
    mask.replace(torch.from_numpy(decision.logits))
    final_loss = [value if math.isfinite(value) else None for value in statistics.loss.tolist()]
    columns = {"final_loss": final_loss, **columns_of(decision, statistics)}
    return columns, {OBJECTIVE: {**asdict(weights), "seed": seed}, "reasons": counts_of(decision)}


def selection_of_mask(
    mask: Mask,
    competing: list[dict],
    others: list[dict],
    keep_others: bool,
    *,
    keep_ratio: float,
    columns: dict[str, list[Any]],
    provenance: dict[str, Any],
) -> Selection:
    """What the mask says: the images with a logit above zero stay, and the logit is the score.

    Args:
        competing: the records the mask is over, N.
        others: records that do not compete; they have no score and nothing in `columns`.
        keep_others: whether those stay.
    """
    nothing = [None] * len(others)
    return make_selection(
        competing + others,
        mask.logits.tolist() + nothing,
        mask.hard().tolist() + [keep_others] * len(others),
        keep_ratio=keep_ratio,
        method=METHOD,
        columns={name: list(values) + nothing for name, values in columns.items()},
        provenance=provenance,
    )


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
        FileNotFoundError, ValueError: as `Selection.load` and `Statistics.load`; statistics of other images; a key
            that is no term's.
    """
    selection, statistics = Selection.load(folder), Statistics.load(folder)
    place = _places(selection, statistics, folder)
    weights = {**selection.provenance[OBJECTIVE]}
    seed = weights.pop("seed")
    weights.update(_changed(weights, changes))
    unknown = weights.keys() - vars(TermWeights()).keys()
    if unknown:
        raise ValueError(f"{folder}: its terms {', '.join(sorted(unknown))} are unknown to this version: prune anew")
    mask = Mask(len(statistics))
    columns, facts = settle(mask, statistics, TermWeights(**weights), keep_ratio, seed)
    scores, kept = np.array(selection.scores, object), np.array(selection.kept, bool)
    scores[place], kept[place] = mask.logits.tolist(), mask.hard().numpy()
    solved = replace(
        selection,
        scores=scores.tolist(),
        kept=kept.tolist(),
        keep_ratio=keep_ratio,
        columns={
            **selection.columns,
            **{name: _spread(values, place, len(selection)) for name, values in columns.items()},
        },
        provenance={**selection.provenance, **facts, "solved_again_from": selection.keep_ratio},
    )
    return solved, statistics


def _changed(weights: dict[str, float], pairs: Sequence[str]) -> dict[str, float]:
    keys = {f"ADAPRUNER.{name.upper()}": name for name in weights if name != "selection_weight"}
    keys["ADAPRUNER.MASK.SELECTION_WEIGHT"] = "selection_weight"
    if len(pairs) % 2:
        raise ValueError(f"KEY VALUE pairs are needed; {pairs[-1]} has no value")
    changed = {}
    for key, value in zip(pairs[::2], pairs[1::2]):
        if key not in keys:
            raise ValueError(
                f"{key} is no term that can be weighed otherwise without training; those are {', '.join(keys)}"
            )
        try:
            changed[keys[key]] = float(value)
        except ValueError:
            raise ValueError(f"{key} is a number, not {value!r}") from None
    return changed


def _places(selection: Selection, statistics: Statistics, folder: "str | Path") -> list[int]:
    """Where the images of the statistics stand in the selection."""
    at = {key: i for i, key in enumerate(zip(selection.datasets, selection.ids))}
    keys = list(zip(statistics.datasets, statistics.ids))
    competing = {key for key, score in zip(at, selection.scores) if score is not None}
    if competing != set(keys):
        raise ValueError(
            f"the statistics in {folder} are of {len(keys)} images, its selection chose among {len(competing)}, and they "
            "are not the same: one of the two files is from elsewhere"
        )
    return [at[key] for key in keys]


def _spread(values: list[Any], place: list[int], length: int) -> list[Any | None]:
    spread: list[Any | None] = [None] * length
    for at, value in zip(place, values):
        spread[at] = value
    return spread
