"""From scores to a selection."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from detectron2.config import CfgNode

from ..data.selection_record import class_column, make_selection
from ..pruning import Selection


def selection_of_scores(
    cfg: CfgNode,
    competing: list[dict],
    others: list[dict],
    scores: Sequence[float],
    keep_ratio: float,
    method: str,
    provenance: dict[str, Any],
) -> Selection:
    """The selection that keeps the highest scores, as SCORING.CLASS_BALANCE and ADAPRUNER.EMPTY_IMAGES say.

    Args:
        competing: N records the method chose among, of which `scores` are.
        others: records that did not compete.
        provenance: further facts on how it was made; `seconds` is needed by comparisons.

    Raises:
        ValueError: a score is no finite number, or there are too few images to keep one of each class.
    """
    scores = np.asarray(scores, dtype=np.float64)
    bad = np.flatnonzero(~np.isfinite(scores))
    if len(bad) or len(scores) != len(competing):
        ids = [competing[i]["image_id"] for i in bad[:5]]
        raise ValueError(
            f"{method} gave {len(scores)} scores for {len(competing)} images, {len(bad)} of them no "
            f"finite numbers (images {ids})"
        )
    whole = make_selection(
        competing + others,
        scores.tolist() + [None] * len(others),
        [True] * len(competing) + [cfg.ADAPRUNER.EMPTY_IMAGES == "keep"] * len(others),
        keep_ratio=1.0,
        method=method,
        provenance={**provenance, "class_balance": cfg.SCORING.CLASS_BALANCE},
    )
    return cut_as_made(whole, keep_ratio)


def cut_as_made(selection: Selection, keep_ratio: float, across_classes: bool = False) -> Selection:
    """Cut at a ratio, each class by itself if the selection was made so (CLASS_BALANCE).

    Args:
        across_classes: all classes together, however it was made.
    """
    balanced = selection.provenance.get("class_balance", False) and not across_classes
    return selection.cut(keep_ratio, class_column(selection) if balanced else None)
