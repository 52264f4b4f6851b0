"""The trainer on data small enough to know each image's loss, and with a real detector."""

import json
import os
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
import torch
from conftest import ROOT, write_voc_folder, write_voc_image
from detectron2.data import DatasetCatalog, DatasetMapper, MetadataCatalog
from detectron2.modeling import META_ARCH_REGISTRY
from detectron2.utils.env import seed_all_rng
from proxy_runs import StopAt
from torch import nn

from adapruner_det.data.formats import register_voc
from adapruner_det.data.mapper import QuickMapper
from adapruner_det.data.voc import InvalidDatasetError
from adapruner_det.engine import AdaPrunerTrainer, load_config, precision
from adapruner_det.engine import detection as task_module
from adapruner_det.engine.config import PRESETS
from adapruner_det.engine.detection import DetectionTask
from adapruner_det.engine.hooks import AdaPrunerHook
from adapruner_det.engine.stopping import Stopped
from adapruner_det.pruning import Selection

IDS = [f"img{i:02d}" for i in range(20)]


@META_ARCH_REGISTRY.register()
class BrightnessModel(nn.Module):
    """Its loss on an image is a known function of the image's brightness, whatever it has learnt."""

    def __init__(self, cfg):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))
        self.per_image_losses = False

    def forward(self, batched_inputs):
        losses = torch.stack([known_loss(record["image"]) for record in batched_inputs])
        losses = losses + 0 * self.weight
        return (
            {"loss_a": 0.25 * losses, "loss_b": 0.75 * losses}
            if self.per_image_losses
            else {"loss_a": 0.25 * losses.mean(), "loss_b": 0.75 * losses.mean()}
        )


def known_loss(image):
    """exp of the brightness, so that all images differ clearly: (3, H, W) uint8 -> scalar."""
    return torch.exp(image.float().mean() / 50)


@pytest.fixture
def voc(tmp_path):
    """A registered VOC folder of 20 images, as a factory of differently ordered lists."""
    folder = write_voc_folder(tmp_path / "voc", {"all": IDS, "backwards": IDS[::-1], "few": IDS[:4]}, empty=IDS[3:5])

    def forget():
        if "data" in DatasetCatalog:
            DatasetCatalog.remove("data")
            MetadataCatalog.remove("data")

    def register(split):
        forget()
        register_voc("data", str(folder), split)
        return "data"

    yield register
    forget()


@pytest.fixture
def config(tmp_path):
    """Makes configs: of BrightnessModel, or of the detector of a file of configs/."""

    def make(base="", folder="out", **overrides):
        settings = {
            "SEED": 1,
            "MODEL.DEVICE": "cpu",
            "MODEL.YOLO.NUM_CLASSES": 2,
            "MODEL.RETINANET.NUM_CLASSES": 2,
            "MODEL.ROI_HEADS.NUM_CLASSES": 2,
            "DATASETS.TRAIN": ("data",),
            "DATASETS.TEST": (),
            "DATALOADER.NUM_WORKERS": 0,
            "DATALOADER.ASPECT_RATIO_GROUPING": False,
            "INPUT.MIN_SIZE_TRAIN": (48,),
            "INPUT.MIN_SIZE_TEST": 48,
            "SOLVER.AMP.ENABLED": False,
            "SOLVER.CLIP_GRADIENTS.ENABLED": False,  # a norm's last bits are not the same in every run
            "SOLVER.IMS_PER_BATCH": 6,
            "SOLVER.BASE_LR": 0.01,
            "SOLVER.MAX_ITER": 40,
            "ADAPRUNER.ENABLED": True,
            "ADAPRUNER.KEEP_RATIO": 0.75,
            "ADAPRUNER.MASK.LR": 3.0,
            "ADAPRUNER.EMPTY_IMAGES": "prune",
            # The loss of each image alone decides, as BrightnessModel has no features.
            "ADAPRUNER.MASK.LOSS_SCALE": "mean",
            "ADAPRUNER.MASK.SELECTION_WEIGHT": 1.0,
            "ADAPRUNER.SOLVE_AT_END": False,
            "OUTPUT_DIR": str(tmp_path / folder),
            **({} if base else {"MODEL.META_ARCHITECTURE": "BrightnessModel", "MODEL.WEIGHTS": ""}),
            **overrides,
        }
        cfg = load_config(str(ROOT / "configs" / base) if base else "")
        cfg.merge_from_list([item for pair in settings.items() for item in pair])
        (tmp_path / folder).mkdir(exist_ok=True)
        return cfg

    return make


YOLO = {"base": "Base-YOLOv3-Tiny-R18.yaml", "SOLVER.MAX_ITER": 12, "ADAPRUNER.WARMUP": 0.25}
RETINANET = {
    **YOLO,
    "MODEL.META_ARCHITECTURE": "RetinaNet",
    "MODEL.BACKBONE.NAME": "build_retinanet_resnet_fpn_backbone",
    "MODEL.FPN.IN_FEATURES": ["res4", "res5"],
    "MODEL.FPN.OUT_CHANNELS": 32,
    "MODEL.RETINANET.IN_FEATURES": ["p4", "p5", "p6", "p7"],
    "MODEL.RETINANET.NUM_CONVS": 1,
    "MODEL.ANCHOR_GENERATOR.SIZES": [[16], [32], [64], [128]],
}
FASTER_RCNN = {**YOLO, "base": "Base-Faster-RCNN-FPN-R18.yaml"}


def train(cfg, resume=False):
    seed_all_rng(cfg.SEED)  # as default_setup does
    trainer = AdaPrunerTrainer(cfg)
    trainer.resume_or_load(resume)
    trainer.train()
    return trainer


def scores(cfg):
    selection = Selection.load(cfg.OUTPUT_DIR + "/selection")
    return dict(zip(selection.ids, selection.scores))


def kept(cfg):
    return Selection.load(cfg.OUTPUT_DIR + "/selection").kept_ids("data")


def test_a_run_leaves_record_table_list_and_scalars(voc, config, tmp_path):
    cfg = config(**{"DATASETS.TRAIN": (voc("all"),)})
    trainer = train(cfg)
    folder = tmp_path / "out" / "selection"
    selection = Selection.load(folder)
    assert sorted(selection.ids) == IDS and abs(selection.reached_ratio - 0.75) <= 0.025
    assert selection.provenance["seed"] == 1 and "KEEP_RATIO: 0.75" in selection.provenance["config"]
    assert set(selection.provenance) >= {"seconds", "versions", "fingerprints", "classes"}
    assert selection.provenance["classes"][""]["images"] == 2

    assert (folder / "report.html").is_file()
    listed = (folder / "ImageSets/Main/data_adapruner_0.75.txt").read_text().split()
    assert listed == [i for i in IDS if i in kept(cfg)]

    table = pd.read_csv(folder / "images.csv").set_index("id")
    assert (table["visits"] > 0).all() and table["visits"].sum() == 40 * 6
    for record in DatasetCatalog.get("data"):
        image = DatasetMapper(cfg, is_train=False)(record)["image"]
        expected = known_loss(image).item()
        assert table.loc[record["image_id"], "last_loss"] == pytest.approx(expected, rel=0.02)
        assert table.loc[record["image_id"], "mean_loss"] == pytest.approx(expected, rel=0.02)

    lines = [json.loads(line) for line in open(tmp_path / "out" / "metrics.json")]
    for name in ("loss_a", "loss_b", "alpha", "compression_lambda", "kept_ratio",
                 "classification_loss", "selection_loss", "compression_loss"):  # fmt: skip
        assert name in lines[-1], name
    assert lines[-1]["kept_ratio"] == trainer.pruner.kept_ratio == 0.75


def test_a_folder_in_the_selection_s_place_is_reported_before_training(voc, config, tmp_path):
    notes = tmp_path / "out/selection/notes.txt"
    notes.parent.mkdir(parents=True)
    notes.write_text("mine")
    trainer = AdaPrunerTrainer(config(**{"DATASETS.TRAIN": (voc("all"),)}))
    with pytest.raises(FileExistsError, match="selection holds files that are no selection"):
        trainer.train()
    assert trainer.iter == 0 and notes.read_text() == "mine"


def test_neither_order_nor_workers_nor_seed_decide_who_is_pruned(voc, config):
    first = config(**{"DATASETS.TRAIN": (voc("all"),)})
    train(first)
    second = config(folder="second", **{"DATASETS.TRAIN": (voc("backwards"),), "SEED": 7, "DATALOADER.NUM_WORKERS": 2})
    train(second)
    assert kept(first) == kept(second) and len(kept(first)) == 15


def test_an_image_that_the_mapper_replaces_gets_no_others_loss(voc, config, monkeypatch):
    class RefusingMapper(QuickMapper):
        def __call__(self, record):
            return None if record["image_id"] == "img07" else super().__call__(record)

    monkeypatch.setattr(task_module, "QuickMapper", RefusingMapper)
    cfg = config(**{"DATASETS.TRAIN": (voc("all"),)})
    train(cfg)
    selection = Selection.load(cfg.OUTPUT_DIR + "/selection")
    rows = selection.table().set_index("id")
    assert rows.loc["img07", "visits"] == 0 and rows["visits"].sum() == 40 * 6
    by_brightness = rows.drop(index="img07").sort_index()["last_loss"].to_numpy()
    assert (np.diff(by_brightness[[0, 5, 10, 18]]) > 0).all()


# A batch goes into 20 four times, so that each image is seen as often as the others in an epoch.
PAPER = {f"ADAPRUNER.{key}": value for key, value in PRESETS["paper"].items()} | {
    "ADAPRUNER.MASK.LR": 0.1,
    "SOLVER.IMS_PER_BATCH": 5,
}


def train_until(iteration, cfg):
    """A run that is interrupted after this iteration."""
    seed_all_rng(cfg.SEED)
    trainer = AdaPrunerTrainer(cfg)
    trainer.resume_or_load(False)
    trainer.register_hooks([StopAt(iteration)])
    with pytest.raises(KeyboardInterrupt):
        trainer.train()


@pytest.mark.parametrize("options", [
    {**YOLO, "DATALOADER.NUM_WORKERS": 2},
    RETINANET,
    {**YOLO, "ADAPRUNER.MASK.LOSS_SCALE": "expected", "ADAPRUNER.MASK.SELECTION_WEIGHT": 0.3},
    {**YOLO, "ADAPRUNER.SOLVE_AT_END": True, "ADAPRUNER.DIFFICULTY": 0.3},
    {**YOLO, **PAPER},
], ids=["workers", "retinanet", "expected", "solved at the end", "paper"])  # fmt: skip
def test_a_resumed_run_ends_with_the_same_scores(voc, config, options):
    voc("all")
    options = {**options, "SOLVER.CHECKPOINT_PERIOD": 7}
    whole, parts = config(folder="whole", **options), config(folder="parts", **options)
    train(whole)
    train_until(8, parts)
    with pytest.raises(FileNotFoundError):  # a run that did not end well leaves no selection
        Selection.load(parts.OUTPUT_DIR + "/selection")
    parts.DATALOADER.NUM_WORKERS = 0  # the number of workers changes nothing
    train(parts, resume=True)
    assert scores(parts) == scores(whole) and len(kept(parts)) == 15


@pytest.mark.parametrize("name", ["model_0000019.pth", "metrics.json", "selection"])
def test_a_full_disk_ends_a_run_with_the_name_of_the_file_and_it_can_go_on(voc, config, tmp_path, monkeypatch, name):
    settings = {"DATASETS.TRAIN": (voc("all"),), "SOLVER.CHECKPOINT_PERIOD": 10}
    whole, full = config(**settings), config(folder="full", **settings)
    train(whole)
    place = tmp_path / "full" / (name if name == "metrics.json" else f".{name}.{os.getpid()}.tmp")
    if name == "selection":
        monkeypatch.setattr(Selection, "save", lambda selection, folder: Path("/dev/full").write_text("x"))
    else:
        place.symlink_to("/dev/full")
    with pytest.raises(Stopped) as stopped:
        train(full)
    assert stopped.value.code == 1 and stopped.value.done.startswith("error: No space left on device: ")
    what = str(tmp_path / "full") + ("" if name == "metrics.json" else f"/{name}")
    assert stopped.value.done.endswith(f" {what}; what was saved before is sound: make room")
    monkeypatch.undo()
    place.unlink(missing_ok=True)
    train(full, resume=True)
    assert scores(full) == scores(whole)


def test_a_final_checkpoint_that_is_half_there_is_written_again(voc, config):
    voc("all")
    cfg = config(**{"SOLVER.CHECKPOINT_PERIOD": 20})
    train(cfg)
    before, final = scores(cfg), Path(cfg.OUTPUT_DIR) / "model_final.pth"
    os.truncate(final, final.stat().st_size // 2)
    train(cfg, resume=True)  # from model_0000039.pth, where nothing is left to be trained
    assert torch.load(final)["iteration"] == 39 and scores(cfg) == before


def test_resuming_on_the_same_images_in_another_order_is_refused(voc, config):
    voc("all")
    train(config())
    voc("backwards")
    with pytest.raises(ValueError, match="in another order than DATASETS.TRAIN gives now"):
        train(config(), resume=True)


def test_resuming_a_plain_training_as_pruning_is_refused(voc, config):
    voc("all")
    plain = {**YOLO, "ADAPRUNER.ENABLED": False, "SOLVER.MAX_ITER": 2}
    train(config(**plain))
    with pytest.raises(ValueError, match="ADAPRUNER.ENABLED was False, is True"):
        train(config(**YOLO), resume=True)


def test_a_detector_of_detectron2_prunes(voc, config):
    voc("all")
    cfg = config(**FASTER_RCNN)
    trainer = train(cfg)
    assert len(kept(cfg)) == 15
    assert {"loss_rpn_loc", "loss_box_reg"} <= set(trainer.storage.latest())
    rows = Selection.load(cfg.OUTPUT_DIR + "/selection").table()
    assert rows["last_loss"].nunique() == 20


@pytest.mark.parametrize("mode, competing, empty_kept", [("prune", 20, None), ("keep", 18, True), ("drop", 18, False)])
def test_images_without_boxes_go_where_the_config_says(voc, config, mode, competing, empty_kept):
    cfg = config(**{"DATASETS.TRAIN": (voc("all"),), "ADAPRUNER.EMPTY_IMAGES": mode})
    train(cfg)
    selection = Selection.load(cfg.OUTPUT_DIR + "/selection")
    assert len(selection) == 20
    assert sum(score is not None for score in selection.scores) == competing
    if empty_kept is not None:
        assert all((i in kept(cfg)) == empty_kept for i in IDS[3:5])


def test_the_loss_is_weighted_by_the_mask(voc, config):
    voc("all")
    trainer = AdaPrunerTrainer(config(**{"ADAPRUNER.WARMUP": 0.0}))
    trainer.pruner.mask.logits.copy_(torch.linspace(-30, 30, 20))
    step = trainer._trainer
    data = next(step._data_loader_iter)
    weights = torch.sigmoid(0.1 * torch.linspace(-30, 30, 20))
    expected = np.mean([weights[r["image_index"]].item() * known_loss(r["image"]).item() for r in data])
    losses = step.losses(data)
    assert sum(losses.values()).item() == pytest.approx(expected, rel=1e-5)


def test_mixed_precision_runs_on_this_device_and_gives_float32_losses(voc, config, monkeypatch):
    monkeypatch.setattr(precision, "_has_bfloat16", lambda kind: True)
    voc("all")
    trainer = AdaPrunerTrainer(config(**YOLO, **{"SOLVER.AMP.ENABLED": True}))
    seen = []
    hook = trainer.model.head.register_forward_hook(lambda m, i, o: seen.append(o[0].dtype))
    step = trainer._trainer
    losses = step.losses(next(step._data_loader_iter))
    hook.remove()
    assert seen == [torch.bfloat16]
    assert {value.dtype for value in losses.values()} == {torch.float32}
    assert trainer.cfg.SOLVER.AMP.ENABLED


def test_training_on_a_selection_sees_what_it_keeps_and_nothing_else(voc, config):
    pruning = config(**{"DATASETS.TRAIN": (voc("all"),), "ADAPRUNER.EMPTY_IMAGES": "keep"})
    train(pruning)
    assert kept(pruning) >= set(IDS[3:5])  # images without boxes are trained on as well
    cfg = config(
        folder="retrain", **{"ADAPRUNER.ENABLED": False, "DATASETS.SELECTION": pruning.OUTPUT_DIR + "/selection"}
    )
    trainer = AdaPrunerTrainer(cfg)
    batches = [next(trainer._trainer._data_loader_iter) for _ in range(10)]
    assert {record["image_id"] for batch in batches for record in batch} == kept(pruning)


def spoil(model, image_ids):
    """Makes the losses of these images NaN, and the gradients of every batch they are in."""
    sound = model.forward

    def forward(data):
        factors = torch.stack(
            [(0 * model.weight[0]).log() if r["image_id"] in image_ids else torch.ones(()) for r in data]
        )
        return {name: values * (factors - 1 + 1) for name, values in sound(data).items()}

    model.forward = forward


@pytest.mark.parametrize("amp", [False, True])
def test_an_image_without_a_finite_loss_is_named_and_left_out(voc, config, caplog, amp):
    voc("all")
    cfg = config(**{"SOLVER.AMP.ENABLED": amp, "ADAPRUNER.WARMUP": 0.0})
    seed_all_rng(1)
    trainer = AdaPrunerTrainer(cfg)
    spoil(trainer.model, {"img07"})
    weight = trainer.model.weight
    trainer.train()
    assert [r.message.count("img07") for r in caplog.records if "is not finite" in r.message] == [1]
    assert not caplog.text.count("img08") and weight.isfinite().all()
    selection = Selection.load(cfg.OUTPUT_DIR + "/selection")
    assert sum(selection.kept) == 15
    at = selection.ids.index("img07")
    assert [n > 0 for n in selection.columns["non_finite_losses"]] == [i == at for i in range(20)]
    assert selection.columns["last_loss"][at] is None and selection.columns["visits"][at] == 0


def test_a_negative_loss_is_left_out_of_the_step_and_too_many_end_the_run_in_words(voc, config, caplog):
    voc("all")
    trainer = AdaPrunerTrainer(config())
    sound = trainer.model.forward
    trainer.model.forward = lambda data: {
        name: values - 100 * torch.tensor([r["image_id"] in trainer.negative for r in data])
        for name, values in sound(data).items()
    }
    trainer.negative = {"img07"}
    trainer.train()
    assert [r.message.count("img07") for r in caplog.records if "below 0" in r.message] == [1]
    again = AdaPrunerTrainer(config())
    again.model.forward, trainer.negative = trainer.model.forward, set(IDS)
    with pytest.raises(FloatingPointError, match="images have not been finite, or below 0: .*cannot prune"):
        again.train()


def test_too_many_images_without_a_finite_loss_end_the_run_with_their_names(voc, config):
    voc("all")
    trainer = AdaPrunerTrainer(config())
    spoil(trainer.model, IDS)
    with pytest.raises(
        FloatingPointError, match=r"iteration 1: the losses of 1[1-2] of 20 images.*data img\d\d, .*BASE_LR"
    ):
        trainer.train()


@pytest.mark.parametrize("preset", ["", "paper"])
@pytest.mark.parametrize("copied", [["white"], ["white", "black"]])
def test_a_class_of_copies_of_one_picture_is_pruned(tmp_path, voc, config, preset, copied):
    voc("all")
    folder = tmp_path / "voc"
    for place, image_id in enumerate(IDS):
        name = ("white", "black")[place % 2]
        write_voc_image(folder, image_id, [(name, 4, 4, 30, 30)], brightness=128 if name in copied else 60 + 5 * place)
    cfg = config()
    if preset:
        cfg.merge_from_list([part for k, v in PRESETS[preset].items() for part in (f"ADAPRUNER.{k}", v)])
    train(cfg)
    assert len(kept(cfg)) == 15


WEAK = {"RATIO_CONTROL": "penalty", "CLASSIFICATION_LOSS": False, "SELECTION_LOSS": False, "LR": 0.003}


@pytest.mark.parametrize("overrides, message", [
    ({"SOLVER.MAX_ITER": 5}, "20 images once takes 4: raise SOLVER.MAX_ITER to at least 6$"),
    ({"SOLVER.IMS_PER_BATCH": 0}, "SOLVER.IMS_PER_BATCH is 0; it is at least 1"),
    ({"SOLVER.MAX_ITER": 0}, "SOLVER.MAX_ITER is 0: a run that prunes trains"),
    ({"SOLVER.MAX_EPOCHS": 1.4}, "raise SOLVER.MAX_EPOCHS \\(--epochs\\) to at least 1.8$"),
    ({"DATALOADER.SAMPLER_TRAIN": "RandomSubsetTrainingSampler"}, "use TrainingSampler"),
    ({"ADAPRUNER.EMPTY_IMAGES": "maybe"}, "'maybe'; it can be prune, keep, drop"),
    ({"DATASETS.TRAIN": ()}, "DATASETS.TRAIN names no data set"),
    ({"ADAPRUNER.WARMUP": 150.0}, "ADAPRUNER.WARMUP is 150.0; it is a share"),
    ({"ADAPRUNER.KEEP_RATIO": 80.0}, "settings of ADAPRUNER do not work: keep_ratio"),
    ({"ADAPRUNER.KEEP_RATIO": 0.99}, "keep_ratio 0.99 of 20 samples is all of them: use a ratio from 0.05 to 0.95"),
    ({"DATASETS.SELECTION": "some/folder"}, "DATASETS.SELECTION is set"),
    ({"MODEL.MASK_ON": True}, "18 of 20 images have objects without segmentation, such as .*img00"),
    ({"ADAPRUNER.REDUNDANCY": -1.0}, "ADAPRUNER: redundancy is a weight of at least 0 .off. and at most 1e.09; got -1.0"),
    ({"ADAPRUNER.CLASS_BALANCE": 11.0}, "class_balance is a power from 0 .off. to 10; got 11.0"),
    ({"ADAPRUNER.SOLVE_AT_END": True, "ADAPRUNER.MASK.RATIO_CONTROL": "penalty"}, "add ADAPRUNER.SOLVE_AT_END False"),
    ({"MODEL.KEYPOINT_ON": True}, "data set data has none: set MODEL.KEYPOINT_ON False; a selection made by boxes serves"),
    ({"MODEL.LOAD_PROPOSALS": True}, "MODEL.LOAD_PROPOSALS: .*use a config with a proposal generator"),
    ({"ADAPRUNER.MASK.LR": 0.0}, "learning_rate is a number above 0"),
    ({"ADAPRUNER.MASK.LOSS_SCALE": "median"}, "'median'; it can be 'mean' or 'none' or 'expected'"),
    ({f"ADAPRUNER.MASK.{key}": value for key, value in WEAK.items()},
     "do not work: the penalty cannot reach keep_ratio 0.75: no logit can fall"),
])  # fmt: skip
def test_settings_that_cannot_work_are_refused_before_training(voc, config, overrides, message):
    voc("all")
    with pytest.raises(ValueError, match=message):
        AdaPrunerTrainer(config(**overrides))


def test_a_model_that_cannot_be_asked_is_refused_before_training(voc, config):
    voc("all")
    without = "BrightnessModel has no backbone.* If it trains all the same: ADAPRUNER.SOLVE_AT_END False"
    trainer = AdaPrunerTrainer(config(**{"ADAPRUNER.SOLVE_AT_END": True}))
    for refusing in (trainer.check, trainer.train):
        with pytest.raises(ValueError, match=without):
            refusing()
    assert trainer.iter == 0


def test_a_record_without_its_size_is_refused_before_training(voc, config):
    voc("all")
    trainer = AdaPrunerTrainer(config(**{**YOLO, "ADAPRUNER.SOLVE_AT_END": True}))
    hook = next(hook for hook in trainer._hooks if isinstance(hook, AdaPrunerHook))
    name = hook.competing[3]["file_name"]
    del hook.competing[3]["height"]
    with pytest.raises(ValueError, match=f"{name} has no height .* trains all the same: ADAPRUNER.SOLVE_AT_END False"):
        trainer.train()
    assert trainer.iter == 0


def test_the_mask_is_told_how_many_boxes_of_each_class_there_are(voc, config, monkeypatch):
    voc("all")
    trainer = AdaPrunerTrainer(config(**{"ADAPRUNER.MASK.LOSS_SCALE": "expected"}))
    given, step = [], trainer._trainer
    monkeypatch.setattr(step.pruner, "update", lambda *batch: given.append(batch))
    data = next(step._data_loader_iter)
    sum(step.losses(data).values()).backward()
    step.after_backward()
    ((index, _, class_counts, _),) = given
    assert index.tolist() == [record["image_index"] for record in data] and class_counts.shape == (6, 2)
    for record, row in zip(data, class_counts.tolist()):
        classes = record["instances"].gt_classes
        assert row == [int((classes == c).sum()) for c in range(2)]


def test_crowds_are_no_boxes(voc):
    record = {**DatasetCatalog.get(voc("all"))[0], "dataset_name": "data"}
    one = {"category_id": 1, "iscrowd": 0, "bbox": [0, 0, 9, 9], "bbox_mode": 0}
    record["annotations"] = [one, one, {**one, "iscrowd": 1}, {**one, "category_id": 0}]
    assert DetectionTask.labelled([record]).counts.toarray().tolist() == [[1, 2]]


@pytest.mark.parametrize("keep_ratio", [0.5, 0.75, 0.95])
def test_the_paper_s_form_ends_with_a_selection_of_the_ratio_asked_for(voc, config, keep_ratio):
    voc("all")
    cfg = config(**PAPER, **{"ADAPRUNER.KEEP_RATIO": keep_ratio})
    trainer = train(cfg)
    selection = Selection.load(cfg.OUTPUT_DIR + "/selection")
    assert abs(selection.reached_ratio - keep_ratio) <= 0.02 and trainer.pruner.settled_at < 40
    assert selection.scores == trainer.pruner.mask.logits.tolist()
    assert selection.kept == [score > 0 for score in selection.scores]
    losses = selection.columns["last_loss"]  # far above 1, where L outgrows -log L: the highest go
    assert sorted(zip(losses, selection.kept), reverse=True)[round(20 * (1 - keep_ratio)) - 1][1] is False
    assert all(keep for _, keep in sorted(zip(losses, selection.kept))[: round(20 * keep_ratio)])


@pytest.mark.parametrize("tested, found", [(("tested",), 1), ((), 0), (("data",), 0)])
def test_near_copies_between_lists_are_warned_of_once_and_before_training(
    voc, config, tmp_path, caplog, monkeypatch, clean_catalogs, tested, found
):
    voc("all")
    files = [tmp_path / "voc" / "JPEGImages" / f"{own}.jpg" for own in IDS]
    folder = write_voc_folder(tmp_path / "test", {"test": ["mirrored", "new"]})
    for seed, file in enumerate([*files, *(folder / "JPEGImages" / f"{own}.jpg" for own in ("mirrored", "new"))]):
        blocks = np.random.default_rng(7 if file.stem == "mirrored" else seed).integers(0, 256, (12, 16), np.uint8)
        cv2.imwrite(str(file), cv2.resize(blocks, (64, 48))[:, :: -1 if file.stem == "mirrored" else 1])
    register_voc("tested", str(folder), "test")
    warned_of, begin = [], AdaPrunerHook.before_train
    monkeypatch.setattr(
        AdaPrunerHook, "before_train", lambda hook: (warned_of.append("Leaks" in caplog.text), begin(hook))
    )
    monkeypatch.setattr(AdaPrunerTrainer, "test", lambda *_: {})  # this model finds nothing
    train(config(**{"DATASETS.TEST": tested, "SOLVER.MAX_ITER": 12}))
    said = [record.getMessage() for record in caplog.records if "Leaks" in record.getMessage()]
    text = "Leaks: 1 of 2 images that are tested on are near-copies of training images (mirrored of tested = img07 of data)"
    assert warned_of == [bool(found)] and [own.split(":")[:2] for own in said] == [text.split(":")] * found
    table = tmp_path / "out/selection/leaks.csv"
    assert (len(pd.read_csv(table)) if table.exists() else 0) == found


def test_a_broken_test_set_is_reported_before_training(voc, config, tmp_path):
    voc("all")
    folder = write_voc_folder(tmp_path / "test", {"test": ["a", "b"]})
    register_voc("broken_test", str(folder), "test")
    os.truncate(folder / "JPEGImages" / "a.jpg", 400)
    (folder / "JPEGImages" / "b.jpg").unlink()
    try:
        with pytest.raises(InvalidDatasetError, match="(?s)a.jpg: not readable as an image.*JPEGImages.b: no image"):
            AdaPrunerTrainer(config(**{"DATASETS.TEST": ("broken_test",)}))
    finally:
        DatasetCatalog.remove("broken_test")
        MetadataCatalog.remove("broken_test")
