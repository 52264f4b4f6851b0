import numpy as np
import pytest
import torch
from detectron2.config import get_cfg
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.modeling import build_model
from detectron2.utils import comm

from adapruner_det.data.image_batches import labels_of
from adapruner_det.data.sampling import ResumableSampler
from adapruner_det.engine.classification import ClassificationTask as task
from adapruner_det.engine.classification_config import add_classification_config
from adapruner_det.engine.classification_statistics import last_layer_of

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
def name(clean_catalogs):
    DatasetCatalog.register("shades", _records)
    MetadataCatalog.get("shades").set(thing_classes=CLASSES, evaluator_type="classification")
    return "shades"


@pytest.fixture
def cfg(name):
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
    assert statistics.counts.toarray().argmax(1).tolist() == labels.tolist()


def test_one_of_two_processes_can_look_at_all_images_it_is_given(cfg, name, monkeypatch):
    model, records = build_model(cfg), task.load_dataset(cfg, name)
    alone = task.statistics(cfg, model, records)
    monkeypatch.setattr(comm, "get_world_size", lambda: 2)
    monkeypatch.setattr(comm, "get_rank", lambda: 1)
    np.testing.assert_array_equal(task.statistics(cfg, model, records).features, alone.features)


@pytest.mark.parametrize("name", ["voc_2007_val", "nowhere"])
def test_a_data_set_that_is_none_of_classification_is_refused(name):
    with pytest.raises(ValueError, match=f"{name} is not registered for classification.*images:PATH"):
        task.load_dataset(None, name)


@pytest.mark.parametrize("of", [NUMBER, 4])
def test_the_model_gets_the_statistics_of_some_training_images_unless_it_brought_its_own(cfg, monkeypatch, of):
    monkeypatch.setattr("adapruner_det.engine.classification._STATISTICS_IMAGES", of)
    records, model = task.load_records(cfg), build_model(cfg)
    model.has_pixel_statistics = True
    task.adapt_model(model, records)
    assert model.pixel_mean.tolist() == [127.5] * 3
    model.has_pixel_statistics = False
    task.adapt_model(model, records)
    some = range(NUMBER) if of == NUMBER else (0, 10, 19, 29)
    pixels = np.stack([records[i]["image"] for i in some]).reshape(-1, 3).astype(float)
    assert np.allclose(model.pixel_mean.numpy(), pixels.mean(0), atol=1e-3)
    assert np.allclose(model.pixel_std.numpy(), pixels.std(0), atol=1e-3)


def _loader(cfg, records):
    return task.train_loader(cfg, records, ResumableSampler(len(records), seed=cfg.SEED))


def test_a_batch_knows_its_images(cfg):
    records = task.load_records(cfg)
    batch = next(iter(_loader(cfg, records)))
    assert torch.equal(batch["labels"], labels_of(records)[task.image_indices(batch)])


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
