import sys

import pytest
from conftest import ROOT
from detectron2.data import DatasetCatalog

from adapruner_det.baselines.registry import METHODS
from adapruner_det.engine import load_config
from adapruner_det.engine.proxy import task_name
from adapruner_det.experiments.check import check
from adapruner_det.experiments.experiment import Experiment, Grid
from adapruner_det.experiments.options import load_experiment, read_experiment

EXPERIMENTS = sorted((ROOT / "configs/experiments").glob("*.yaml"))

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
    experiment, train = load_experiment({}, write(WHOLE)), str(tmp_path / "train.yaml")
    assert experiment == Experiment(
        prune_config=str(tmp_path / "prune.yaml"),
        train_configs={"Small net": train},
        methods=["full", "adapruner"],
        keep_ratios=[0.9, 0.5],
        seeds=[0, 1],
        budgets=["iterations", "epochs"],
        variants={
            "no warm-up": {"ADAPRUNER.WARMUP": 0, "ADAPRUNER.SELECTION_LOSS": False},
            "by class": {"method": "el2n", "SCORING.CLASS_BALANCE": True},
        },
        opts={"DATASETS.REGISTER": ["a=images:x y.zip", "b=images:z.zip"], "INPUT.RANDOM_FLIP": "none"},
        prune_opts={"SOLVER.BASE_LR": 0.1},
        train_opts={"DATASETS.TEST": []},
        finetune={"Small net": train, "Other net": str(tmp_path / "prune.yaml")},
        finetune_opts={"DATASETS.TRAIN": ["a"]},
        more=[
            Grid(keep_ratios=[0.9], seeds=[2, 3]),
            Grid(budgets=["epochs"]),
            Grid(train_configs={"Other net": train}, seeds=[0]),
        ],
    )
    data = ("DATASETS.REGISTER", "('a=images:x y.zip', 'b=images:z.zip')", "INPUT.RANDOM_FLIP", "none")
    assert experiment.training_stage("Small net") == (train, (*data, "DATASETS.TEST", "()"))
    assert experiment.last_stage("Small net") == (train, (*data, "DATASETS.TRAIN", "('a',)"))
    selecting = experiment.selecting_stage("by class")
    assert selecting.overrides == (*data, "SOLVER.BASE_LR", "0.1", "SCORING.CLASS_BALANCE", "True")


@pytest.mark.parametrize(
    "text, message",
    [
        ("keep_ratio: [0.9]", "mine.yaml: keep_ratio: there is no such option, .*; did you mean keep_ratios"),
        ("keep_ratios: 0.9", "mine.yaml: keep_ratios: .* is not a ListConfig, list or tuple"),
        ("keep_ratios: [most]", r"mine.yaml: keep_ratios\[0\]: Value 'most' .* could not be converted to Float"),
        ("seeds: [0.5]", r"mine.yaml: seeds\[0\]: Value '0.5' .* could not be converted to Integer"),
        ("prune_config: 3", "mine.yaml: prune_config: there is no config file .*/3"),
        ("prune_config: gone.yaml", "mine.yaml: prune_config: there is no config file .*gone.yaml"),
        ("train_configs: [a.yaml]", "mine.yaml: train_configs: .*Cannot merge DictConfig with ListConfig"),
        ("variants: {a: ADAPRUNER.WARMUP 0}", "mine.yaml: variants.a: .*'ADAPRUNER.WARMUP 0'"),
        ("more: {seeds: [1]}", "mine.yaml: more: .*Cannot merge DictConfig with ListConfig"),
        ("more: [seeds]", "mine.yaml: more.0.: Invalid type assigned: str"),
        ("more: [{train_configs: {a: gone.yaml}}]", "mine.yaml: .*there is no config file .*gone.yaml"),
        ("more: [{seeds: [x]}]", r"mine.yaml: more: seeds\[0\]: Value 'x'"),
        (
            "more: [{keep_ratio: [0.9]}]",
            "mine.yaml: more: keep_ratio: .* but train_configs.*; did you mean keep_ratios",
        ),
        ("seeds: [0", "mine.yaml cannot be read as an experiment file"),
        ("- seeds", "mine.yaml is no experiment file"),
    ],
)
def test_what_is_wrong_with_a_file_is_said_in_a_line_with_its_name_and_the_key(write, text, message):
    with pytest.raises(ValueError, match=message) as refusal:
        read_experiment(write(text))
    assert "\n" not in str(refusal.value)


def test_what_is_not_there_is_named(tmp_path):
    with pytest.raises(ValueError, match="nowhere.yaml cannot be read as an experiment file"):
        read_experiment(tmp_path / "nowhere.yaml")
    with pytest.raises(ValueError, match="prune_config: there is no config file nowhere.yaml"):
        load_experiment({"prune_config": "nowhere.yaml"})
    with pytest.raises(ValueError, match="prune_config: needed, on the command line or in"):
        load_experiment({})


def test_data_of_one_s_own_takes_the_place_of_the_configs_and_settings_that_are_given_win(write):
    file = write("prune_config: ../prune.yaml\nopts: {SEED: 3}")
    experiment = load_experiment({"opts": {"A.B": "1"}}, file, ["a=voc:x:y", "b=voc:x:z"])
    assert list(experiment.opts.items()) == [
        ("SEED", 3), ("DATASETS.REGISTER", ["a=voc:x:y", "b=voc:x:z"]), ("DATASETS.TRAIN", ["a"]), ("A.B", "1")
    ]  # fmt: skip
    assert experiment.train_opts == {"DATASETS.TEST": ["b"]}
    assert load_experiment({}, file, ["a=voc:x:y"]).train_opts == {"DATASETS.TEST": []}
    other = load_experiment({"train_opts": {"DATASETS.TEST": "()"}}, file, ["a=voc:x:y", "b=voc:x:z"])
    assert other.train_opts == {"DATASETS.TEST": "()"}


def test_given_options_replace_the_file_s_settings_and_variants_key_by_key(write):
    file = write("prune_config: ../prune.yaml\nseeds: [0, 1]\nbudgets: [epochs]\nopts: {A.B: 1, X.Y: 1}\n"
                 "variants: {x: {C.D: 1}, z: {C.D: 1}}\nmore: [{seeds: [2]}]")  # fmt: skip
    variants = {"y": {"method": "el2n", "A.B": "1"}, "z": {"E.F": "2"}}
    experiment = load_experiment({"methods": ["full"], "opts": {"A.B": "2"}, "variants": variants}, file)
    assert experiment.methods == ["full"] and experiment.budgets == ["epochs"]
    assert experiment.opts == {"A.B": "2", "X.Y": 1} and experiment.variants == {"x": {"C.D": 1}, **variants}
    assert experiment.more == [Grid(seeds=[2])]
    with pytest.raises(ValueError, match="mine.yaml, with the options given besides: keep_ratios: .90.0."):
        load_experiment({"keep_ratios": [90]}, file)


def test_who_names_ratios_seeds_budgets_or_models_gets_them_alone(write):
    file = write("prune_config: ../prune.yaml\ntrain_configs: {A: ../train.yaml}\n"
                 "more: [{seeds: [2]}, {train_configs: {B: ../train.yaml}, seeds: [3]}]")  # fmt: skip
    for given in ({"seeds": [5]}, {"keep_ratios": [0.5]}, {"budgets": ["epochs"]}):
        assert not load_experiment(given, file).more
    config = str(file.parent.parent / "prune.yaml")
    experiment = load_experiment({"train_configs": {"C": config}}, file)
    assert experiment.models() == {"C": config} and experiment.more == [Grid(seeds=[2]), Grid(seeds=[3])]


def config_of(stage):
    return load_config(stage.config, opts=stage.overrides)


@pytest.fixture
def without_data(monkeypatch):
    """The experiments of the tree, whose data need not be there."""
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(sys.modules[load_config.__module__], "register_from_spec", lambda *_, **__: None)
    return lambda name: load_experiment({}, f"configs/experiments/{name}.yaml")


@pytest.mark.parametrize("path", EXPERIMENTS, ids=lambda path: path.stem)
def test_every_experiment_of_the_tree_fits_the_configs(path, without_data):
    assert path.read_text().startswith("# ") and "Costs" in path.read_text()
    experiment = without_data(path.stem)
    assert len(experiment.seeds) >= 3, "fewer prove nothing"
    for model in experiment.models():
        sets = [config_of(stage(model)).DATASETS for stage in (experiment.training_stage, experiment.last_stage)]
        for method in experiment.selecting_methods():
            pruning = config_of(experiment.selecting_stage(method))
            assert pruning.ADAPRUNER.ENABLED and pruning.DATASETS.TRAIN == sets[0].TRAIN
        for used in (pruning.DATASETS, *sets):
            registered = {spec.partition("=")[0] for spec in used.REGISTER} | set(DatasetCatalog.list())
            assert {*used.TRAIN, *used.TEST} <= registered
    check(experiment)


@pytest.mark.parametrize(
    "name, smaller", [("cifar10_methods_small", "cifar10_small"), ("methods_neu_det", "final_neu_det")]
)
def test_an_experiment_with_all_methods_lacks_none_and_shares_the_runs_of_its_smaller_one(name, smaller, without_data):
    experiment, other = without_data(name), without_data(smaller)
    task = task_name(config_of(experiment.selecting_stage()))
    assert {*experiment.methods} == {"full", *(name for name, method in METHODS.items() if task in method.tasks)}
    assert experiment.selecting_stage("random") == other.selecting_stage("random")
    assert experiment.seeds == other.seeds
    for model in experiment.models():
        assert experiment.training_stage(model) == other.training_stage(model)
