"""Options of pruning, in the trainer."""
import re

import numpy as np
import pytest
import torch
from detectron2.config import get_cfg
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.utils.env import seed_all_rng
from test_trainer import IDS, YOLO, StopAt, config, kept, known_loss, scores, train, voc  # noqa: F401

from adapruner_det.classification.task import ClassificationTask
from adapruner_det.data.rarest_class import rarity
from adapruner_det.data.records import checked_records, drawn_lots
from adapruner_det.detection.task import DetectionTask
from adapruner_det.engine import AdaPrunerTrainer, add_adapruner_config, load_config
from adapruner_det.engine.config import PRESETS, RENAMED_OR_GONE, without_options_off
from adapruner_det.engine.hooks import AdaPrunerHook
from adapruner_det.pruning import Selection
from adapruner_det.pruning.redundancy import Comparison, discounted_scores
from adapruner_det.scoring.selecting import cut_as_made

EACH = {
    "expected": {"ADAPRUNER.LOSS_SCALE": "expected"},
    "terms": {"ADAPRUNER.LOSS_TERMS": ("loss_obj", "loss_cls")},
    "redundancy": {"ADAPRUNER.REDUNDANCY": 0.5},
    "selection weight": {"ADAPRUNER.SELECTION_WEIGHT": 0.3},
    "last look": {"ADAPRUNER.LAST_LOOK": True, "ADAPRUNER.LOSS_SCALE": "expected"},
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


def test_only_the_terms_named_speak_to_the_mask_and_all_train_the_model(voc, config):  # noqa: F811
    voc("all")
    data, losses, _, told, _ = one_step(AdaPrunerTrainer(config(**{"ADAPRUNER.LOSS_TERMS": ("loss_b",)})))
    known = torch.stack([known_loss(record["image"]) for record in data])
    torch.testing.assert_close(told, 0.75 * known)
    assert sum(losses.values()).item() == pytest.approx(known.mean().item(), rel=1e-5)
    _, _, _, told, _ = one_step(AdaPrunerTrainer(config()))
    torch.testing.assert_close(told, known)


def test_terms_that_the_model_does_not_have_are_refused_with_those_it_has(voc, config):  # noqa: F811
    voc("all")
    trainer = AdaPrunerTrainer(config(**{"ADAPRUNER.LOSS_TERMS": ("loss_b", "loss_box")}))
    with pytest.raises(ValueError, match="names loss_box, but .* BrightnessModel are loss_a, loss_b"):
        trainer.train()


@pytest.mark.parametrize("options", EACH.values(), ids=EACH)
def test_a_resumed_run_ends_with_the_same_scores(voc, config, options):  # noqa: F811
    voc("all")
    options = {**YOLO, **options, "SOLVER.CHECKPOINT_PERIOD": 7}
    whole, parts = config(folder="whole", **options), config(folder="parts", **options)
    train(whole)
    seed_all_rng(parts.SEED)
    interrupted = AdaPrunerTrainer(parts)
    interrupted.resume_or_load(False)
    interrupted.register_hooks([StopAt(8)])
    with pytest.raises(KeyboardInterrupt):
        interrupted.train()
    train(parts, resume=True)
    assert scores(parts) == scores(whole) and len(kept(whole)) == 15


def test_resuming_with_other_terms_is_refused(voc, config):  # noqa: F811
    voc("all")
    train(config(**{"SOLVER.MAX_ITER": 12, "ADAPRUNER.WARMUP": 0.25}))
    with pytest.raises(ValueError, match=r"LOSS_TERMS was \[\] .* is \['loss_a'\]"):
        train(config(**{"ADAPRUNER.LOSS_TERMS": ("loss_a",)}), resume=True)


def of_one_class(records):
    return torch.zeros(len(records), dtype=torch.long)


def test_of_images_that_look_alike_to_the_model_one_is_kept(voc, config, monkeypatch):  # noqa: F811
    """Four images, dear to the mask by their losses, are one and the same to the model: the one with the best lot stays."""
    voc("all")
    compare = {"ADAPRUNER.REDUNDANCY": 50.0, "ADAPRUNER.OUTLIER_Z": 0.0, "ADAPRUNER.RARE_CLASSES": 0.0}
    plain, compared = config(folder="plain"), config(**compare)
    train(plain)
    best = [i for i in sorted(kept(plain), key=scores(plain).get, reverse=True)][:4]
    places = [IDS.index(i) for i in best]

    def features(cfg, model, records):
        assert not isinstance(model, torch.nn.parallel.DistributedDataParallel)
        found = np.random.default_rng(0).normal(size=(len(IDS), 8)).astype(np.float32)
        found[places] = found[places[0]]
        return found[: len(records)]

    monkeypatch.setattr("adapruner_det.detection.task.features_of", features)
    monkeypatch.setattr(DetectionTask, "groups", staticmethod(of_one_class))
    train(compared)
    selection = Selection.load(compared.OUTPUT_DIR + "/selection")
    lots = drawn_lots(checked_records("data", DatasetCatalog.get("data")), compared.SEED, np.ones(len(IDS)))
    staying = max(best, key=lambda image_id: lots[IDS.index(image_id)])
    assert kept(compared) & set(best) == {staying} and len(kept(compared)) == 15
    assert selection.cut(0.75).kept == selection.kept
    assert selection.cut(0.85).kept_ids("data") == set(IDS) - (set(best) - {staying})
    logits = dict(zip(selection.ids, selection.columns["mask_logit"]))
    assert logits == scores(plain)


def test_cut_at_its_ratio_a_selection_is_what_it_was(voc, config, monkeypatch):  # noqa: F811
    """Whether by the mask or next to their neighbours."""
    voc("all")
    features = np.random.default_rng(0).normal(size=(len(IDS), 8)).astype(np.float32)
    monkeypatch.setattr("adapruner_det.detection.task.features_of", lambda cfg, model, records: features[: len(records)])
    for strength in (0.0, 0.7):
        cfg = config(folder=str(strength), **{"ADAPRUNER.REDUNDANCY": strength})
        train(cfg)
        selection = Selection.load(cfg.OUTPUT_DIR + "/selection")
        assert cut_as_made(selection, 0.75).kept == selection.kept


def test_scores_are_those_of_the_settings_asked_for(voc, config, monkeypatch):  # noqa: F811
    voc("all")
    features = np.random.default_rng(0).normal(size=(len(IDS), 8)).astype(np.float32)
    monkeypatch.setattr("adapruner_det.detection.task.features_of", lambda cfg, model, records: features[: len(records)])
    monkeypatch.setattr(DetectionTask, "groups", staticmethod(of_one_class))
    asked_for = {"REDUNDANCY": 0.5, "OUTLIER_Z": 0.5, "CHANCE": 0.2, "RARE_CLASSES": 0.7}
    cfg = config(**{f"ADAPRUNER.{key}": value for key, value in asked_for.items()}, SEED=5)
    train(cfg)
    selection = Selection.load(cfg.OUTPUT_DIR + "/selection")
    logits = np.array(selection.columns["mask_logit"])
    settings = dict(strength=0.5, outlier_z=0.5, chance=0.2)
    changes = ({}, {"strength": 0.1}, {"outlier_z": 0.0}, {"chance": 0.0})
    records = checked_records("data", DatasetCatalog.get("data"))
    counts = DetectionTask.class_counts(records).numpy()
    lots = [drawn_lots(records, seed, rarity(counts, power)) for seed, power in ((5, 0.7), (5, 0.0), (6, 0.7))]
    asked, *others = (
        discounted_scores(logits, 15, features, Comparison(**{**settings, **change}), None, own).tolist()
        for change in changes
        for own in lots
    )
    assert selection.scores == asked and asked not in others


def test_the_last_look_is_what_the_mask_goes_by(voc, config, monkeypatch):  # noqa: F811
    """Of all terms that move the mask, in the order of the images; the easiest stay."""
    voc("all")
    looked_at = []

    def losses(cfg, model, records):
        looked_at.append(len(records))
        worth = torch.tensor([float(IDS.index(record["image_id"])) for record in records])
        return {"loss_a": 1 + worth, "loss_b": torch.zeros(len(records))}, np.zeros((len(records), 3), np.float32)

    monkeypatch.setattr("adapruner_det.detection.task.losses_and_features_of", losses)
    cfg = config(**{"ADAPRUNER.LAST_LOOK": True, "ADAPRUNER.SELECTION_LOSS": False})
    train(cfg)
    assert looked_at == [1, len(IDS)]
    assert kept(cfg) == set(IDS[:15])
    columns = Selection.load(cfg.OUTPUT_DIR + "/selection").columns
    assert columns["final_loss"] == [1.0 + n for n in range(len(IDS))]


def test_an_image_whose_last_loss_is_not_finite_is_named_and_the_visits_are_there(
    voc, config, monkeypatch  # noqa: F811
):
    voc("all")

    def losses(cfg, model, records):
        worth = torch.tensor([float("nan") if record["image_id"] == IDS[3] else 1.0 for record in records])
        return {"loss": worth}, np.zeros((len(records), 3), np.float32)

    monkeypatch.setattr("adapruner_det.detection.task.losses_and_features_of", losses)
    way_out = rf"data {IDS[3]}\). To go by what the visits said: --resume with ADAPRUNER.LAST_LOOK False"
    with pytest.raises(FloatingPointError, match=way_out):
        train(config(**{"ADAPRUNER.LAST_LOOK": True}))
    resumed, plain = config(), config(folder="plain")
    train(resumed, resume=True)
    train(plain)
    assert scores(resumed) == scores(plain)


@pytest.mark.parametrize("overrides, way_out", [
    ({"ADAPRUNER.LAST_LOOK": True}, "ADAPRUNER.LAST_LOOK False"),
    ({"ADAPRUNER.REDUNDANCY": 1.0}, "ADAPRUNER.REDUNDANCY 0"),
    ({"ADAPRUNER.LAST_LOOK": True, "ADAPRUNER.REDUNDANCY": 1.0}, "ADAPRUNER.REDUNDANCY 0 ADAPRUNER.LAST_LOOK False"),
])  # fmt: skip
def test_a_model_that_cannot_be_looked_at_is_refused_before_training(voc, config, overrides, way_out):  # noqa: F811
    voc("all")
    trainer = AdaPrunerTrainer(config(**overrides))
    with pytest.raises(ValueError, match=f"BrightnessModel has no backbone.* To do without: {way_out}$"):
        trainer.train()
    assert trainer.iter == 0


def test_what_is_refused_before_training_is_not_done_after_it(voc, config):  # noqa: F811
    """A finished run resumed with an option that its model does not allow."""
    voc("all")
    train(config())
    with pytest.raises(ValueError, match="To do without: ADAPRUNER.LAST_LOOK False$"):
        train(config(**{"ADAPRUNER.LAST_LOOK": True}), resume=True)


def test_a_record_without_its_size_is_refused_before_training(voc, config):  # noqa: F811
    voc("all")
    trainer = AdaPrunerTrainer(config(**{**YOLO, "ADAPRUNER.LAST_LOOK": True}))
    hook = next(hook for hook in trainer._hooks if isinstance(hook, AdaPrunerHook))
    name = hook.competing[3]["file_name"]
    del hook.competing[3]["height"]
    with pytest.raises(ValueError, match=f"{name} has no height .*. To do without: ADAPRUNER.LAST_LOOK False$"):
        trainer.train()
    assert trainer.iter == 0


@pytest.mark.parametrize("overrides, message", [
    ({"ADAPRUNER.REDUNDANCY": -1.0}, "REDUNDANCY is -1.0"),
    ({"ADAPRUNER.OUTLIER_Z": -1.0}, "OUTLIER_Z is -1.0; it is a number of standard deviations, at least 0"),
    ({"ADAPRUNER.CHANCE": -0.1}, "CHANCE is -0.1; it is at least 0"),
    ({"ADAPRUNER.RARE_CLASSES": -1.0}, "RARE_CLASSES is -1.0; it is a power, from 0 .* to 10"),
    ({"ADAPRUNER.MASK_LR": 0.0}, "learning_rate is a number above 0"),
    ({"ADAPRUNER.LAST_LOOK": True, "ADAPRUNER.RATIO_CONTROL": "penalty"}, "add ADAPRUNER.LAST_LOOK False,"),
    ({"ADAPRUNER.LOSS_SCALE": "median"}, "'median'; it can be 'mean' or 'none' or 'expected'$"),
])  # fmt: skip
def test_settings_that_cannot_work_are_refused_before_training(voc, config, overrides, message):  # noqa: F811
    voc("all")
    with pytest.raises(ValueError, match=message):
        AdaPrunerTrainer(config(**overrides))


def options_of(cfg):
    return cfg.ADAPRUNER.RATIO_CONTROL, cfg.ADAPRUNER.LOSS_SCALE


def test_a_preset_stands_below_all_that_is_set_explicitly(tmp_path):
    base, file = tmp_path / "base.yaml", tmp_path / "config.yaml"
    base.write_text("ADAPRUNER:\n  LOSS_SCALE: mean\n  ALPHA_END: 7.0\n")
    file.write_text("_BASE_: base.yaml\nADAPRUNER:\n  PRESET: paper\n")
    assert options_of(load_config()) == ("projection", "expected")
    assert options_of(load_config(opts=["ADAPRUNER.PRESET", "paper"])) == ("penalty", "none")
    cfg = load_config(str(file))
    assert options_of(cfg) == ("penalty", "mean") and cfg.ADAPRUNER.ALPHA_END == 7.0
    first = ["ADAPRUNER.RATIO_CONTROL", "projection", "ADAPRUNER.PRESET", "paper"]
    assert options_of(load_config(opts=first)) == ("projection", "none")
    assert options_of(load_config(str(file), opts=["ADAPRUNER.PRESET", "''"])) == ("projection", "mean")
    with pytest.raises(ValueError, match="PRESET is 'papers'; it can be 'classification', 'paper'"):
        load_config(opts=["ADAPRUNER.PRESET", "papers"])


@pytest.mark.parametrize("key", RENAMED_OR_GONE)
def test_a_key_that_is_gone_is_answered_by_what_to_do(tmp_path, key):
    base, file = tmp_path / "base.yaml", tmp_path / "config.yaml"
    section, name = key.split(".")
    base.write_text(f"{section}:\n  {name}: 1\n")
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
    assert (cfg.ADAPRUNER.LAST_LOOK, cfg.ADAPRUNER.REDUNDANCY) == (False, 0.0)
    assert (cfg.ADAPRUNER.LOSS_SCALE, cfg.ADAPRUNER.SELECTION_WEIGHT) == ("mean", 1.0)
    cfg = load_config("configs/Base-Classification-Small.yaml", opts=["ADAPRUNER.PRESET", "paper"])
    assert options_of(cfg) == ("penalty", "none")


def test_presets_name_keys_that_are_there():
    cfg = get_cfg()
    add_adapruner_config(cfg)
    for preset in PRESETS.values():
        assert all(type(cfg.ADAPRUNER[key]) is type(value) for key, value in preset.items())


def test_what_is_off_leaves_no_trace_in_what_a_run_is_known_by():
    def left_out(*settings):
        cfg = load_config(opts=[f"ADAPRUNER.{text}" if text.isupper() else text for text in settings])
        names = set(cfg.ADAPRUNER)
        known_by = without_options_off(cfg).ADAPRUNER
        assert set(cfg.ADAPRUNER) == names
        return names - set(known_by)

    off = {"PRESET", "LOSS_TERMS"}
    assert left_out() == off
    assert left_out("SELECTION_WEIGHT", "1", "LAST_LOOK", "False") == off | {"SELECTION_WEIGHT", "LAST_LOOK"}
    # Without lots or outliers the rest of comparing is still another than it was before they came.
    assert left_out("OUTLIER_Z", "0", "CHANCE", "0", "RARE_CLASSES", "0") == off
    assert left_out("REDUNDANCY", "0") == off | {"REDUNDANCY", "OUTLIER_Z", "CHANCE", "RARE_CLASSES"}


def test_a_picture_has_one_object_of_its_class(clean_catalogs):
    MetadataCatalog.get("pictures").thing_classes = ["a", "b", "c"]
    records = [{"dataset_name": "pictures", "category_id": label} for label in (2, 0)]
    assert ClassificationTask.class_counts(records).tolist() == [[0, 0, 1], [1, 0, 0]]
