import numpy as np
import pytest
from made_up import statistics

from adapruner_det.pruning.decision import (
    ALIKE,
    DIFFICULTY,
    LABEL_ERRORS,
    NEAR_DUPLICATE,
    RANDOM,
    REASONS,
    SHORT_OF_IMAGES,
    boxes_in_words,
    columns_of,
    counts_of,
    decide,
)
from adapruner_det.pruning.energy import TermWeights

CLASSES = np.where(np.arange(80) < 50, 0, 1)


def seen_with_faults(**given):
    """Image 11 is a copy of 10; the cat that is labelled in 20 is a dog, and costs; the rest are as they are."""
    clean = statistics(80, seed=1, classes=CLASSES)
    features, losses, seen = clean.features.copy(), clean.losses["loss"].copy(), clean.found.classes.copy()
    features[11], losses[20], seen[20] = features[10], 30.0, 1
    known = dict(features=features, losses={"loss": losses}, found=clean.found._replace(classes=seen))
    return statistics(80, seed=1, classes=CLASSES, **{**known, **given})


def test_the_logit_is_the_threshold_less_the_shares_of_the_terms():
    decision = decide(seen_with_faults(), TermWeights(difficulty=0.1), 0.7, 0)
    names = "difficulty label_errors redundancy random class_balance"
    assert set(decision.shares) == set(names.split())
    assert np.ptp(decision.logits + sum(decision.shares.values())) < 1e-9
    prices = [decision.shares["class_balance"][CLASSES == cls] for cls in (0, 1)]  # one for all of a class
    assert max(map(np.ptp, prices)) < 1e-9 and prices[0][0] > 0 > prices[1][0]
    assert (decision.logits > 0).sum() == 56


def test_why_an_image_goes():
    decision = decide(seen_with_faults(), TermWeights(), 0.7, 0)
    gone = decision.logits <= 0
    assert [reason in REASONS for reason in decision.reasons] == gone.tolist()
    assert {reason for reason, out in zip(decision.reasons, gone) if not out} == {"", SHORT_OF_IMAGES}
    copy, original = (10, 11) if gone[10] else (11, 10)
    assert gone[copy] and not gone[original]
    assert decision.reasons[copy] == NEAR_DUPLICATE and decision.reasons[20] == LABEL_ERRORS
    assert decision.similar_to[copy] == original and decision.similarity[copy] == pytest.approx(1)
    counts = counts_of(decision)
    assert sum(counts[reason] for reason in REASONS) == 24 and counts[RANDOM]
    told = decision.shares["label_errors"] + decision.shares["redundancy"]
    assert counts["with_reason"] == (told > 0.2).sum() >= 2


def copies(num_others, losses):
    """Two classes; all 20 images of the second are copies of one picture."""
    classes = np.repeat([0, 1], [num_others, 20])
    plain = statistics(len(classes), classes=classes)
    features = plain.features.copy()
    features[num_others:] = 1.0
    found = plain.found._replace(boxes=plain.found.boxes + 5, scores=np.full(len(classes), 0.99), classes=1 - classes)
    return statistics(len(classes), classes=classes, features=features, losses={"loss": losses}, found=found)


@pytest.mark.parametrize("num_others", [20, 0])
@pytest.mark.parametrize("largest", [1.0, 1e30])
@pytest.mark.parametrize("weights", [{}, {"difficulty": 1e9}, {"redundancy": 1e9}, {"label_errors": 1e9, "random": 0}])
def test_images_that_are_all_alike_are_drawn_from_by_the_seed(num_others, largest, weights):
    losses = np.ones(num_others + 20, np.float32)
    losses[0] = largest  # beside it, rounding swallows all that tells the others apart
    for keep_ratio in (0.1, 0.5, 0.9):
        kept = [decide(copies(num_others, losses), TermWeights(**weights), keep_ratio, s).logits > 0 for s in range(3)]
        assert [stays.sum() for stays in kept] == [round(keep_ratio * len(losses))] * 3
        assert (kept[0] != kept[1]).any() or (kept[0] != kept[2]).any()
        assert all(stays[1:num_others].any() or not num_others or keep_ratio < 0.5 for stays in kept)


def test_of_many_copies_those_that_go_name_the_one_that_stays():
    """The nearest image may have gone as well."""
    one_class, copies = np.zeros(60, int), np.arange(10, 16)
    features = statistics(60, classes=one_class).features.copy()
    features[copies] = features[10]
    decision = decide(statistics(60, classes=one_class, features=features), TermWeights(label_errors=0), 0.8, 0)
    gone = copies[decision.logits[copies] <= 0]
    assert len(gone) >= 3 and (decision.logits[decision.similar_to[gone]] > 0).all()
    assert set(decision.similar_to[gone]) <= set(copies) - set(gone)


def test_images_that_are_unlike_any_that_stays_are_no_near_duplicates():
    """Nothing is a copy of anything; where four of 40 stay, what goes is merely like some of them."""
    features = np.random.default_rng(0).normal(size=(40, 4)).astype(np.float32)
    seen = statistics(40, classes=np.zeros(40, int), features=features)
    decision = decide(seen, TermWeights(label_errors=0), 0.1, 0)
    assert decision.reasons.count(ALIKE) > 5
    for reason, similarity in zip(decision.reasons, decision.similarity):
        assert reason != NEAR_DUPLICATE or similarity > 0.7
    shown = columns_of(decision, seen)
    assert [bool(name) for name in shown["similar_to"]] == [r in (ALIKE, NEAR_DUPLICATE) for r in decision.reasons]


def test_hard_images_go_for_being_hard():
    losses = np.where(np.arange(40) == 7, 20, 1).astype(np.float32)
    seen = statistics(losses={"loss": losses}, classes=np.zeros(40, int))
    assert decide(seen, TermWeights(difficulty=1, label_errors=0), 0.9, 0).reasons[7] == DIFFICULTY


def test_why_an_image_of_a_rare_class_stays():
    rare = np.where(np.arange(40) < 3, 1, 0)
    decision = decide(statistics(classes=rare), TermWeights(label_errors=0, redundancy=0), 0.5, 2)
    assert SHORT_OF_IMAGES in decision.reasons[:3] and (decision.logits[:3] > 0).all()


@pytest.mark.parametrize("seed", range(3))
def test_a_class_as_large_as_others_is_not_short_of_images(seed):
    for classes in (np.arange(80) % 2, np.where(np.arange(80) < 60, 0, 1)):
        decision = decide(statistics(80, classes=classes), TermWeights(label_errors=0), 0.5, seed)
        short = np.array([reason == SHORT_OF_IMAGES for reason in decision.reasons])
        assert not short[classes == 0].any() and (short.any() == (classes.mean() < 0.5))


def test_boxes_that_the_detector_itself_is_not_sure_of_are_not_named():
    """Of two detections with a low score labels confirm one: as likely right as not, 0.7 nats."""
    found = statistics(80, seed=1, classes=CLASSES).found
    scores, boxes = found.scores.copy(), found.boxes.copy()
    scores[[5, 6]] = 0.1
    boxes[6] += 200
    assert not any(
        boxes_in_words(statistics(80, seed=1, classes=CLASSES, found=found._replace(scores=scores, boxes=boxes)))
    )
    scores[6] = 0.9
    named = boxes_in_words(statistics(80, seed=1, classes=CLASSES, found=found._replace(scores=scores, boxes=boxes)))
    assert [i for i, text in enumerate(named) if text] == [6]
    assert named[6].startswith("missing: no label, sees cat at 2")


def test_columns_for_people():
    decision = decide(seen_with_faults(), TermWeights(), 0.7, 0)
    columns = columns_of(decision, seen_with_faults())
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


def test_a_ratio_that_keeps_all_and_losses_that_are_no_numbers_are_refused():
    with pytest.raises(ValueError, match="keep_ratio 0.999 of 40 samples is all of them"):
        decide(statistics(), TermWeights(), 0.999, 0)
    with pytest.raises(FloatingPointError, match="is no number"):
        decide(seen_with_faults(losses={"loss": np.full(80, np.nan, np.float32)}), TermWeights(), 0.5, 0)


def test_what_weighs_less_than_any_draw_is_no_reason():
    decision = decide(seen_with_faults(), TermWeights(), 0.7, 0)
    told = decision.shares["label_errors"] + decision.shares["redundancy"]
    gone = decision.logits <= 0
    lots = np.array(decision.reasons) == RANDOM
    assert (lots == (gone & (told <= TermWeights.random))).all() and lots.any()
    assert (gone & ~lots).sum() <= decision.num_with_reason
