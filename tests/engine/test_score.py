"""Every method on tiny data, with a proxy trained no further than the method says it needs."""

import re

import numpy as np
import pytest
import torch
from proxy_runs import EACH

from adapruner_det.baselines import registry
from adapruner_det.baselines.el2n import error_norms
from adapruner_det.baselines.evidence import CLASSIFICATION, DETECTION, LastLayer
from adapruner_det.baselines.registry import EARLY, METHODS, NOTHING, TRAINED
from adapruner_det.engine import classification_statistics as classification
from adapruner_det.engine import proxy_statistics as evidence_module
from adapruner_det.engine import score as methods
from adapruner_det.engine.proxy import Proxy
from adapruner_det.engine.proxy_statistics import ProxyEvidence
from adapruner_det.engine.score import select_by
from adapruner_det.engine.selection_of_scores import cut_as_made, selection_of_scores

APPLY = [(task, name) for task in (CLASSIFICATION, DETECTION) for name in METHODS
         if task in METHODS[name].tasks]  # fmt: skip


@pytest.fixture(scope="module")
def proxies(config, tmp_path_factory):
    """Makes a proxy of a task that is trained as far as asked for, and no further."""
    folders = {}

    def proxy(task, need):
        if (task, need) not in folders:
            folders[task, need] = tmp_path_factory.mktemp(f"{task}_{need}")
            if need != NOTHING:
                Proxy(config(task), 0, folders[task, need]).train(need)
        return Proxy(config(task), 0, folders[task, need])

    return proxy


@pytest.mark.parametrize("task, name", APPLY)
def test_a_method_needs_no_more_than_it_says(proxies, task, name, monkeypatch):
    need = METHODS[name].needs
    proxy = proxies(task, need)
    monkeypatch.setattr(Proxy, "_train", lambda *_, **__: pytest.fail("it trains the proxy further"))
    selection = select_by(name, proxy, 0.5, seed=0)
    scores, kept = np.array(selection.scores), np.array(selection.kept)
    expected = round(0.5 * len(kept)) if not METHODS[name].sets_ratio else max(1, (scores > 0).sum())
    assert kept.sum() == expected and selection.method == name
    assert scores[kept].min() >= scores[~kept].max()
    facts = selection.provenance
    assert facts["seed"] == 0
    assert facts["seconds"] == pytest.approx(sum(facts["seconds_of"].values()), abs=0.2)  # rounded, each
    assert ("proxy" in facts["seconds_of"]) == (need != NOTHING)


@pytest.mark.parametrize("name", [name for name in METHODS if METHODS[name].not_for_detection])
def test_a_method_that_does_not_apply_says_why_in_one_line(name):
    reason = registry.refusal(name, DETECTION)
    assert reason.startswith(f"{name} does not apply to detection: ") and "\n" not in reason
    assert not registry.refusal(name, CLASSIFICATION)


def test_what_is_not_there_yet_is_no_evidence(proxies):
    evidence = ProxyEvidence(proxies(CLASSIFICATION, NOTHING))
    for ask in (evidence.features, evidence.early, evidence.dynamics, evidence.gradient_norms):
        with pytest.raises(FileNotFoundError, match="has not been trained|no proxy that was trained"):
            ask()


def test_evidence_is_computed_once_for_all_methods_and_ratios(proxies, monkeypatch):
    proxy = proxies(CLASSIFICATION, TRAINED)
    first = ProxyEvidence(proxy)
    features = first.features()
    monkeypatch.setattr(classification, "last_layer_of", lambda *_: pytest.fail("computed again"))
    second = ProxyEvidence(proxy)
    np.testing.assert_array_equal(second.features(), features)
    assert second.costs == first.costs and first.costs["last_layer"] > 0


def test_the_last_layer_s_probabilities_are_those_of_its_features(proxies):
    proxy = proxies(CLASSIFICATION, TRAINED)
    layer = ProxyEvidence(proxy).last_layer()
    head = proxy.trained_network().head
    expected = head(torch.from_numpy(layer.features)).softmax(1).detach().numpy()
    np.testing.assert_allclose(layer.probabilities, expected, rtol=1e-5)
    right = layer.probabilities.argmax(1) == ProxyEvidence(proxy).labels
    assert right.mean() > 0.6


def test_early_evidence_is_of_the_early_weights(proxies):
    proxy = proxies(CLASSIFICATION, TRAINED)
    evidence = ProxyEvidence(proxy)
    (early,) = evidence.early()
    assert np.abs(early.probabilities - evidence.last_layer().probabilities).max() > 0.01
    model = proxy.early_network(0)
    expected = classification.last_layer_of(proxy.cfg, model, proxy.records)
    np.testing.assert_array_equal(early.features, expected[0])


@pytest.mark.parametrize("asked, used", [("auto", "full"), ("full", "full"), ("last_layer", "last_layer")])
def test_grand_says_which_gradients_it_takes(proxies, config, asked, used):
    folder = proxies(CLASSIFICATION, EARLY).folder
    proxy = Proxy(config(**{"SCORING.GRAND": asked}), 0, folder)
    evidence = ProxyEvidence(proxy)
    norms = evidence.gradient_norms()
    assert norms.shape == (1, 2 * EACH) and evidence.settings == {"gradients": used}
    (layer,) = evidence.early()
    of_last = error_norms(layer, evidence.labels) * np.sqrt((layer.features**2).sum(1) + 1)
    if used == "last_layer":
        np.testing.assert_allclose(norms[0], of_last, rtol=1e-5)
    else:  # of all layers, in float32: no smaller but for the rounding of the features
        assert (norms[0] > 0.95 * of_last).all() and (norms[0] > 1.2 * of_last).any()


def test_seconds_are_those_of_training_evidence_and_method(proxies, monkeypatch):
    """What the evidence took when it was computed counts, not what getting it takes now."""
    proxy = proxies(CLASSIFICATION, TRAINED)
    now = [0.0]

    def cached(self, name, compute):
        now[0] += 50  # of waiting for another process
        return {field: np.ones((2 * EACH, 2), np.float32) for field in LastLayer._fields}, 200.0

    def method(evidence, keep_ratio, seed):
        now[0] += 3
        return evidence.features()[:, 0]

    def train(self, need):
        now[0] += 7  # of further networks, say

    monkeypatch.setattr(Proxy, "train", train)
    monkeypatch.setattr(Proxy, "seconds", lambda self, need: {TRAINED: 1000.0}[need])
    monkeypatch.setattr(Proxy, "cached", cached)
    monkeypatch.setattr(methods, "scoring_function", lambda name: method)
    for module in (methods, evidence_module):
        monkeypatch.setattr(module, "perf_counter", lambda: now[0])
    facts = select_by("herding", proxy, 0.5, 0).provenance
    assert facts["seconds_of"] == {"proxy": 1000.0, "last_layer": 200.0, "herding": 3.0}
    assert facts["seconds"] == 1203.0
    assert facts["seconds_here"] == 60.0


def test_the_highest_scores_of_the_method_stay(proxies, monkeypatch):
    proxy = proxies(CLASSIFICATION, NOTHING)
    given = np.random.default_rng(0).permutation(2 * EACH)
    monkeypatch.setattr(methods, "scoring_function", lambda name: lambda *_: given)
    selection = select_by("random", proxy, 0.25, 0)
    assert selection.scores == given.tolist()
    assert selection.kept == (given >= 18).tolist()  # 6 of 24
    assert selection.ids == [record["image_id"] for record in proxy.records]


def test_a_method_that_sets_the_ratio_keeps_what_scores_above_0(proxies, monkeypatch):
    proxy = proxies(CLASSIFICATION, TRAINED)
    given = np.arange(2 * EACH) - 4.0  # the first five can go
    monkeypatch.setattr(methods, "scoring_function", lambda name: lambda *_: given)
    selection = select_by("dataset_pruning_guaranteed", proxy, 0.5, 0)
    assert selection.kept == (given > 0).tolist() and sum(selection.kept) == 2 * EACH - 5
    monkeypatch.setattr(methods, "scoring_function", lambda name: lambda *_: given - 100)
    assert sum(select_by("dataset_pruning_guaranteed", proxy, 0.5, 0).kept) == 1
    assert sum(select_by("dataset_pruning", proxy, 0.5, 0).kept) == EACH


def test_a_method_serves_every_ratio_unless_it_says_otherwise(proxies):
    """Comparisons score once and cut; that has to be what scoring for the ratio gives."""
    proxy = proxies(CLASSIFICATION, TRAINED)
    proxy.train(EARLY)
    for name, method in METHODS.items():
        if not method.looks_at_ratio:
            whole, own = select_by(name, proxy, 1.0, 0), select_by(name, proxy, 0.5, 0)
            assert sum(whole.kept) == 2 * EACH and cut_as_made(whole, 0.5).kept == own.kept, name


def test_near_duplicates_alone_selects_at_every_ratio_by_the_proxy_all_share(proxies):
    proxy = proxies(DETECTION, TRAINED)
    kept = [np.array(select_by("near_duplicates", proxy, ratio, 0).kept) for ratio in (0.1, 0.3, 0.5, 0.8, 0.9)]
    assert [own.sum() for own in kept] == [round(ratio * len(kept[0])) for ratio in (0.1, 0.3, 0.5, 0.8, 0.9)]
    assert all((larger[smaller]).all() for smaller, larger in zip(kept, kept[1:]))


def test_the_learning_rate_of_an_image_is_that_of_the_proxy_s_training(proxies):
    assert ProxyEvidence(proxies(CLASSIFICATION, NOTHING)).image_learning_rate == 0.02 / 8


def test_evidence_that_is_no_number_names_images_and_proxy(proxies, monkeypatch):
    proxy = proxies(CLASSIFICATION, TRAINED)
    features = np.ones((2 * EACH, 3), np.float32)
    features[5, 1] = np.nan
    arrays = {"features": features, "probabilities": np.ones((2 * EACH, 2), np.float32)}
    monkeypatch.setattr(Proxy, "cached", lambda *_: (arrays, 0.0))
    bad = re.escape(proxy.records[5]["image_id"])
    with pytest.raises(ValueError, match=f"last_layer of 1 of 24 images .*{bad}.*diverged"):
        select_by("near_duplicates", proxy, 0.5, 0)


def test_scores_that_are_no_numbers_are_refused(config):
    proxy_records = [{"image_id": f"i{n}", "dataset_name": "mine", "category_id": 0} for n in range(3)]
    with pytest.raises(ValueError, match=r"herding gave 3 scores for 3 images, 1 of them .*\['i1'\]"):
        selection_of_scores(config(), proxy_records, [], [0.0, np.inf, 1.0], 0.5, "herding", {})


def test_classes_are_held_to_the_ratio_if_asked(config, proxies):
    balanced = Proxy(config(**{"SCORING.CLASS_BALANCE": True}), 0, proxies(CLASSIFICATION, TRAINED).folder)
    selection = select_by("high_loss", balanced, 0.5, 0)
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
        select_by("high_loss", proxy, ratio, 0)


@pytest.mark.parametrize("mode, kept", [("keep", True), ("drop", False)])
def test_images_without_boxes_go_where_the_config_says(config, tmp_path, mode, kept):
    proxy = Proxy(config(DETECTION, **{"ADAPRUNER.EMPTY_IMAGES": mode}), 0, tmp_path)
    selection = select_by("random", proxy, 0.5, 0)
    at = selection.ids.index("i3")
    assert selection.scores[at] is None and selection.kept[at] == kept and len(selection) == 10


def test_detection_images_are_held_to_the_ratio_by_their_rarest_class(config, tmp_path):
    proxy = Proxy(config(DETECTION, **{"SCORING.CLASS_BALANCE": True}), 0, tmp_path)
    selection = select_by("random", proxy, 0.5, 0)
    classes = selection.columns["rarest_class"]
    kept = [name for name, keep in zip(classes, selection.kept) if keep]
    assert len(kept) == 5 and len(set(classes)) > 1
    for name in set(classes):
        assert abs(kept.count(name) - classes.count(name) / 2) <= 0.5
