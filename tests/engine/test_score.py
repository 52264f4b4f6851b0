"""Every method on tiny data, with a proxy trained no further than the method says it needs."""

import re
from dataclasses import replace

import numpy as np
import pytest
import torch
from proxy_runs import EACH
from torch.nn import functional as F

from adapruner_det.baselines import registry
from adapruner_det.baselines.grand import last_layer_gradient_norms
from adapruner_det.baselines.registry import (
    CLASSIFICATION,
    DETECTION,
    EARLY,
    METHODS,
    TRAINED,
)
from adapruner_det.baselines.scores import Scores
from adapruner_det.data.images import read_images
from adapruner_det.data.selection_lists import write_selection
from adapruner_det.data.selection_record import cut_as_made, make_selection
from adapruner_det.engine import classification_statistics as classification
from adapruner_det.engine import proxy_statistics
from adapruner_det.engine import score as module
from adapruner_det.engine.classification import ClassificationTask
from adapruner_det.engine.proxy import Proxy
from adapruner_det.engine.proxy_statistics import statistics_by
from adapruner_det.engine.score import select_by
from adapruner_det.engine.select import solve_again

APPLY = [
    (task, name, variant)
    for task in (CLASSIFICATION, DETECTION)
    for name, method in METHODS.items()
    for variant in method.variants or ("",)
    if not registry.refusal(name, task, variant)
]


@pytest.fixture(scope="module")
def proxies(config, tmp_path_factory):
    """Makes a proxy of a task that is trained as far as asked for, and no further."""
    folders = {}

    def proxy(task, trainings=(), **settings):
        key = task, tuple(trainings)
        if key not in folders:
            folders[key] = tmp_path_factory.mktemp("proxy")
            for training in trainings:
                Proxy(config(task), 0, folders[key]).train(training)
        return Proxy(config(task, **settings), 0, folders[key])

    return proxy


@pytest.fixture
def scored(monkeypatch):
    """Lets a method give other scores."""

    def give(name, scores):
        monkeypatch.setitem(METHODS, name, METHODS[name]._replace(score=lambda *_, **__: scores))

    return give


def select(*args):
    return select_by(*args)[0]


@pytest.mark.parametrize("task, name, variant", APPLY)
def test_a_method_needs_no_more_than_it_says(proxies, task, name, variant, monkeypatch):
    method = METHODS[name]
    proxy = proxies(task, method.trainings, **({f"SCORING.{name.upper()}": variant} if variant else {}))
    monkeypatch.setattr(Proxy, "_train", lambda *_, **__: pytest.fail("it trains the proxy further"))
    selection = select(name, proxy, 0.5, 0)
    scores, kept = np.array(selection.scores), np.array(selection.kept)
    assert kept.sum() == (round(0.5 * len(kept)) if variant != method.sets_ratio or not variant else (scores > 0).sum())
    assert selection.method == name and scores[kept].min() >= scores[~kept].max()
    facts = selection.provenance
    assert facts["seed"] == 0 and facts["settings"].get("variant", "") == variant
    assert facts["seconds"] == pytest.approx(sum(facts["seconds_of"].values()), abs=0.2)  # rounded, each
    assert ("proxy" in facts["seconds_of"]) == bool(method.trainings)


def test_a_method_or_variant_that_does_not_apply_says_why_in_one_line():
    for name, variant in (("el2n", ""), ("bnsl", "supervised")):
        reason = registry.refusal(name, DETECTION, variant)
        assert reason.startswith(name) and " does not apply to detection: " in reason and "\n" not in reason
        assert not registry.refusal(name, CLASSIFICATION, variant)
    assert not registry.refusal("bnsl", DETECTION, "easy")
    assert registry.refusal("tfdp", CLASSIFICATION).startswith("tfdp does not apply to classification: ")
    assert not registry.refusal("tfdp", DETECTION)


def test_settings_that_cannot_be_are_refused_before_any_work(proxies):
    with pytest.raises(ValueError, match="SCORING.BNSL is 'harder'; it can be auto, easy, hard, supervised"):
        select("bnsl", proxies(CLASSIFICATION, **{"SCORING.BNSL": "harder"}), 0.5, 0)
    with pytest.raises(ValueError, match="SCORING.CLASS_BALANCE .* by a term of its own"):
        select("adapruner", proxies(CLASSIFICATION, **{"SCORING.CLASS_BALANCE": True}), 0.5, 0)


@pytest.mark.parametrize("part", ["finished_model", "last_layer", "dynamics", "early", "gradient_norms"])
def test_what_is_not_trained_yet_tells_nothing(proxies, part):
    with pytest.raises(FileNotFoundError, match="has not been trained|no proxy that was trained"):
        statistics_by(proxies(CLASSIFICATION), [part])


def test_adapruner_by_a_proxy_has_reasons_and_is_solved_again_for_other_ratios(proxies, tmp_path):
    selection, statistics = select_by("adapruner", proxies(DETECTION, [TRAINED]), 0.5, 0)
    assert selection.kept == [score > 0 for score in selection.scores] and len(selection.columns["reason"]) == 10
    write_selection(selection, tmp_path / "selection", statistics)
    again, _ = solve_again(tmp_path / "selection", 0.5)
    assert again.scores == selection.scores and again.kept == selection.kept
    assert sum(solve_again(tmp_path / "selection", 0.8)[0].kept) == 8


def test_statistics_are_computed_once_for_all_methods_and_ratios(proxies, monkeypatch):
    proxy = proxies(CLASSIFICATION, [TRAINED])
    first, seconds = statistics_by(proxy, ["finished_model"])
    monkeypatch.setattr(ClassificationTask, "statistics", lambda *_: pytest.fail("computed again"))
    second, again = statistics_by(proxy, ["finished_model"])
    np.testing.assert_array_equal(second.features, first.features)
    assert seconds == again and again["finished_model"] > 0 and second.image_learning_rate == 0.02 / 8


def test_layers_are_of_the_network_they_say(proxies):
    proxy = proxies(CLASSIFICATION, [EARLY, TRAINED])
    seen, _ = statistics_by(proxy, ["last_layer", "early", "finished_model"])
    expected = proxy.trained_network().head(torch.from_numpy(seen.last_layer.features)).softmax(1).detach().numpy()
    np.testing.assert_allclose(seen.last_layer.probabilities, expected, rtol=1e-5)
    np.testing.assert_array_equal(seen.last_layer.features, seen.features)
    assert (seen.last_layer.probabilities.argmax(1) == seen.classes).mean() > 0.6
    (early,) = seen.early
    assert np.abs(early.probabilities - seen.last_layer.probabilities).max() > 0.01
    model = proxy.early_network(0)
    np.testing.assert_array_equal(early.features, classification.last_layer_of(proxy.cfg, model, proxy.records)[0])


@pytest.mark.parametrize("asked, used", [("auto", "full"), ("full", "full"), ("last_layer", "last_layer")])
def test_grand_says_which_gradients_it_takes(proxies, asked, used):
    proxy = proxies(CLASSIFICATION, [EARLY], **{"SCORING.GRAND": asked})
    selection, seen = select_by("grand", proxy, 0.5, 0)
    assert seen.gradient_norms.shape == (1, 2 * EACH) and selection.provenance["settings"]["gradients"] == used
    (layer,) = statistics_by(proxy, ["early"])[0].early
    of_last = last_layer_gradient_norms(layer, seen.classes)
    if used == "last_layer":
        np.testing.assert_allclose(seen.gradient_norms[0], of_last, rtol=1e-5)
    else:  # of all layers, in float32: no smaller but for the rounding of the features
        assert (seen.gradient_norms[0] > 0.95 * of_last).all() and (seen.gradient_norms[0] > 1.2 * of_last).any()


def test_full_gradient_norms_are_those_of_plain_autograd(proxies):
    proxy = proxies(CLASSIFICATION, [EARLY])
    model = proxy.early_network(0).train()
    model.network.requires_grad_(False)
    next(model.network.parameters()).requires_grad_(True)
    norms = classification.gradient_norms_of(proxy.cfg, model, proxy.records)
    assert model.training and norms.dtype == np.float32 and all(p.grad is None for p in model.parameters())
    model.eval()
    images = torch.from_numpy(read_images(proxy.records, proxy.cfg.INPUT.IMAGE_SIZE)).permute(0, 3, 1, 2)
    for image, record, norm in zip(images, proxy.records, norms):
        loss = F.cross_entropy(model({"images": image[None]}), torch.tensor([record["category_id"]]))
        trained = [p for p in model.parameters() if p.requires_grad]
        gradients = torch.cat([own.flatten() for own in torch.autograd.grad(loss, trained)])
        assert norm == pytest.approx(gradients.norm().item(), rel=1e-4)


def test_seconds_are_those_of_training_statistics_and_method(proxies, monkeypatch):
    """What the statistics took when they were computed counts, not what getting them takes now."""
    proxy = proxies(CLASSIFICATION, [TRAINED])
    seen, _ = statistics_by(proxy, ["finished_model"])
    now = [0.0]

    def cached(self, name, compute):
        now[0] += 50  # of waiting for another process
        return seen.arrays(), 200.0

    def method(statistics, keep_ratio, seed, variant):
        now[0] += 3
        return statistics.features[:, 0]

    def train(self, need):
        now[0] += 7  # of further networks, say

    monkeypatch.setattr(Proxy, "train", train)
    monkeypatch.setattr(Proxy, "seconds", lambda self, need: {TRAINED: 1000.0}[need])
    monkeypatch.setattr(Proxy, "cached", cached)
    monkeypatch.setitem(METHODS, "herding", METHODS["herding"]._replace(score=method))
    for where in (module, proxy_statistics):
        monkeypatch.setattr(where, "perf_counter", lambda: now[0])
    facts = select("herding", proxy, 0.5, 0).provenance
    assert facts["seconds_of"] == {"proxy": 1000.0, "features": 200.0, "herding": 3.0}
    assert facts["seconds"] == 1203.0 and facts["seconds_here"] == 60.0


def test_the_highest_scores_stay_and_what_a_method_tells_is_on_record(proxies, scored):
    proxy = proxies(CLASSIFICATION)
    given = np.random.default_rng(0).permutation(2 * EACH)
    scored("random", Scores(given, {"why": given.tolist()}, {"told": 1}))
    selection = select("random", proxy, 0.25, 0)
    assert selection.scores == selection.columns["why"] == given.tolist() and selection.provenance["told"] == 1
    assert selection.kept == (given >= 18).tolist()  # 6 of 24
    assert selection.ids == [record["image_id"] for record in proxy.records]


def test_a_method_that_sets_the_ratio_keeps_what_scores_above_0(proxies, scored):
    proxy = proxies(CLASSIFICATION, [TRAINED], **{"SCORING.DATASET_PRUNING": "generalization"})
    given = np.arange(2 * EACH) - 4.0  # the first five can go
    scored("dataset_pruning", given)
    selection = select("dataset_pruning", proxy, 0.5, 0)
    assert selection.kept == (given > 0).tolist() and sum(selection.kept) == 2 * EACH - 5
    assert selection.keep_ratio == pytest.approx(19 / 24)
    assert sum(select("dataset_pruning", proxies(CLASSIFICATION, [TRAINED]), 0.5, 0).kept) == EACH


def test_a_method_serves_every_ratio_unless_it_says_otherwise(proxies):
    """Comparisons score once and cut; that has to be what scoring for the ratio gives."""
    proxy = proxies(CLASSIFICATION, [EARLY, TRAINED])
    for name, method in METHODS.items():
        if not method.looks_at_ratio:
            whole, own = select(name, proxy, 1.0, 0), select(name, proxy, 0.5, 0)
            assert sum(whole.kept) == 2 * EACH and cut_as_made(whole, 0.5).kept == own.kept, name


def test_a_proxy_that_has_diverged_is_named_with_its_images(proxies, monkeypatch):
    proxy = proxies(CLASSIFICATION, [TRAINED])
    features = np.ones((2 * EACH, 3), np.float32)
    features[5, 1] = np.nan
    arrays = {"features": features, "probabilities": np.ones((2 * EACH, 2), np.float32)}
    monkeypatch.setattr(Proxy, "cached", lambda *_: (dict(arrays), 0.0))
    bad = re.escape(proxy.records[5]["image_id"])
    with pytest.raises(ValueError, match=f"last_layer of 1 of 24 images .*{bad}.*diverged"):
        select("glister", proxy, 0.5, 0)
    seen = replace(proxy.adapter.labelled(proxy.records), features=features * np.nan)
    monkeypatch.setattr(Proxy, "cached", lambda *_: (seen.arrays(), 0.0))
    with pytest.raises(FloatingPointError, match="of 24 images is no number.*diverged"):
        select("herding", proxy, 0.5, 0)
    monkeypatch.setattr(Proxy, "cached", lambda *_: ({"objects": features * np.nan}, 0.0))
    with pytest.raises(FloatingPointError, match="of 24 images is no number.*diverged"):
        select("csod", proxy, 0.5, 0)


def test_scores_that_are_no_numbers_are_refused():
    records = [{"image_id": f"i{n}", "dataset_name": "mine", "category_id": 0} for n in range(3)]
    with pytest.raises(ValueError, match=r"herding gave 3 scores for 3 images, 1 of them .*\['i1'\]"):
        make_selection(records, [0.0, np.inf, 1.0], keep_ratio=0.5, method="herding")


def test_classes_are_held_to_the_ratio_if_asked(proxies):
    selection = select("mean_loss", proxies(CLASSIFICATION, [TRAINED], **{"SCORING.CLASS_BALANCE": True}), 0.5, 0)
    kept = [name for name, keep in zip(selection.columns["class"], selection.kept) if keep]
    assert kept.count("dark") == kept.count("light") == EACH // 2


@pytest.mark.parametrize(
    "ratio, balance, message",
    [
        (0.99, False, "keep_ratio 0.99 of .* is all of them: use a ratio from"),
        (0.01, False, "keep_ratio 0.01 of .* is none of them"),
        (0.05, True, r"2 groups \(dark, light\) cannot each keep a sample"),
    ],
)
def test_what_arithmetic_tells_of_a_ratio_is_said_before_training(
    config, tmp_path, monkeypatch, ratio, balance, message
):
    monkeypatch.setattr(Proxy, "train", lambda *_: pytest.fail("it trains"))
    proxy = Proxy(config(**{"SCORING.CLASS_BALANCE": balance}), 0, tmp_path)
    with pytest.raises(ValueError, match=message):
        select_by("mean_loss", proxy, ratio, 0)


@pytest.mark.parametrize("method", [name for name, method in METHODS.items() if method.looks_at_ratio])
def test_what_looks_at_the_ratio_has_no_scores_for_all_to_cut_from(config, tmp_path, monkeypatch, method):
    monkeypatch.setattr(Proxy, "train", lambda *_: pytest.fail("it trains"))
    with pytest.raises(ValueError, match="above 0 and below 1; got 1.0"):
        select_by(method, Proxy(config(), 0, tmp_path), 1.0, 0)


@pytest.mark.parametrize("mode, kept", [("keep", True), ("drop", False)])
def test_images_without_boxes_go_where_the_config_says(config, tmp_path, mode, kept):
    selection = select("random", Proxy(config(DETECTION, **{"ADAPRUNER.EMPTY_IMAGES": mode}), 0, tmp_path), 0.5, 0)
    at = selection.ids.index("i3")
    assert selection.scores[at] is None and selection.kept[at] == kept and len(selection) == 10


def test_detection_images_are_held_to_the_ratio_by_their_rarest_class(config, tmp_path):
    selection = select("random", Proxy(config(DETECTION, **{"SCORING.CLASS_BALANCE": True}), 0, tmp_path), 0.5, 0)
    classes = selection.columns["rarest_class"]
    kept = [name for name, keep in zip(classes, selection.kept) if keep]
    assert len(kept) == 5 and len(set(classes)) > 1
    for name in set(classes):
        assert abs(kept.count(name) - classes.count(name) / 2) <= 0.5
