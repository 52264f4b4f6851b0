import itertools
from unittest.mock import Mock

import numpy as np
import pytest
import torch
from detectron2.config import get_cfg
from detectron2.utils import comm

from adapruner_det.data.image_batches import evaluation_batches, labels_of, pixel_statistics, send, training_batches
from adapruner_det.data.sampling import ResumableSampler
from adapruner_det.engine.classification_config import add_classification_config

NUMBER = 24
UNCHANGED = {"INPUT.CROP_PADDING": 0, "INPUT.CUTOUT": 0, "INPUT.RANDOM_FLIP": "none"}


@pytest.fixture
def images():
    return np.random.default_rng(0).integers(0, 256, (NUMBER, 8, 8, 3), dtype=np.uint8)


@pytest.fixture
def cfg():
    cfg = get_cfg()
    add_classification_config(cfg)
    cfg.MODEL.DEVICE, cfg.SEED, cfg.SOLVER.IMS_PER_BATCH = "cpu", 5, 8
    cfg.INPUT.IMAGE_SIZE, cfg.INPUT.CROP_PADDING, cfg.INPUT.CUTOUT = 8, 2, 3
    return cfg


def _records(images):
    return [{"image_id": f"i{n}", "category_id": n % 7, "image": image} for n, image in enumerate(images)]


def _batches(cfg, images, start=0, **options):
    cfg = cfg.clone()
    cfg.merge_from_list([part for pair in options.items() for part in pair])
    sampler = ResumableSampler(len(images), seed=0)
    batches = training_batches(cfg, _records(images), sampler)
    sampler.start = start  # a trainer knows it only later
    return batches


def _take(batches, number):
    return list(itertools.islice(batches, number))


def _as_rank(monkeypatch, rank, world_size):
    monkeypatch.setattr(comm, "get_rank", lambda: rank)
    monkeypatch.setattr(comm, "get_world_size", lambda: world_size)


def _same(one, other):
    return all(torch.equal(one[key], other[key]) for key in ("images", "labels", "image_index"))


def test_batches_hold_images_labels_and_positions_and_every_image_once_an_epoch(cfg, images):
    batches = _take(_batches(cfg, images, **UNCHANGED), 6)
    for batch in batches:
        index = batch["image_index"]
        assert batch["images"].dtype == torch.uint8 and len(index) == 8
        assert np.array_equal(batch["images"].permute(0, 2, 3, 1).numpy(), images[index.numpy()])
        assert torch.equal(batch["labels"], index % 7)
    for epoch in torch.cat([batch["image_index"] for batch in batches]).split(NUMBER):
        assert sorted(epoch.tolist()) == list(range(NUMBER))


def test_an_image_looks_different_in_each_epoch_and_with_another_seed(cfg, images):
    looks = {}
    for seed in (5, 6):
        for batch in _take(_batches(cfg, images, SEED=seed), 6):
            for index, image in zip(batch["image_index"].tolist(), batch["images"]):
                looks.setdefault(index, []).append(image)
    for pair in itertools.combinations(range(4), 2):
        assert sum(torch.equal(own[pair[0]], own[pair[1]]) for own in looks.values()) <= 2


def test_resuming_goes_on_as_if_never_stopped(cfg, images):
    resumed = _take(_batches(cfg, images, start=4 * 8), 3)
    assert all(map(_same, resumed, _take(_batches(cfg, images), 7)[4:]))


def test_processes_share_the_batches_of_one(cfg, images, monkeypatch):
    alone = _take(_batches(cfg, images), 4)
    for rank in (0, 1):
        _as_rank(monkeypatch, rank, 2)
        for own, whole in zip(_take(_batches(cfg, images), 4), alone):
            assert _same(own, {key: value[rank::2] for key, value in whole.items()})
    _as_rank(monkeypatch, 0, 3)
    with pytest.raises(ValueError, match="SOLVER.IMS_PER_BATCH is 8"):
        _batches(cfg, images)


def test_nothing_waits_for_the_gpu():
    tensor, gpu = Mock(device=torch.device("cpu")), torch.device("cuda:0")
    send(tensor, gpu)
    tensor.pin_memory.return_value.to.assert_called_once_with(gpu, non_blocking=True)
    there = torch.arange(3)
    assert send(there, torch.device("cpu")) is there


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
def test_batches_on_a_gpu_are_those_of_the_cpu(cfg, images):
    for here, there in zip(
        _take(_batches(cfg, images), 4), _take(_batches(cfg, images, **{"MODEL.DEVICE": "cuda"}), 4)
    ):
        assert there["images"].is_cuda and there["labels"].is_cuda and not there["image_index"].is_cuda
        assert _same(here, {key: value.cpu() for key, value in there.items()})


def test_cutout_blanks_with_the_mean_colour(cfg, images):
    mean = images.reshape(-1, 3).mean(0).round()
    batch = next(iter(_batches(cfg, images, **{**UNCHANGED, "INPUT.CUTOUT": 8})))  # blanks at least a quarter
    blanked = (batch["images"].permute(0, 2, 3, 1).numpy() == mean).all(-1)
    assert blanked.mean((1, 2)).min() >= 0.25


def test_pixel_statistics_are_numpys():
    images = np.random.default_rng(1).integers(0, 256, (250, 3, 3, 3), dtype=np.uint8)
    images[..., 2] = 40
    mean, std = pixel_statistics(images)
    pixels = images.reshape(-1, 3).astype(float)
    assert np.allclose(mean.numpy(), pixels.mean(0), atol=1e-4)
    assert np.allclose(std.numpy()[:2], pixels.std(0)[:2], atol=1e-3)
    assert std[2] == 1  # all alike: can still be divided by


def test_test_batches_are_all_images_in_order(cfg, images):
    cfg.SOLVER.IMS_PER_BATCH = 10
    batches = evaluation_batches(cfg, _records(images))
    for _ in range(2):  # can be gone through again
        parts = list(batches)
        assert [len(part["labels"]) for part in parts] == [10, 10, 4] and len(batches) == 3
        found = torch.cat([part["images"] for part in parts]).permute(0, 2, 3, 1)
        assert np.array_equal(found.numpy(), images)
        assert [i for part in parts for i in part["image_ids"]] == [f"i{n}" for n in range(NUMBER)]
        assert torch.equal(torch.cat([part["labels"] for part in parts]), labels_of(_records(images)))
        assert torch.cat([part["image_index"] for part in parts]).tolist() == list(range(NUMBER))


def test_processes_share_the_test_images(cfg, images, monkeypatch):
    seen = []
    for rank in range(5):
        _as_rank(monkeypatch, rank, 5)
        for batch in evaluation_batches(cfg, _records(images)):
            seen += batch["image_index"].tolist()
            assert batch["image_ids"] == [f"i{n}" for n in batch["image_index"].tolist()]
    assert sorted(seen) == list(range(NUMBER))
