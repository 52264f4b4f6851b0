import json

import numpy as np
import pytest
import torch
from detectron2.config import get_cfg
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.evaluation import inference_on_dataset
from detectron2.modeling import build_model
from detectron2.utils import comm

from adapruner_det.data.image_batches import labels_of
from adapruner_det.data.sampling import ResumableSampler
from adapruner_det.engine.classification import ClassificationTask as task
from adapruner_det.engine.classification_config import add_classification_config
from adapruner_det.engine.classification_statistics import last_layer_of
from adapruner_det.modeling.per_image import return_per_image_losses
from adapruner_det.report.features import embed_dataset

CLASSES = ["dark", "middle", "bright"]
NUMBER = 30


def _records(number=NUMBER, size=16):
    rng = np.random.default_rng(0)
    return [
        {
            "image_id": f"i{i}",
            "category_id": i % 3,
            "image": rng.integers(80 * (i % 3), 80 * (i % 3) + 80, (size, size, 3), dtype=np.uint8),
        }
        for i in range(number)
    ]


@pytest.fixture
def name(request):
    name = f"task_{request.node.name}"
    DatasetCatalog.register(name, _records)
    MetadataCatalog.get(name).set(thing_classes=CLASSES, evaluator_type="classification")
    yield name
    DatasetCatalog.remove(name)
    MetadataCatalog.remove(name)


@pytest.fixture
def cfg(name, tmp_path):
    cfg = get_cfg()
    add_classification_config(cfg)
    cfg.DATASETS.SELECTION = ""
    cfg.DATASETS.TRAIN, cfg.DATASETS.TEST = (name,), (name,)
    cfg.MODEL.META_ARCHITECTURE = "ImageClassifier"
    cfg.MODEL.CLASSIFIER.NAME = "small_resnet"
    cfg.MODEL.CLASSIFIER.NUM_CLASSES = 3
    cfg.MODEL.DEVICE = "cpu"
    cfg.INPUT.IMAGE_SIZE = 16
    cfg.SOLVER.IMS_PER_BATCH = 10
    cfg.SEED = 1
    cfg.OUTPUT_DIR = str(tmp_path)
    return cfg


def test_losses_are_cross_entropies_of_a_model_in_evaluation_mode(cfg, name):
    model, records = build_model(cfg), task.load_dataset(cfg, name)
    task.adapt_model(model, records)
    model.train()
    statistics = task.statistics(cfg, model, records)
    (found,) = map(torch.from_numpy, statistics.losses.values())
    assert model.training and found.shape == (NUMBER,)
    np.testing.assert_array_equal(statistics.features, last_layer_of(cfg, model, records)[0])
    model.eval()
    with torch.no_grad():
        images = torch.stack([torch.as_tensor(r["image"].transpose(2, 0, 1)) for r in records])
        labels = torch.tensor([r["category_id"] for r in records])
        logits = model.head(model.embed({"images": images, "labels": labels}))
    expected = torch.nn.functional.cross_entropy(logits, labels, reduction="none")
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    assert statistics.labels.classes.tolist() == labels.tolist()
    assert statistics.found.classes.tolist() == logits.argmax(1).tolist()
    np.testing.assert_allclose(statistics.found.scores, logits.softmax(1).amax(1), rtol=1e-4)
    assert statistics.counts.argmax(1).tolist() == labels.tolist()


def test_one_of_two_processes_can_look_at_all_images_it_is_given(cfg, name, monkeypatch):
    model, records = build_model(cfg), task.load_dataset(cfg, name)
    task.adapt_model(model, records)
    alone = task.statistics(cfg, model, records)
    monkeypatch.setattr(comm, "get_world_size", lambda: 2)
    monkeypatch.setattr(comm, "get_rank", lambda: 1)
    by_one_of_two = task.statistics(cfg, model, records)
    np.testing.assert_allclose(by_one_of_two.loss, alone.loss)
    np.testing.assert_array_equal(by_one_of_two.features, alone.features)


def _loader(cfg, records):
    return task.train_loader(cfg, records, ResumableSampler(len(records), seed=cfg.SEED))


def test_load_dataset(cfg, name):
    records = task.load_dataset(cfg, name)
    assert [record["image_id"] for record in records] == [f"i{i}" for i in range(NUMBER)]
    assert {record["dataset_name"] for record in records} == {name}


def test_a_data_set_that_is_none_of_classification_is_refused(cfg, name):
    MetadataCatalog.get(name).evaluator_type = "classification"
    with pytest.raises(ValueError, match="voc_2007_val is not registered for classification.*images:PATH"):
        task.load_dataset(cfg, "voc_2007_val")
    with pytest.raises(ValueError, match="nowhere is not registered for classification"):
        task.load_dataset(cfg, "nowhere")


def test_every_image_competes_and_is_trained_on(cfg):
    records = task.load_records(cfg)
    assert task.split_competing(cfg, records) == (records, [])
    assert task.split_trainable(cfg, records) == (records, [])
    assert labels_of(records).tolist() == [i % 3 for i in range(NUMBER)]


def test_label_noise_has_a_seed_of_its_own(cfg, name):
    clean = labels_of(task.load_records(cfg))
    cfg.CLASSIFICATION.LABEL_NOISE = 0.2
    noisy = labels_of(task.load_records(cfg))
    assert (noisy != clean).sum() == 6
    cfg.SEED = 2
    assert torch.equal(labels_of(task.load_records(cfg)), noisy)
    cfg.CLASSIFICATION.LABEL_NOISE_SEED = 1
    assert not torch.equal(labels_of(task.load_records(cfg)), noisy)
    assert torch.equal(torch.cat([batch["labels"] for batch in task.test_loader(cfg, name)]), clean)


def test_training_batches(cfg):
    records = task.load_records(cfg)
    batch = next(iter(_loader(cfg, records)))
    index = task.image_indices(batch)
    assert batch["images"].shape == (10, 3, 16, 16)
    assert index.unique().numel() == 10
    assert torch.equal(batch["labels"], labels_of(records)[index])


@pytest.mark.parametrize("key, off", [("CROP_PADDING", 0), ("CUTOUT", 0), ("RANDOM_FLIP", "none")])
def test_augmentation_is_as_configured(cfg, key, off):
    cfg.INPUT.CROP_PADDING, cfg.INPUT.CUTOUT, cfg.INPUT.RANDOM_FLIP = 0, 0, "none"
    records = task.load_records(cfg)

    def changed():
        batch = next(iter(_loader(cfg, records)))
        originals = np.stack([records[i]["image"] for i in batch["image_index"].tolist()])
        return (batch["images"].permute(0, 2, 3, 1).numpy() != originals).any()

    assert not changed()
    cfg.INPUT[key] = {"CROP_PADDING": 2, "CUTOUT": 4, "RANDOM_FLIP": "horizontal"}[key]
    assert changed()
    cfg.INPUT[key] = off
    assert not changed()


@pytest.mark.parametrize("key, value", [("CROP_PADDING", -1), ("CUTOUT", 17), ("RANDOM_FLIP", "vertical")])
def test_augmentation_that_cannot_be_is_refused(cfg, key, value):
    cfg.INPUT[key] = value
    with pytest.raises(ValueError, match=f"INPUT.{key} is '?{value}"):
        _loader(cfg, task.load_records(cfg))


def test_the_model_gets_the_statistics_of_its_training_images(cfg):
    records, model = task.load_records(cfg), build_model(cfg)
    task.adapt_model(model, records)
    pixels = np.stack([record["image"] for record in records]).reshape(-1, 3).astype(float)
    assert np.allclose(model.pixel_mean.numpy(), pixels.mean(0), atol=1e-3)
    assert np.allclose(model.pixel_std.numpy(), pixels.std(0), atol=1e-3)


def test_statistics_of_many_images_come_from_some_of_all(cfg, monkeypatch):
    monkeypatch.setattr("adapruner_det.engine.classification._STATISTICS_IMAGES", 4)
    records, model = task.load_records(cfg), build_model(cfg)
    task.adapt_model(model, records)
    some = np.stack([records[i]["image"] for i in (0, 10, 19, 29)]).reshape(-1, 3).astype(float)
    assert np.allclose(model.pixel_mean.numpy(), some.mean(0), atol=1e-3)


def test_pretrained_weights_keep_their_statistics(cfg):
    model = build_model(cfg)
    model.has_pixel_statistics = True
    before = model.pixel_mean.clone()
    task.adapt_model(model, task.load_records(cfg))
    assert torch.equal(model.pixel_mean, before)


def test_per_image_losses(cfg):
    records, model = task.load_records(cfg), build_model(cfg)
    return_per_image_losses(model)
    assert model(next(iter(_loader(cfg, records))))["loss_cls"].shape == (10,)


def test_evaluation_from_end_to_end(cfg, name, tmp_path):
    """Trains on brightness, which the classes differ in, and finds it on the data set's images."""
    cfg.INPUT.CROP_PADDING = 0
    torch.manual_seed(0)
    records, model = task.load_records(cfg), build_model(cfg)
    task.adapt_model(model, records)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    batches = iter(_loader(cfg, records))
    for _ in range(20):
        optimizer.zero_grad()
        model(next(batches))["loss_cls"].backward()
        optimizer.step()
    results = inference_on_dataset(model, task.test_loader(cfg, name), task.evaluator(cfg, name))
    assert results["classification"]["accuracy"] > 90
    written = json.loads((tmp_path / "inference" / name / "evaluation.json").read_text())
    assert written["images"] == NUMBER
    assert written["classification"] == results["classification"]


def test_features_of_a_data_set_are_exact_and_in_its_order(cfg, name):
    cfg.SOLVER.AMP.ENABLED = True
    model = build_model(cfg).train()
    features, labels, ids = embed_dataset(cfg, model, name)
    assert model.training and labels.tolist() == [i % 3 for i in range(NUMBER)]
    assert ids == [f"i{i}" for i in range(NUMBER)]
    images = torch.from_numpy(np.stack([record["image"] for record in _records()])).permute(0, 3, 1, 2)
    with torch.no_grad():
        expected = model.eval().embed({"images": images})
    assert features.dtype == np.float32
    np.testing.assert_allclose(features, expected.numpy(), rtol=1e-4, atol=1e-6)
