import itertools

import numpy as np
import pytest
import torch
from detectron2.utils import comm

from adapruner_det.data.augmentation import Augmentation
from adapruner_det.data.image_batches import TrainBatches, evaluation_batches, labels_of, pixel_statistics, send
from adapruner_det.data.sampling import ResumableSampler

NUMBER = 24


@pytest.fixture
def images():
    return np.random.default_rng(0).integers(0, 256, (NUMBER, 8, 8, 3), dtype=np.uint8)


def _batches(images, augmentation=Augmentation(2, True, 3), start=0, seed=5, device="cpu"):
    sampler = ResumableSampler(len(images), seed=0)
    sampler.start = start
    labels = torch.arange(len(images)) % 7
    return TrainBatches(images, labels, sampler, batch_size=8, augmentation=augmentation, seed=seed, device=device)


def _take(batches, number):
    return list(itertools.islice(batches, number))


def _as_rank(monkeypatch, rank, world_size):
    monkeypatch.setattr(comm, "get_rank", lambda: rank)
    monkeypatch.setattr(comm, "get_world_size", lambda: world_size)


def _same(one, other):
    return all(torch.equal(one[key], other[key]) for key in ("images", "labels", "image_index"))


def test_batches_hold_images_labels_and_positions_and_every_image_once_an_epoch(images):
    batches = _take(_batches(images, Augmentation()), 6)
    for batch in batches:
        index = batch["image_index"]
        assert batch["images"].dtype == torch.uint8 and len(index) == 8
        assert np.array_equal(batch["images"].permute(0, 2, 3, 1).numpy(), images[index.numpy()])
        assert torch.equal(batch["labels"], index % 7)
    for epoch in torch.cat([batch["image_index"] for batch in batches]).split(NUMBER):
        assert sorted(epoch.tolist()) == list(range(NUMBER))


def test_an_image_looks_different_in_each_epoch(images):
    seen = {}
    for batch in _take(_batches(images), 6):
        for index, image in zip(batch["image_index"].tolist(), batch["images"]):
            seen.setdefault(index, []).append(image)
    assert sum(torch.equal(first, second) for first, second in seen.values()) <= 2


def test_a_seed_makes_the_augmentation(images):
    first, again, other = (next(iter(_batches(images, seed=seed))) for seed in (5, 5, 6))
    assert _same(first, again)
    assert torch.equal(first["image_index"], other["image_index"])
    assert not torch.equal(first["images"], other["images"])


def test_resuming_goes_on_as_if_never_stopped(images):
    resumed = _take(_batches(images, start=4 * 8), 3)
    assert all(map(_same, resumed, _take(_batches(images), 7)[4:]))


def test_processes_share_the_batches_of_one(images, monkeypatch):
    alone = _take(_batches(images), 4)
    for rank in (0, 1):
        _as_rank(monkeypatch, rank, 2)
        for own, whole in zip(_take(_batches(images), 4), alone):
            assert _same(own, {key: value[rank::2] for key, value in whole.items()})
    _as_rank(monkeypatch, 0, 3)
    with pytest.raises(ValueError, match="SOLVER.IMS_PER_BATCH is 8"):
        _batches(images)


class _OnTheHost:
    """Stands for a tensor, where there is no GPU to send one to; notes what is done to it."""

    device = torch.device("cpu")

    def __init__(self):
        self.calls = []

    def pin_memory(self):
        self.calls.append("pinned")
        return self

    def to(self, device, non_blocking=False):
        self.calls.append((str(device), non_blocking))
        return self


def test_nothing_waits_for_the_gpu():
    tensor = _OnTheHost()
    send(tensor, torch.device("cuda:0"))
    assert tensor.calls == ["pinned", ("cuda:0", True)]
    there = torch.arange(3)
    assert send(there, torch.device("cpu")) is there


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
def test_batches_on_a_gpu_are_those_of_the_cpu(images):
    for here, there in zip(_take(_batches(images), 4), _take(_batches(images, device="cuda"), 4)):
        assert there["images"].is_cuda and there["labels"].is_cuda and not there["image_index"].is_cuda
        assert _same(here, {key: value.cpu() for key, value in there.items()})


def test_cutout_blanks_with_the_mean_colour(images):
    mean = images.reshape(-1, 3).mean(0).round()
    batch = next(iter(_batches(images, Augmentation(cutout=16))))  # blanks at least a quarter
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


def _records(images):
    return [{"image_id": f"i{n}", "category_id": n % 3, "image": im} for n, im in enumerate(images)]


def test_test_batches_are_all_images_in_order(images):
    batches = evaluation_batches(_records(images), 8, 10, "cpu")
    for _ in range(2):  # can be gone through again
        parts = list(batches)
        assert [len(part["labels"]) for part in parts] == [10, 10, 4] and len(batches) == 3
        found = torch.cat([part["images"] for part in parts]).permute(0, 2, 3, 1)
        assert np.array_equal(found.numpy(), images)
        assert [i for part in parts for i in part["image_ids"]] == [f"i{n}" for n in range(NUMBER)]
        assert torch.equal(torch.cat([part["labels"] for part in parts]), labels_of(_records(images)))
        assert torch.cat([part["image_index"] for part in parts]).tolist() == list(range(NUMBER))


def test_processes_share_the_test_images(images, monkeypatch):
    seen = []
    for rank in range(5):
        _as_rank(monkeypatch, rank, 5)
        for batch in evaluation_batches(_records(images), 8, 3, "cpu"):
            seen += batch["image_index"].tolist()
            assert batch["image_ids"] == [f"i{n}" for n in batch["image_index"].tolist()]
    assert sorted(seen) == list(range(NUMBER))
