import sys

import pytest
from conftest import ROOT
from detectron2.data import DatasetCatalog

from adapruner_det.baselines.registry import METHODS
from adapruner_det.engine import load_config
from adapruner_det.engine.proxy import task_name
from adapruner_det.experiments.comparison import Comparison, Variant
from adapruner_det.experiments.experiment import (
    build_comparison,
    config_file,
    merge,
    named,
    read_experiment,
    split_pairs,
    variant_of,
    with_registered,
)
from adapruner_det.experiments.plan import check

EXPERIMENTS = sorted((ROOT / "configs/experiments").glob("*.yaml"))
TOOLS = ROOT / "tools"

WHOLE = """
prune_config: ../prune.yaml
train_configs: {Small net: ../train.yaml}
methods: [full, adapruner]
keep_ratios: [0.9, 0.5]
seeds: [0, 1]
budgets: [iterations, epochs]
variants:
  no warm-up: {ADAPRUNER.WARMUP: 0, ADAPRUNER.SELECTION_LOSS: false}
  by class: {method: el2n, SCORING.CLASS_BALANCE: true}
opts:
  DATASETS.REGISTER: ["a=images:x y.zip", "b=images:z.zip"]
  INPUT.RANDOM_FLIP: none
prune_opts: {SOLVER.BASE_LR: 0.1}
train_opts: {DATASETS.TEST: []}
finetune: {Small net: ../train.yaml, Other net: ../prune.yaml}
finetune_opts: {DATASETS.TRAIN: [a]}
cut_from: 0.7
more:
  - {keep_ratios: [0.9], seeds: [2, 3]}
  - {budgets: [epochs]}
  - {train_configs: {Other net: ../train.yaml}, seeds: [0]}
"""


@pytest.fixture
def write(tmp_path):
    """Writes an experiment file in a tree with prune.yaml and train.yaml; returns its path."""
    for name in ("prune.yaml", "train.yaml"):
        (tmp_path / name).write_text("VERSION: 2\n")
    (tmp_path / "experiments").mkdir()

    def write(text):
        path = tmp_path / "experiments" / "mine.yaml"
        path.write_text(text)
        return path

    return write


def test_an_experiment_file_can_hold_every_option(write, tmp_path):
    comparison = build_comparison(TOOLS, read_experiment(write(WHOLE)))
    assert comparison == Comparison(
        tools=TOOLS,
        prune_config=str(tmp_path / "prune.yaml"),
        train_configs={"Small net": str(tmp_path / "train.yaml")},
        methods=("full", "adapruner"),
        keep_ratios=(0.9, 0.5),
        seeds=(0, 1),
        budgets=("iterations", "epochs"),
        variants={
            "no warm-up": Variant(("ADAPRUNER.WARMUP", "0", "ADAPRUNER.SELECTION_LOSS", "False"), "adapruner"),
            "by class": Variant(("SCORING.CLASS_BALANCE", "True"), "el2n"),
        },
        opts=("DATASETS.REGISTER", "('a=images:x y.zip', 'b=images:z.zip')", "INPUT.RANDOM_FLIP", "none"),
        prune_opts=("SOLVER.BASE_LR", "0.1"),
        train_opts=("DATASETS.TEST", "()"),
        finetune={"Small net": str(tmp_path / "train.yaml"), "Other net": str(tmp_path / "prune.yaml")},
        finetune_opts=("DATASETS.TRAIN", "('a',)"),
        cut_from=0.7,
        more=(
            {"keep_ratios": (0.9,), "seeds": (2, 3)},
            {"budgets": ("epochs",)},
            {"train_configs": {"Other net": str(tmp_path / "train.yaml")}, "seeds": (0,)},
        ),
    )


@pytest.mark.parametrize(
    "text, message",
    [
        ("keep_ratio: [0.9]", "mine.yaml: keep_ratio is no option; it can hold prune_config"),
        ("keep_ratios: 0.9", "mine.yaml: keep_ratios: 0.9 is not a list"),
        ("keep_ratios: [most]", "mine.yaml: keep_ratios: 'most' is not a number"),
        ("seeds: [0.5]", "mine.yaml: seeds: 0.5 is not a whole number"),
        ("seeds: [yes]", "mine.yaml: seeds: True is not a whole number"),
        ("methods: full", "mine.yaml: methods: 'full' is not a list"),
        ("prune_config: gone.yaml", "mine.yaml: prune_config: there is no config file .*gone.yaml"),
        ("train_configs: [a.yaml]", "mine.yaml: train_configs: .* is not `name: value` lines"),
        ("train_opts: {SOLVER: {MAX_ITER: 3}}", "mine.yaml: train_opts: SOLVER needs a value; the parts"),
        ("opts: {SEED: }", "mine.yaml: opts: SEED needs a value"),
        ("variants: {a: ADAPRUNER.WARMUP 0}", "mine.yaml: variants: 'ADAPRUNER.WARMUP 0' is not `name"),
        ("variants: {a: {method: 3}}", "mine.yaml: variants: 3 is not a text"),
        ("more: {seeds: [1]}", "mine.yaml: more: .* is not a list"),
        ("more: [seeds]", "mine.yaml: more: 'seeds' is not `name: value` lines"),
        ("more: [{train_configs: {a: gone.yaml}}]", "mine.yaml: more: there is no config file .*gone.yaml"),
        ("more: [{seeds: [x]}]", "mine.yaml: more: 'x' is not a whole number"),
        ("seeds: [0", "mine.yaml cannot be read as an experiment file"),
        ("- seeds", "mine.yaml is no experiment file"),
    ],
)
def test_what_is_wrong_with_a_file_is_said_with_its_name_and_the_key(write, text, message):
    with pytest.raises(ValueError, match=message):
        read_experiment(write(text))


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(ValueError, match="nowhere.yaml cannot be read as an experiment file"):
        read_experiment(tmp_path / "nowhere.yaml")


@pytest.mark.parametrize("words", [("eln2", "A.B", "1"), ("A.B",), ("full", "A.B", "1")])
def test_a_variant_of_no_method_is_refused(words):
    with pytest.raises(ValueError, match=f"'{' '.join(words)}' is neither KEY VALUE pairs nor .* random, adap"):
        variant_of(words)


def test_data_of_one_s_own_takes_the_place_of_the_configs_and_pairs_that_are_given_win():
    given = {"opts": ("DATASETS.TRAIN", "('b',)"), "seeds": (1,)}
    options = with_registered(given, ["a=voc:x:y", "b=voc:x:z"])
    assert options["opts"][:2] == ("DATASETS.REGISTER", "('a=voc:x:y', 'b=voc:x:z')")
    assert options["opts"][2:] == ("DATASETS.TRAIN", "('a',)", "DATASETS.TRAIN", "('b',)")
    assert options["train_opts"] == ("DATASETS.TEST", "('b',)") and options["seeds"] == (1,)
    assert with_registered(given, []) == given
    assert with_registered({}, ["a=voc:x:y"])["train_opts"] == ("DATASETS.TEST", "()")


def test_given_options_replace_the_file_s_and_pairs_come_behind():
    from_file = {"seeds": (0, 1), "budgets": ("epochs",), "opts": ("A.B", "1"),
                 "variants": {"x": Variant(("C.D", "1"))}}  # fmt: skip
    given = {"seeds": (5,), "opts": ("A.B", "2"), "train_opts": ("E.F", "3"), "variants": {"y": Variant()}}
    assert merge(from_file, given) == {
        "seeds": (5,),
        "budgets": ("epochs",),
        "opts": ("A.B", "1", "A.B", "2"),
        "train_opts": ("E.F", "3"),
        "variants": {"x": Variant(("C.D", "1")), "y": Variant()},
    }
    assert from_file["seeds"] == (0, 1) and list(from_file["variants"]) == ["x"]


@pytest.mark.parametrize("given", ({"seeds": (5,)}, {"keep_ratios": (0.5,)}, {"budgets": ("epochs",)}))
def test_who_names_ratios_seeds_or_budgets_gets_them_without_further_grids(given):
    from_file = {"seeds": (0, 1), "more": ({"seeds": (2,)},)}
    assert "more" not in merge(from_file, given) and "more" in from_file
    assert merge(from_file, {"methods": ("full",)})["more"] == from_file["more"]


def test_who_names_models_gets_these_in_every_grid():
    from_file = {"train_configs": {"A": "a"}, "more": ({"seeds": (2,)}, {"train_configs": {"B": "b"}, "seeds": (3,)})}
    merged = merge(from_file, {"train_configs": {"C": "c"}})
    assert merged == {"train_configs": {"C": "c"}, "more": ({"seeds": (2,)}, {"seeds": (3,)})}
    assert "train_configs" in from_file["more"][1]


def test_a_config_to_prune_by_is_needed():
    with pytest.raises(ValueError, match="prune_config: needed, on the command line or in"):
        build_comparison(TOOLS, {"seeds": (0,)})


def test_pairs_and_names_on_a_command_line(tmp_path):
    assert named("no warm-up=ADAPRUNER.WARMUP 0") == ("no warm-up", "ADAPRUNER.WARMUP 0")
    assert split_pairs("A.B 0 C.D \"('x y',)\"") == ("A.B", "0", "C.D", "('x y',)")
    for text in ("no warm-up", "=A.B 1", "x="):
        with pytest.raises(ValueError, match="not of the form NAME="):
            named(text)
    with pytest.raises(ValueError):
        split_pairs("A.B 'x")
    with pytest.raises(ValueError, match="there is no config file"):
        config_file(str(tmp_path))


def config_of(stage):
    return load_config(stage.config, opts=stage.overrides)


@pytest.mark.parametrize("path", EXPERIMENTS, ids=lambda path: path.stem)
def test_every_experiment_of_the_tree_fits_the_configs(path, monkeypatch):
    monkeypatch.chdir(ROOT)
    setup = sys.modules[load_config.__module__]
    monkeypatch.setattr(setup, "register_from_spec", lambda *_, **__: None)  # the data need not be there
    assert path.read_text().startswith("# ") and "Costs" in path.read_text()
    comparison = build_comparison(TOOLS, read_experiment(path.relative_to(ROOT)))
    assert len(comparison.seeds) >= 3, "fewer prove nothing"
    for model in comparison.models():
        training, last = comparison.training_stage(model), comparison.last_stage(model)
        sets = [config_of(stage).DATASETS for stage in (training, last)]
        assert len(sets[1].TEST) == 1
        for method in comparison.selecting_methods():
            pruning = config_of(comparison.selecting_stage(method))
            assert pruning.ADAPRUNER.ENABLED and pruning.DATASETS.TRAIN == sets[0].TRAIN
        for used in (pruning.DATASETS, *sets):
            registered = {spec.partition("=")[0] for spec in used.REGISTER} | set(DatasetCatalog.list())
            assert {*used.TRAIN, *used.TEST} <= registered
    check(comparison)


def test_an_experiment_with_all_methods_lacks_none_and_shares_the_runs_of_its_smaller_one(monkeypatch):
    monkeypatch.chdir(ROOT)
    setup = sys.modules[load_config.__module__]
    monkeypatch.setattr(setup, "register_from_spec", lambda *_, **__: None)
    pairs = (("cifar10_methods_small", "cifar10_small"), ("neu_det_methods_small", "detection_small"))
    for name, smaller in pairs:
        paths = (f"configs/experiments/{file}.yaml" for file in (name, smaller))
        comparison, other = (build_comparison(TOOLS, read_experiment(path)) for path in paths)
        task = task_name(config_of(comparison.selecting_stage()))
        applying = {name for name, method in METHODS.items() if task in method.tasks}
        assert {*comparison.methods} == {"full", *applying}
        assert comparison.selecting_stage("random") == other.selecting_stage("random")
        assert comparison.keep_ratios == other.keep_ratios and comparison.seeds == other.seeds
        for model in comparison.models():
            assert comparison.training_stage(model) == other.training_stage(model)


def test_there_are_experiments():
    assert len(EXPERIMENTS) >= 9
