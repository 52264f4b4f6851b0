import numpy as np
import pytest
from made_up import statistics

from adapruner_det.pruning.decision import (
    DIFFICULTY,
    LABEL_ERRORS,
    NEAR_DUPLICATE,
    RANDOM,
    REASONS,
    SHORT_OF_IMAGES,
    columns_of,
    counts_of,
    decide,
    suspicious_boxes_of,
)
from adapruner_det.pruning.energy import TermWeights

CLASSES = np.where(np.arange(80) < 50, 0, 1)


def seen_with_faults():
    """Image 11 is a copy of 10; the cat that is labelled in 20 is a dog, and costs; the rest are as they are."""
    clean = statistics(80, seed=1, classes=CLASSES)
    features, losses, seen = clean.features.copy(), clean.losses["loss"].copy(), clean.found.classes.copy()
    features[11], losses[20], seen[20] = features[10], 30.0, 1
    found = clean.found._replace(classes=seen)
    return statistics(80, seed=1, classes=CLASSES, features=features, losses={"loss": losses}, found=found)


def test_the_logit_is_the_threshold_less_the_shares_of_the_terms():
    decision = decide(seen_with_faults(), TermWeights(difficulty=0.1), 0.7, 0)
    assert set(decision.shares) == {
        "difficulty",
        "label_errors",
        "redundancy",
        "random",
        "class_balance",
        "class_coverage",
    }
    assert np.ptp(decision.logits + sum(decision.shares.values())) < 1e-9
    assert (decision.logits > 0).sum() == 56


def test_why_an_image_goes():
    decision = decide(seen_with_faults(), TermWeights(), 0.7, 0)
    gone = decision.logits <= 0
    assert [reason != "" for reason in decision.reasons] == gone.tolist()
    assert decision.reasons[20] == LABEL_ERRORS
    copy, original = (10, 11) if gone[10] else (11, 10)
    assert gone[copy] and not gone[original]
    assert decision.reasons[copy] == NEAR_DUPLICATE and decision.like[copy] == original
    assert decision.similarity[copy] == pytest.approx(1)
    assert RANDOM in decision.reasons
    counts = counts_of(decision)
    assert sum(counts[reason] for reason in REASONS) == 24
    assert counts[NEAR_DUPLICATE] + counts[LABEL_ERRORS] + counts[RANDOM] == 24
    told = decision.shares["label_errors"] + decision.shares["redundancy"]
    assert counts["with_reason"] == (told > 0.2).sum() >= 2


def test_of_many_copies_those_that_go_name_the_one_that_stays():
    """The nearest image may have gone as well."""
    seen = statistics(60, classes=np.zeros(60, int))
    features = seen.features.copy()
    features[10:16] = features[10]
    decision = decide(statistics(60, classes=np.zeros(60, int), features=features), TermWeights(label_errors=0), 0.8, 0)
    copies = np.arange(10, 16)
    gone = copies[decision.logits[copies] <= 0]
    assert len(gone) >= 3 and (decision.logits[decision.like[gone]] > 0).all()
    assert set(decision.like[gone]) <= set(copies) - set(gone)


def test_hard_images_go_for_being_hard():
    losses = np.ones(40, np.float32)
    losses[7] = 20
    decision = decide(
        statistics(losses={"loss": losses}, classes=np.zeros(40, int)),
        TermWeights(difficulty=1, label_errors=0),
        0.9,
        0,
    )
    assert decision.reasons[7] == DIFFICULTY


def test_why_an_image_of_a_rare_class_stays():
    rare = np.where(np.arange(40) < 3, 1, 0)
    decision = decide(statistics(classes=rare), TermWeights(label_errors=0, redundancy=0), 0.5, 2)
    assert SHORT_OF_IMAGES in [decision.reasons[i] for i in range(3)]
    assert (decision.logits[:3] > 0).all()


def test_boxes_that_the_detector_itself_is_not_sure_of_are_not_named():
    """Of two detections with a low score labels confirm one: as likely right as not, 0.7 nats."""
    clean = statistics(80, seed=1, classes=CLASSES)
    scores, boxes = clean.found.scores.copy(), clean.found.boxes.copy()
    scores[[5, 6]] = 0.1
    boxes[6] += 200
    named = suspicious_boxes_of(
        statistics(80, seed=1, classes=CLASSES, found=clean.found._replace(scores=scores, boxes=boxes))
    )
    assert not any(named)
    scores[6] = 0.9
    named = suspicious_boxes_of(
        statistics(80, seed=1, classes=CLASSES, found=clean.found._replace(scores=scores, boxes=boxes))
    )
    assert [i for i, text in enumerate(named) if text] == [6] and named[6].startswith(
        "missing: no label, sees cat at 2"
    )


def test_columns_for_people():
    seen = seen_with_faults()
    decision = decide(seen, TermWeights(), 0.7, 0)
    columns = columns_of(decision, seen)
    copy = 10 if decision.logits[10] <= 0 else 11
    assert columns["similar_to"][copy] == f"{21 - copy:03}" and columns["similarity"][copy] == 1
    assert columns["similar_to"][20] == "" and columns["similarity"][20] is None
    assert columns["suspicious_boxes"][20].startswith("class: cat, sees dog at ")
    assert columns["against_label_errors"][20] == pytest.approx(decision.shares["label_errors"][20], abs=1e-6)
    several = columns_of(decision, statistics(80, datasets=["a"] + ["b"] * 79))
    assert several["similar_to"][copy] == f"b/{21 - copy:03}"


def test_the_seed_decides_between_equals_and_nothing_else_does():
    one, same, other = (decide(seen_with_faults(), TermWeights(), 0.7, seed) for seed in (0, 0, 1))
    assert np.array_equal(one.logits, same.logits)
    assert not np.array_equal(one.logits > 0, other.logits > 0)


def test_a_ratio_that_keeps_none_or_all_is_refused():
    with pytest.raises(ValueError, match="keep_ratio 0.999 of 40 samples is all of them"):
        decide(statistics(), TermWeights(), 0.999, 0)
