"""Options of pruning, in the trainer."""

import json
import re

import pytest
from detectron2.config import get_cfg
from detectron2.data import DatasetCatalog, MetadataCatalog
from test_trainer import YOLO, config, kept, scores, train, train_until, voc  # noqa: F401

from adapruner_det.engine import AdaPrunerTrainer, add_adapruner_config, load_config
from adapruner_det.engine.classification import ClassificationTask
from adapruner_det.engine.config import PRESETS, RENAMED_OR_GONE, without_preset
from adapruner_det.engine.hooks import AdaPrunerHook

EACH = {
    "expected": {"ADAPRUNER.MASK.LOSS_SCALE": "expected"},
    "selection weight": {"ADAPRUNER.MASK.SELECTION_WEIGHT": 0.3},
    "solved at the end": {"ADAPRUNER.SOLVE_AT_END": True, "ADAPRUNER.DIFFICULTY": 0.3},
}


class Handing:
    """Stands for a pruner: notes what it is given."""

    def __init__(self, pruner):
        self.given = []
        self.__dict__.update(vars(pruner))
        self.weights = pruner.weights
        self.update = lambda *batch: self.given.append(batch)


def one_step(trainer):
    """(batch, indices, losses, covariates) of one step, the last three as the pruner got them."""
    step = trainer._trainer
    step.pruner = Handing(step.pruner)
    data = next(step._data_loader_iter)
    losses = step.losses(data)
    return data, losses, *step.pruner.given[0]


def test_the_mask_is_told_how_many_boxes_of_each_class_there_are(voc, config):  # noqa: F811
    voc("all")
    data, _, index, _, covariates = one_step(AdaPrunerTrainer(config(**EACH["expected"])))
    assert covariates.shape == (6, 2)
    for record, row in zip(data, covariates.tolist()):
        classes = record["instances"].gt_classes
        assert row == [int((classes == c).sum()) for c in range(2)]
    assert index.tolist() == [record["image_index"] for record in data]


def test_crowds_are_no_boxes(voc, config):  # noqa: F811
    trainer = AdaPrunerTrainer(config(**{"DATASETS.TRAIN": (voc("all"),)}))
    records = DatasetCatalog.get("data")[:1]
    records[0] = {**records[0], "dataset_name": "data"}
    one = {"category_id": 1, "iscrowd": 0}
    records[0]["annotations"] = [one, one, {**one, "iscrowd": 1}, {"category_id": 0}]
    assert trainer.task.class_counts(records).tolist() == [[1, 2]]


@pytest.mark.parametrize("options", EACH.values(), ids=EACH)
def test_a_resumed_run_ends_with_the_same_scores(voc, config, options):  # noqa: F811
    voc("all")
    options = {**YOLO, **options, "SOLVER.CHECKPOINT_PERIOD": 7}
    whole, parts = config(folder="whole", **options), config(folder="parts", **options)
    train(whole)
    train_until(8, parts)
    train(parts, resume=True)
    assert scores(parts) == scores(whole) and len(kept(whole)) == 15


def test_a_model_that_cannot_be_asked_is_refused_before_training(voc, config):  # noqa: F811
    voc("all")
    trainer = AdaPrunerTrainer(config(**{"ADAPRUNER.SOLVE_AT_END": True}))
    with pytest.raises(
        ValueError, match="BrightnessModel has no backbone.* To do without: ADAPRUNER.SOLVE_AT_END False"
    ):
        trainer.train()
    assert trainer.iter == 0


def test_what_is_refused_before_training_is_not_done_after_it(voc, config):  # noqa: F811
    """A finished run resumed with an option that its model does not allow."""
    voc("all")
    train(config())
    with pytest.raises(ValueError, match="To do without: ADAPRUNER.SOLVE_AT_END False"):
        train(config(**{"ADAPRUNER.SOLVE_AT_END": True}), resume=True)


def test_a_record_without_its_size_is_refused_before_training(voc, config):  # noqa: F811
    voc("all")
    trainer = AdaPrunerTrainer(config(**{**YOLO, "ADAPRUNER.SOLVE_AT_END": True}))
    hook = next(hook for hook in trainer._hooks if isinstance(hook, AdaPrunerHook))
    name = hook.competing[3]["file_name"]
    del hook.competing[3]["height"]
    with pytest.raises(ValueError, match=f"{name} has no height .*. To do without: ADAPRUNER.SOLVE_AT_END False"):
        trainer.train()
    assert trainer.iter == 0


@pytest.mark.parametrize("overrides, message", [
    ({"ADAPRUNER.REDUNDANCY": -1.0}, "ADAPRUNER: redundancy is a weight of at least 0 .off.; got -1.0"),
    ({"ADAPRUNER.CLASS_BALANCE": 11.0}, "class_balance is a power from 0 .off. to 10; got 11.0"),
    ({"ADAPRUNER.SOLVE_AT_END": True, "ADAPRUNER.MASK.RATIO_CONTROL": "penalty"}, "add ADAPRUNER.SOLVE_AT_END False"),
    ({"ADAPRUNER.MASK.LR": 0.0}, "learning_rate is a number above 0"),
    ({"ADAPRUNER.MASK.LOSS_SCALE": "median"}, "'median'; it can be 'mean' or 'none' or 'expected'"),
])  # fmt: skip
def test_settings_that_cannot_work_are_refused_before_training(voc, config, overrides, message):  # noqa: F811
    voc("all")
    with pytest.raises(ValueError, match=message):
        AdaPrunerTrainer(config(**overrides))


def options_of(cfg):
    return cfg.ADAPRUNER.MASK.RATIO_CONTROL, cfg.ADAPRUNER.MASK.LOSS_SCALE


def test_a_preset_stands_below_all_that_is_set_explicitly(tmp_path):
    base, file = tmp_path / "base.yaml", tmp_path / "config.yaml"
    base.write_text("ADAPRUNER:\n  MASK: {LOSS_SCALE: mean, ALPHA_END: 7.0}\n")
    file.write_text("_BASE_: base.yaml\nADAPRUNER:\n  PRESET: paper\n")
    assert options_of(load_config()) == ("projection", "expected")
    assert options_of(load_config(opts=["ADAPRUNER.PRESET", "paper"])) == ("penalty", "none")
    cfg = load_config(str(file))
    assert options_of(cfg) == ("penalty", "mean") and cfg.ADAPRUNER.MASK.ALPHA_END == 7.0
    first = ["ADAPRUNER.MASK.RATIO_CONTROL", "projection", "ADAPRUNER.PRESET", "paper"]
    assert options_of(load_config(opts=first)) == ("projection", "none")
    assert options_of(load_config(str(file), opts=["ADAPRUNER.PRESET", "''"])) == ("projection", "mean")
    with pytest.raises(ValueError, match="PRESET is 'papers'; it can be 'classification', 'paper'"):
        load_config(opts=["ADAPRUNER.PRESET", "papers"])


@pytest.mark.parametrize("key", RENAMED_OR_GONE)
def test_a_key_that_is_gone_is_answered_by_what_to_do(tmp_path, key):
    base, file = tmp_path / "base.yaml", tmp_path / "config.yaml"
    nested = 1
    for node in reversed(key.split(".")):
        nested = {node: nested}
    base.write_text(json.dumps(nested))  # JSON is YAML
    file.write_text("_BASE_: base.yaml\n")
    advice = re.escape(f"{key}, which is gone: {RENAMED_OR_GONE[key]}")
    with pytest.raises(KeyError, match=f"{re.escape(str(file))} sets {advice}"):
        load_config(str(file))
    with pytest.raises(KeyError, match=f"the command line sets {advice}"):
        load_config(opts=[key, "1"])


@pytest.mark.parametrize("key", ["ADAPRUNER.CLASS_BALANCES", "ADAPRUNER.CLASS"])
def test_other_keys_that_are_not_there_get_detectron2_s_answer(key):
    with pytest.raises(AssertionError, match=f"Non-existent key: {key}"):
        load_config(opts=[key, "1"])


def test_classification_has_a_preset_that_the_command_line_can_replace():
    cfg = load_config("configs/Base-Classification-Small.yaml")
    assert (cfg.ADAPRUNER.MASK.LOSS_SCALE, cfg.ADAPRUNER.MASK.SELECTION_WEIGHT) == ("mean", 1.0)
    cfg = load_config("configs/Base-Classification-Small.yaml", opts=["ADAPRUNER.PRESET", "paper"])
    assert options_of(cfg) == ("penalty", "none") and not cfg.ADAPRUNER.SOLVE_AT_END


def test_presets_name_keys_that_are_there():
    cfg = get_cfg()
    add_adapruner_config(cfg)
    for preset in PRESETS.values():
        for key, value in preset.items():
            node = cfg.ADAPRUNER
            *parents, name = key.split(".")
            for parent in parents:
                node = node[parent]
            assert type(node[name]) is type(value)


def test_a_run_is_not_known_by_the_name_of_its_preset():
    named = load_config(opts=["ADAPRUNER.PRESET", "paper"])
    assert "PRESET" not in without_preset(named).ADAPRUNER and named.ADAPRUNER.PRESET == "paper"


def test_a_picture_has_one_object_of_its_class(clean_catalogs):
    MetadataCatalog.get("pictures").thing_classes = ["a", "b", "c"]
    records = [{"dataset_name": "pictures", "category_id": label} for label in (2, 0)]
    assert ClassificationTask.class_counts(records).tolist() == [[0, 0, 1], [1, 0, 0]]
