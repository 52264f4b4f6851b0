"""From what a finished model says of N images to which of them stay, and why.

The selection is the mask that minimises E (`energy`): the images with a logit above zero. The score is the logit.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from .adapruner import number_to_keep
from .annealing import common_threshold, minimise
from .energy import Energy, TermWeights, energy_of
from .label_errors import suspicious_boxes
from .statistics import Statistics

# The main reason of a pruned image, by the term of E that counts most against it.
NEAR_DUPLICATE, ALIKE, LABEL_ERRORS, DIFFICULTY, RANDOM = REASONS = (
    "near-duplicate",
    "alike",  # to one image that stays, or to several, and no copy of any
    "label errors",
    "hard or easy beyond its kind",
    "random",
)
# The reason of a kept image that stays for its class's quota, where the class has fewer images than the average one.
SHORT_OF_IMAGES = "class short of images"
REASON_COLUMN, SIMILAR_TO_COLUMN, SIMILARITY_COLUMN = "reason", "similar_to", "similarity"
BOXES_COLUMN = "suspicious_boxes"
TERM_COLUMN = "against_{}"  # the share of a term in an image's logit
_BOXES_SHOWN = 5  # of an image


@dataclass(frozen=True)
class Decision:
    """The finished mask of N images, and what it is the sum of.

    Attributes:
        logits: m, (N,); images above 0 stay.
        shares: (N,) by name of the term; m is the threshold less all of them.
        reasons: N strings: one of REASONS for an image that goes, SHORT_OF_IMAGES or nothing for one that stays.
        similar_to: place of the image that stays and is most like each, (N,); -1 for none.
        similarity: (N,) cosine of the features of the two; 0 for none.
        num_with_reason: images, kept or not, that more speaks against than the best draw could make up for (the
            default's, where `random` is off). Of those that go the others have the reason RANDOM.
    """

    logits: np.ndarray
    shares: dict[str, np.ndarray]
    reasons: list[str]
    similar_to: np.ndarray
    similarity: np.ndarray
    num_with_reason: int


def decide(statistics: Statistics, weights: TermWeights, keep_ratio: float, seed: int) -> Decision:
    """Minimises E for one ratio; ValueError if that keeps none or all, FloatingPointError as `Statistics.finite`."""
    statistics = statistics.finite()
    keep = number_to_keep(len(statistics), keep_ratio)
    energy = energy_of(statistics, weights, keep_ratio, seed)
    logits = part_ties(minimise(energy), energy)
    if not np.isfinite(logits).all():
        raise FloatingPointError(
            "what speaks against some image is no number: the statistics hold boxes or scores that are none"
        )
    shares = {**energy.own, "redundancy": energy.response(logits > 0)}
    against = np.sum(list(shares.values()), axis=0)
    shares["class_balance"] = common_threshold(against, keep) - (logits + against)
    told = shares["difficulty"] + shares["label_errors"] + shares["redundancy"]
    with_reason = told > (weights.random or TermWeights.random)
    reasons = _reasons(logits, shares, with_reason, energy)
    return Decision(logits, shares, reasons, *_most_similar(energy, logits > 0), int(with_reason.sum()))


def part_ties(logits: np.ndarray, energy: Energy) -> np.ndarray:
    """The logits (N,) with exactly the quota of each class above 0: of those that are 0 the ones with the lowest draw stay.

    They are zero where rounding has swallowed the draw: copies of one picture beside terms of a very large weight.
    """
    logits = logits.copy()
    for cls in np.unique(energy.classes[logits == 0]):
        own = energy.classes == cls
        tied = np.flatnonzero(own & (logits == 0))
        drawn = tied[np.argsort(energy.own["random"][tied], kind="stable")]
        missing = energy.quotas[cls] - np.count_nonzero(logits[own] > 0)
        logits[drawn] = -np.finfo(np.float32).tiny
        logits[drawn[:missing]] = np.finfo(np.float32).tiny
    return logits


def _reasons(logits: np.ndarray, shares: dict[str, np.ndarray], with_reason: np.ndarray, energy: Energy) -> list[str]:
    terms = {NEAR_DUPLICATE: "redundancy", LABEL_ERRORS: "label_errors", DIFFICULTY: "difficulty"}
    largest = np.array(list(terms))[np.argmax([shares[name] for name in terms.values()], axis=0)]
    nearest = energy.redundancy.multiply(logits > 0).max(axis=1).toarray().ravel()
    largest = np.where((largest == NEAR_DUPLICATE) & (nearest <= energy.copy), ALIKE, largest)
    sizes = np.bincount(energy.classes)
    rare = sizes[energy.classes] < sizes[sizes > 0].mean()
    short = rare & (logits + np.minimum(shares["class_balance"], 0) <= 0)
    goes = np.where(with_reason, largest, RANDOM)
    return np.where(logits > 0, np.where(short, SHORT_OF_IMAGES, ""), goes).tolist()


def _most_similar(energy: Energy, kept: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Place and similarity of the image that stays and is most like each."""
    pairs = energy.similarity.tocoo()
    stays = kept[pairs.col]
    rows, columns, values = pairs.row[stays], pairs.col[stays], pairs.data[stays]
    rising = np.lexsort((values, rows))
    similar_to, similarity = np.full(len(kept), -1), np.zeros(len(kept))
    # Of values for one place the last counts: the most similar.
    similar_to[rows[rising]], similarity[rows[rising]] = columns[rising], values[rising]
    return similar_to, similarity


def columns_of(decision: Decision, statistics: Statistics) -> dict[str, list[Any]]:
    """Columns for a selection's record: the reason of each image and what it is made of."""
    several = len(set(statistics.datasets)) > 1
    names = [f"{d}/{i}" if several else i for d, i in zip(statistics.datasets, statistics.ids)]
    similar = [reason in (NEAR_DUPLICATE, ALIKE) for reason in decision.reasons]
    return {
        REASON_COLUMN: decision.reasons,
        SIMILAR_TO_COLUMN: [names[place] if shown else "" for place, shown in zip(decision.similar_to, similar)],
        SIMILARITY_COLUMN: [round(float(s), 4) if shown else None for s, shown in zip(decision.similarity, similar)],
        BOXES_COLUMN: boxes_in_words(statistics),
        **{TERM_COLUMN.format(name): np.round(values, 6).tolist() for name, values in decision.shares.items()},
    }


def boxes_in_words(statistics: Statistics) -> list[str]:
    """The boxes of each image that the finished detector is at odds with, the most suspicious first."""
    texts: list[list[str]] = [[] for _ in statistics.ids]
    names = [*statistics.class_names, None]  # the last is of class -1, none
    for found in suspicious_boxes(statistics.labels, statistics.found):
        where = " ".join(f"{value:.0f}" for value in found.box)
        label, seen = names[found.label] or "no label", names[found.seen] or "nothing"
        texts[found.image].append(f"{found.kind}: {label}, sees {seen} at {where}")
    return ["; ".join(text[:_BOXES_SHOWN]) for text in texts]


def counts_of(decision: Decision) -> dict[str, int]:
    """How many images go for each reason, and `with_reason`, how many there is more than the draw against."""
    gone = [reason for reason, logit in zip(decision.reasons, decision.logits) if logit <= 0]
    return {**{reason: gone.count(reason) for reason in REASONS}, "with_reason": decision.num_with_reason}
