"""The proxy trained on tiny data: what it records, that it resumes, and whom it refuses."""

import fcntl
import json
import math
import os

import cv2
import numpy as np
import pytest
import torch
from proxy_runs import EACH, StopAt

from adapruner_det.baselines.registry import EARLY, TRAINED
from adapruner_det.engine.proxy import LOCK, Proxy, ProxyMismatchError
from adapruner_det.engine.proxy_trainer import ProxyTrainer, early_iteration
from adapruner_det.engine.run_folder import PROXY

IMAGES = 2 * EACH


def weights(path):
    return torch.load(path)["model"]


def same(one, other):
    return all(torch.equal(one[name], other[name]) for name in one)


@pytest.fixture(scope="module")
def trained(config, tmp_path_factory):
    """A proxy trained without a break, with a checkpoint after each epoch of three iterations."""
    proxy = Proxy(config(**{"SOLVER.CHECKPOINT_PERIOD": 3}), 1, tmp_path_factory.mktemp("trained"))
    proxy.train(TRAINED)
    return proxy


def interrupt(monkeypatch, proxy, iteration, need=TRAINED):
    build = ProxyTrainer.build_hooks
    with monkeypatch.context() as patch:
        patch.setattr(ProxyTrainer, "build_hooks", lambda self: [*build(self), StopAt(iteration)])
        with pytest.raises(KeyboardInterrupt):
            proxy.train(need)


def test_losses_and_answers_of_every_visit_are_recorded(trained):
    (losses, correct, _), _ = trained.dynamics()
    assert losses.shape == correct.shape == (4, IMAGES) and np.isfinite(losses).all()
    # of two classes the right one is the more probable if its probability is above a half
    assert (correct == (losses < math.log(2))).all() and 0 < correct.mean() < 1
    assert losses[3].mean() < losses[0].mean()


def test_an_interrupted_proxy_ends_as_an_uninterrupted_one(trained, config, tmp_path, monkeypatch):
    proxy = Proxy(config(**{"SOLVER.CHECKPOINT_PERIOD": 2}), 1, tmp_path)
    interrupt(monkeypatch, proxy, 6)
    with pytest.raises(FileNotFoundError, match="no proxy that was trained to the end"):
        proxy.dynamics()
    proxy.train(TRAINED)
    for one, other in zip(proxy.dynamics()[0], trained.dynamics()[0]):
        np.testing.assert_array_equal(one, other)
    assert same(weights(tmp_path / "model_final.pth"), weights(trained.folder / "model_final.pth"))


def test_a_proxy_that_stopped_early_goes_on_as_if_it_had_not(trained, config, tmp_path):
    proxy = Proxy(config(), 1, tmp_path)
    proxy.train(EARLY)
    assert torch.load(tmp_path / "model_final.pth")["iteration"] == 2  # the third
    assert same(weights(tmp_path / "model_final.pth"), weights(trained.folder / "early.pth"))
    proxy.train(TRAINED)
    np.testing.assert_array_equal(proxy.dynamics()[0].losses, trained.dynamics()[0].losses)


def test_early_weights_are_early(trained):
    early = weights(trained.folder / "early.pth")
    assert not same(early, weights(trained.folder / "model_0000008.pth"))
    assert same(early, trained.early_network(0).state_dict())
    assert same(weights(trained.folder / "model_final.pth"), trained.trained_network().state_dict())
    assert 0 < trained.seconds(EARLY) < trained.seconds(TRAINED)


def test_early_is_not_before_each_image_was_seen(config, tmp_path):
    cfg = Proxy(config(**{"SCORING.EARLY": 0.01}), 0, tmp_path).cfg  # of 12 iterations of 8 images
    assert [early_iteration(cfg, images) for images in (24, 25, 8)] == [3, 4, 1]
    assert early_iteration(Proxy(config(**{"SCORING.EARLY": 0.5}), 0, tmp_path).cfg, 24) == 6


def test_further_networks_have_other_seeds_and_stop_early(config, tmp_path):
    proxy = Proxy(config(**{"SCORING.NETWORKS": 2}), 1, tmp_path)
    proxy.train(EARLY)
    first, second = (proxy.early_network(network).state_dict() for network in range(2))
    assert not torch.equal(first["head.weight"], second["head.weight"])
    assert not (tmp_path / "network_1/dynamics.npz").exists()
    early = [torch.load(tmp_path / name)["seconds"] for name in ("early.pth", "network_1/early.pth")]
    assert proxy.seconds(EARLY) == pytest.approx(sum(early))


def test_what_is_there_is_not_trained_again_and_serves_every_ratio_and_method(trained, config, monkeypatch):
    monkeypatch.setattr(ProxyTrainer, "__init__", lambda *args: pytest.fail("it trains"))
    Proxy(config(), 1, trained.folder).train(EARLY)
    settings = {"ADAPRUNER.KEEP_RATIO": 0.3, "DATALOADER.NUM_WORKERS": 2, "SCORING.NETWORKS": 3, "SCORING.BNSL": "hard"}
    Proxy(config(**settings), 1, trained.folder).train(TRAINED)


@pytest.mark.parametrize(
    "seed, settings, message",
    [
        (2, {}, "SEED 2, there 1"),
        (1, {"SOLVER.MAX_EPOCHS": 5}, "MAX_ITER 15, there 12; .*MAX_EPOCHS 5.0, there 4.0"),
        (1, {"SCORING.EARLY": 0.5}, "SCORING.EARLY 0.5, there 0.25"),
        (1, {"TEST.DETECTIONS_PER_IMAGE": 9}, "TEST.DETECTIONS_PER_IMAGE 9, there 100"),  # found boxes
    ],
)
def test_a_proxy_of_something_else_is_refused(trained, config, seed, settings, message):
    with pytest.raises(ProxyMismatchError, match=message):
        Proxy(config(**settings), seed, trained.folder)


def test_a_proxy_that_another_process_makes_meanwhile_is_looked_at(config, tmp_path, monkeypatch):
    first, second = Proxy(config(), 1, tmp_path), Proxy(config(), 2, tmp_path)

    def flock(file, operation):
        if operation == fcntl.LOCK_EX | fcntl.LOCK_NB:
            raise BlockingIOError
        if operation == fcntl.LOCK_EX:  # the other is done
            (tmp_path / PROXY).write_text(json.dumps(first._identity))

    monkeypatch.setattr(fcntl, "flock", flock)
    monkeypatch.setattr(ProxyTrainer, "__init__", lambda *args: pytest.fail("it trains"))
    with pytest.raises(ProxyMismatchError, match="SEED 2, there 1"):
        second.train(TRAINED)
    monkeypatch.setattr(Proxy, "_done", lambda *args: True)
    with pytest.raises(ProxyMismatchError, match="SEED 2, there 1"):
        second.train(TRAINED)


def test_a_proxy_of_other_pictures_is_refused(trained, config, folders):
    extra = folders / "pictures/dark/more.png"
    cv2.imwrite(str(extra), np.zeros((32, 32, 3), np.uint8))
    try:
        with pytest.raises(ProxyMismatchError, match="other images"):
            Proxy(config(), 1, trained.folder)
    finally:
        extra.unlink()


def test_another_training_is_no_proxy(config, tmp_path):
    (tmp_path / "last_checkpoint").write_text("model_final.pth")
    with pytest.raises(ProxyMismatchError, match="a training that is no proxy"):
        Proxy(config(), 1, tmp_path)


@pytest.mark.parametrize(
    "task, settings, message",
    [
        ("classification", {"SCORING.EARLY": 0.0}, "SCORING.EARLY is 0.0"),
        ("classification", {"SCORING.NETWORKS": 0}, "SCORING.NETWORKS is 0"),
        ("classification", {"SCORING.GRAND": "all"}, "SCORING.GRAND is 'all'; it can be auto, full"),
        ("detection", {"SCORING.GRAND": "full"}, "for detection use last_layer"),
        ("detection", {"SOLVER.MAX_ITER": 2}, "seeing each of 10 images takes 3"),
        ("detection", {"DATALOADER.SAMPLER_TRAIN": "RandomSubsetTrainingSampler"}, "use TrainingSampler"),
        ("detection", {"DATASETS.SELECTION": "some"}, "DATASETS.SELECTION is set"),
    ],
)
def test_settings_that_cannot_work_are_refused_before_training(config, tmp_path, task, settings, message):
    with pytest.raises(ValueError, match=message):
        Proxy(config(task, **settings), 1, tmp_path)


def test_a_detector_records_losses_and_the_boxes_it_finds(config, tmp_path, monkeypatch):
    cfg = config("detection", **{"SOLVER.CHECKPOINT_PERIOD": 3})
    whole, parts = (Proxy(cfg, 0, tmp_path / name) for name in ("whole", "parts"))
    whole.train(TRAINED)
    (losses, found, _), seconds = whole.dynamics()
    assert losses.shape == (4, 10) and found.shape == (2, 10) and seconds > 0
    assert np.isfinite(losses).all() and ((0 <= found) & (found <= 1)).all()
    interrupt(monkeypatch, parts, 6)  # behind the first measurement, in which the fifth ended
    parts.train(TRAINED)
    for one, other in zip(parts.dynamics()[0], whole.dynamics()[0]):
        np.testing.assert_array_equal(one, other)


def test_a_worker_that_outlives_the_work_does_not_keep_the_lock(config, tmp_path):
    def outlived():
        """Computes with a child that has all files of this process open, as a data loader's worker has."""
        reader, writer = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(writer)
            os.read(reader, 1)  # until the parent has closed the other end
            os._exit(0)
        children.append((child, reader, writer))
        return {"some": np.zeros(1)}

    children = []
    Proxy(config(), 1, tmp_path).cached("some", outlived)
    try:
        with open(tmp_path / LOCK, "a") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # BlockingIOError if it is held
    finally:
        for child, *ends in children:
            for end in ends:
                os.close(end)
            os.waitpid(child, 0)
