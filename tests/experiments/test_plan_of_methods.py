"""Comparisons of methods that look at a proxy."""

import re

import pytest
from conftest import ROOT, write_voc_folder

from adapruner_det.baselines import registry
from adapruner_det.experiments import plan as plan_module
from adapruner_det.experiments.comparison import Cell, Comparison, proxy_run, selection_run, training_run
from adapruner_det.experiments.methods import METHODS
from adapruner_det.experiments.plan import plan
from adapruner_det.experiments.runs import PLAN, _write_plan, execute

PRUNE = "configs/bccd/prune_yolov3_tiny_R18.yaml"
MODEL = "YOLOv3-Tiny"
TRAIN = {MODEL: "configs/bccd/train_yolov3_tiny_R18.yaml"}
LOOKING = ("herding", "grand", "near_duplicates")


@pytest.fixture(autouse=True)
def data(monkeypatch, tmp_path, clean_catalogs):
    """Ten images in place of BCCD; the repository as working folder."""
    splits = {"trainval": [f"i{n}" for n in range(10)], "test": ["t"]}
    write_voc_folder(tmp_path / "data/bccd", splits)
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("DETECTRON2_DATASETS", str(tmp_path / "data"))


def runs_of(tmp_path, *methods, **options):
    comparison = Comparison(ROOT / "tools", PRUNE, TRAIN, methods=("full", *methods), **options)
    return {run.name: run for run in plan(comparison, tmp_path)}


def test_one_proxy_a_seed_serves_all_methods_and_ratios(tmp_path):
    runs = runs_of(tmp_path, "random", "adapruner", *LOOKING, seeds=(0, 1), keep_ratios=(0.8, 0.5))
    proxies = [name for name in runs if "proxy" in name]
    assert proxies == ["select/proxy_seed0", "select/proxy_seed1"] == [proxy_run(0), proxy_run(1)]
    for seed, name in enumerate(proxies):
        command = runs[name].command
        assert command[2] == "proxy" and command[command.index("--output") + 1] == str(tmp_path / name)
        assert command[command.index("--seed") + 1] == str(seed) and runs[name].iterations == 140
        for method in LOOKING:
            for ratio in (0.8, 0.5):
                scoring, selecting = (runs[selection_run(method, r, seed)] for r in (1.0, ratio))
                assert scoring.after == (name,) and scoring.command[2] == method
                at = scoring.command.index("--proxy")
                assert scoring.command[at + 1] == str(tmp_path / name)
                assert selecting.after == (scoring.name,) and selecting.command[2] == "cut"
                training = runs[training_run(MODEL, Cell(method, ratio, "iterations"), seed)]
                assert training.after == (selecting.name,)
    assert not runs[selection_run("random", 0.8, 0)].after
    order = list(runs)
    assert all(order.index(before) < order.index(run.name) for run in runs.values() for before in run.after)


def test_nothing_is_trained_for_methods_that_look_at_none(tmp_path):
    assert not any("proxy" in name for name in runs_of(tmp_path, "random", "random_class_weighted", "adapruner"))


def test_a_cut_waits_for_what_waits_for_the_proxy(tmp_path):
    runs = runs_of(tmp_path, "bnsl", keep_ratios=(0.5,), cut_from=0.7)
    source = runs[selection_run("bnsl", 0.7, 0)]
    assert runs[selection_run("bnsl", 0.5, 0)].after == (source.name,)
    assert source.after == (proxy_run(0),)


def test_what_looks_at_the_ratio_scores_for_each(tmp_path):
    runs = runs_of(tmp_path, "bnsl", "adapruner", keep_ratios=(0.8, 0.5))
    for ratio in (0.8, 0.5):
        command = runs[selection_run("bnsl", ratio, 0)].command
        assert command[2] == "bnsl" and command[command.index("--keep-ratio") + 1] == str(ratio)
        assert str(ratio) in runs[selection_run("adapruner", ratio, 0)].command
    assert not any("1.00" in name for name in runs if "select" in name)


def test_another_ratio_leaves_the_scores_that_are_there_as_they_are(tmp_path):
    one, two = (runs_of(tmp_path, "herding", keep_ratios=ratios) for ratios in ((0.8,), (0.9, 0.8)))
    assert one.items() <= two.items()


def test_adding_methods_leaves_the_runs_that_are_there_as_they_are(tmp_path, monkeypatch):
    before = runs_of(tmp_path, "random", "adapruner", keep_ratios=(0.8, 0.5))
    after = runs_of(tmp_path, "random", "adapruner", *LOOKING, keep_ratios=(0.8, 0.5))
    assert before.items() <= after.items() and len(after) > len(before)
    for run in before.values():  # a finished comparison
        _write_plan(run, tmp_path / run.name, 0.0)
        assert (tmp_path / run.name / PLAN).is_file()
        (tmp_path / run.name / "done.json").write_text('{"seconds": 1.0}')
    execute(list(before.values()), tmp_path, jobs=1)  # raises nothing, repeats nothing


def test_settings_of_scoring_count_for_those_that_look_at_a_proxy_alone(tmp_path, monkeypatch):
    def fingerprints():
        return {name: run.fingerprint for name, run in runs_of(tmp_path, "random", *LOOKING).items()}

    load = plan_module.load_config

    def load_other(*args, **kwargs):
        cfg = load(*args, **kwargs)
        cfg.SCORING.EARLY = 0.3
        return cfg

    def load_older(*args, **kwargs):
        cfg = load(*args, **kwargs)
        cfg.SCORING.EARLIER = "a key there was, or is going to be"
        return cfg

    usual = fingerprints()
    monkeypatch.setattr(plan_module, "load_config", load_other)
    changed = {name for name, value in fingerprints().items() if value != usual[name]}
    looking = {name for name in usual if re.search("proxy|herding|grand|near", name)}
    assert changed == looking
    monkeypatch.setattr(plan_module, "load_config", load_older)
    assert {name for name, value in fingerprints().items() if value == usual[name]} == set(usual) - looking


def test_balanced_scores_are_another_run_even_of_random_selection(tmp_path, monkeypatch):
    usual = runs_of(tmp_path, "random")
    load = plan_module.load_config

    def load_balanced(*args, **kwargs):
        cfg = load(*args, **kwargs)
        cfg.SCORING.CLASS_BALANCE = True
        return cfg

    monkeypatch.setattr(plan_module, "load_config", load_balanced)
    balanced = runs_of(tmp_path, "random")
    changed = {name for name, run in usual.items() if balanced[name].fingerprint != run.fingerprint}
    assert changed == {name for name in usual if "random" in name} and changed != set(usual)


def test_methods_that_do_not_apply_are_refused_with_their_reasons(tmp_path):
    reason = re.escape(registry.refusal("el2n", "detection"))
    with pytest.raises(ValueError, match=f"methods: {reason}; glister does not apply"):
        runs_of(tmp_path, "random", "el2n", "glister")


def test_every_method_can_be_compared_but_a_form_that_sets_the_ratio_itself(tmp_path):
    assert set(METHODS) == set(registry.METHODS)
    needing = {name for name, method in METHODS.items() if method.needs_proxy}
    assert needing == {name for name, method in registry.METHODS.items() if method.trainings} - {"adapruner"}
