"""From what a finished model says of N images to which of them stay, and why.

The selection is the mask that minimises E (`energy`): the images with a logit above zero. The score is the logit.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from .adapruner import number_to_keep
from .annealing import minimise
from .energy import Energy, TermWeights, energy_of
from .label_errors import suspicious_boxes
from .statistics import Statistics

# The main reason of a pruned image, by the term of E that counts most against it.
NEAR_DUPLICATE, LABEL_ERRORS, DIFFICULTY, RANDOM = (
    "near-duplicate",
    "label errors",
    "hard or easy beyond its kind",
    "random",
)
# The reason of a kept image that would go if its class were as frequent as others.
SHORT_OF_IMAGES = "class short of images"
REASONS = (NEAR_DUPLICATE, LABEL_ERRORS, DIFFICULTY, RANDOM)
REASON_COLUMN, SIMILAR_TO_COLUMN, SIMILARITY_COLUMN, BOXES_COLUMN = (
    "reason",
    "similar_to",
    "similarity",
    "suspicious_boxes",
)
TERM_COLUMN = "against_{}"  # the share of a term in an image's logit
_BOXES_SHOWN = 5  # of an image


@dataclass(frozen=True)
class Decision:
    """The finished mask of N images, and what it is the sum of.

    Attributes:
        logits: m, (N,); images above 0 stay.
        shares: (N,) by name of the term; m is the threshold less all of them.
        reasons: N strings: one of REASONS for an image that goes, SHORT_OF_IMAGES or nothing for one that stays.
        like: place of the image that stays and is most like each, (N,); -1 for none.
        similarity: (N,) cosine of the features of the two; 0 for none.
        num_with_reason: images, kept or not, that more speaks against than the best draw could make up for (the default's,
            where chance is off).
    """

    logits: np.ndarray
    shares: dict[str, np.ndarray]
    reasons: list[str]
    like: np.ndarray
    similarity: np.ndarray
    num_with_reason: int


def decide(statistics: Statistics, weights: TermWeights, keep_ratio: float, seed: int) -> Decision:
    """Minimises E for one ratio.

    Raises:
        ValueError: the ratio keeps none of the images, or all.
        FloatingPointError: the statistics are not finite.
    """
    statistics.check_finite()
    keep = number_to_keep(len(statistics), keep_ratio)
    energy = energy_of(statistics, weights, keep_ratio, seed)
    logits = minimise(energy, keep)
    kept = logits > 0
    shares = {**energy.own, "redundancy": energy.response(kept)}
    told = shares["difficulty"] + shares["label_errors"] + shares["redundancy"]
    like, similarity = _most_alike(energy, kept)
    num_with_reason = int((told > (weights.random or TermWeights.random)).sum())
    if not np.isfinite(logits).all():
        raise FloatingPointError(
            "what speaks against some image is no number: the statistics hold boxes or scores that are none"
        )
    return Decision(logits, shares, _reasons(logits, shares), like, similarity, num_with_reason)


def _reasons(logits: np.ndarray, shares: dict[str, np.ndarray]) -> list[str]:
    draw = shares["random"] + shares["class_balance"]
    largest = np.argmax([shares["redundancy"], shares["label_errors"], shares["difficulty"], draw], axis=0)
    short = logits + np.minimum(shares["class_balance"], 0) <= 0
    return [
        (SHORT_OF_IMAGES if rare else "") if logit > 0 else REASONS[reason]
        for logit, rare, reason in zip(logits, short, largest)
    ]


def _most_alike(energy: Energy, kept: np.ndarray) -> "tuple[np.ndarray, np.ndarray]":
    """Place and similarity of the image that stays and is most like each."""
    num = len(kept)
    rows = np.repeat(np.arange(num), np.diff(energy.similarity.indptr))
    columns, values = energy.similarity.indices, energy.similarity.data
    stays = kept[columns]
    rows, columns, values = rows[stays], columns[stays], values[stays]
    best = np.lexsort((values, rows))  # the last of each row is its most alike
    rows, columns, values = rows[best], columns[best], values[best]
    last = np.append(rows[1:] != rows[:-1], True) if len(rows) else np.zeros(0, bool)
    like, similarity = np.full(num, -1), np.zeros(num)
    like[rows[last]], similarity[rows[last]] = columns[last], values[last]
    return like, similarity


def columns_of(decision: Decision, statistics: Statistics) -> dict[str, list[Any]]:
    """Columns for a selection's record: the reason of each image and what it is made of."""
    several = len(set(statistics.datasets)) > 1
    names = [f"{d}/{i}" if several else i for d, i in zip(statistics.datasets, statistics.ids)]
    alike = [reason == NEAR_DUPLICATE for reason in decision.reasons]
    return {
        REASON_COLUMN: decision.reasons,
        SIMILAR_TO_COLUMN: [names[place] if shown else "" for place, shown in zip(decision.like, alike)],
        SIMILARITY_COLUMN: [round(float(s), 4) if shown else None for s, shown in zip(decision.similarity, alike)],
        BOXES_COLUMN: suspicious_boxes_of(statistics),
        **{TERM_COLUMN.format(name): np.round(values, 6).tolist() for name, values in decision.shares.items()},
    }


def suspicious_boxes_of(statistics: Statistics) -> list[str]:
    """The boxes of each image that the finished detector is at odds with, the most doubtful first, in words."""
    texts: list[list[str]] = [[] for _ in statistics.ids]
    found = suspicious_boxes(statistics.labels, statistics.found, len(statistics))
    for image, kind, box, cls, seen, doubt in zip(
        found.images, found.kinds, found.boxes, found.classes, found.seen, found.doubts
    ):
        if len(texts[image]) < _BOXES_SHOWN and doubt >= 1:
            where = " ".join(f"{value:.0f}" for value in box)
            label = statistics.class_names[cls] if cls >= 0 else "no label"
            sees = statistics.class_names[seen] if seen >= 0 else "nothing"
            texts[image].append(f"{kind}: {label}, sees {sees} at {where}")
    return ["; ".join(text) for text in texts]


def counts_of(decision: Decision) -> dict[str, int]:
    """How many images go for each reason, and `with_reason`, how many there is more than chance against."""
    gone = [reason for reason, logit in zip(decision.reasons, decision.logits) if logit <= 0]
    return {**{reason: gone.count(reason) for reason in REASONS}, "with_reason": decision.num_with_reason}
