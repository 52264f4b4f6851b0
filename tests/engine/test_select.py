"""From statistics to a selection, and to another one at another ratio."""

from dataclasses import replace

import made_up
import numpy as np
import pytest
from test_trainer import IDS, YOLO, config, kept, scores, train, voc  # noqa: F401

from adapruner_det.baselines.scores import Scores
from adapruner_det.engine import load_config, select
from adapruner_det.engine.console import Progress
from adapruner_det.engine.select import is_solved, ratio_with_reason, solve_again
from adapruner_det.pruning import Selection
from adapruner_det.pruning.adapruner import number_to_keep
from adapruner_det.pruning.statistics import Statistics

SOLVED = {**YOLO, "ADAPRUNER.SOLVE_AT_END": True, "INPUT.MIN_SIZE_TEST": 48}


def folder_of(cfg):
    return f"{cfg.OUTPUT_DIR}/selection"


@pytest.fixture
def run(voc, config):  # noqa: F811
    voc("all")
    cfg = config(**SOLVED)
    train(cfg)
    return cfg


def test_a_run_leaves_reasons_and_statistics(run):
    selection, statistics = Selection.load(folder_of(run)), Statistics.load(folder_of(run))
    assert is_solved(selection) and statistics.ids == IDS and len(kept(run)) == 15
    rows = selection.table().set_index("id")
    assert np.array_equal(rows["score"] > 0, rows["kept"] == 1)
    against = rows[
        [f"against_{name}" for name in ("difficulty", "label_errors", "redundancy", "random", "class_balance")]
    ].sum(axis=1)
    assert np.ptp(rows["score"] + against) < 1e-4
    assert rows["final_loss"].tolist() == pytest.approx(statistics.loss.tolist())
    reasons = selection.provenance["reasons"]
    assert sum(count for name, count in reasons.items() if name != "with_reason") == 5
    assert selection.provenance["objective"]["seed"] == 1


def test_the_ratio_with_reasons_is_the_share_that_repeats_nothing():
    features = np.random.default_rng(1).normal(size=(400, 32)).astype(np.float32)
    features[300:] = features[:100]
    statistics = made_up.statistics(400, features=features)
    assert ratio_with_reason(load_config(), statistics, seed=0) == pytest.approx(0.75, abs=0.03)


@pytest.mark.parametrize("num, told", [(250, 34), (400, 100), (30_000, 7), (150, 2)])
def test_at_the_ratio_with_reasons_no_more_go_than_have_one(monkeypatch, num, told):
    monkeypatch.setattr(select, "scores_by", lambda *_: Scores(np.zeros(num), facts={"reasons": {"with_reason": told}}))
    ratio = ratio_with_reason(load_config(), range(num), seed=0)
    gone = num - number_to_keep(num, ratio)
    assert max(1, told - num // 100) <= gone <= max(told, num // 100)


def test_the_bar_of_a_run_goes_on_while_the_finished_model_is_asked(voc, config, monkeypatch):  # noqa: F811
    voc("all")
    phases = []
    advance = Progress.advance
    monkeypatch.setattr(Progress, "advance", lambda self, *steps: (phases.append(self._phase), advance(self, *steps)))
    train(config(**SOLVED))
    assert list(dict.fromkeys(phases)) == ["warm-up", "pruning", "final look"]


def test_cut_solves_as_a_run_at_that_ratio_would(run, config):  # noqa: F811
    """With the same statistics: those of a run at 0.5, put in the place of its own."""
    other = config(folder="other", **{**SOLVED, "ADAPRUNER.KEEP_RATIO": 0.5})
    train(other)
    Statistics.load(folder_of(run)).save(folder_of(other))
    cut, statistics = solve_again(folder_of(run), 0.5)
    again, _ = solve_again(folder_of(other), 0.5)
    assert cut.scores == again.scores and cut.kept == again.kept and sum(cut.kept) == 10
    assert cut.columns["reason"] == again.columns["reason"] and cut.keep_ratio == 0.5
    same, _ = solve_again(folder_of(run), 0.75)
    assert same.scores == Selection.load(folder_of(run)).scores and statistics.ids == IDS


def test_terms_can_be_weighed_otherwise_without_training(run):
    plain, changed = solve_again(folder_of(run), 0.5)[0], solve_again(folder_of(run), 0.5, ["ADAPRUNER.RANDOM", "9"])[0]
    assert plain.scores != changed.scores and changed.provenance["objective"]["random"] == 9
    for wrong, message in (
        (["ADAPRUNER.WARMUP", "0.1"], "ADAPRUNER.WARMUP is no term"),
        (["ADAPRUNER.LABEL_ERRORS", "much"], "ADAPRUNER.LABEL_ERRORS is a number, not 'much'"),
        (["ADAPRUNER.LABEL_ERRORS"], "ADAPRUNER.LABEL_ERRORS has no value"),
    ):
        with pytest.raises(ValueError, match=message):
            solve_again(folder_of(run), 0.5, wrong)


def test_statistics_of_other_images_are_refused(run):
    statistics = Statistics.load(folder_of(run))
    replace(statistics, ids=["another", *IDS[1:]]).save(folder_of(run))
    with pytest.raises(ValueError, match="one of the two files is from elsewhere"):
        solve_again(folder_of(run), 0.5)


def test_images_that_did_not_compete_stay_where_they_are(voc, config):  # noqa: F811
    voc("all")
    cfg = config(**{**SOLVED, "ADAPRUNER.EMPTY_IMAGES": "keep"})
    train(cfg)
    cut, _ = solve_again(folder_of(cfg), 0.5)
    by_id = dict(zip(cut.ids, zip(cut.scores, cut.kept, cut.columns["reason"])))
    assert by_id[IDS[3]] == by_id[IDS[4]] == (None, True, None)
    assert sum(cut.kept) == 2 + 9


def test_the_finished_logits_are_the_selection(voc, config, monkeypatch):  # noqa: F811
    voc("all")
    logits = np.linspace(-1, 1, 20)
    decide = "adapruner_det.pruning.decision.minimise"
    monkeypatch.setattr(decide, lambda energy: logits)
    first, second = config(folder="first", **SOLVED), config(folder="second", **SOLVED)
    train(first)
    monkeypatch.setattr(decide, lambda energy: -logits)
    train(second)
    assert kept(first) == set(IDS[10:]) and kept(second) == set(IDS[:10])
    assert list(scores(first).values()) == logits.tolist()
