"""Checkpoints and weights that are damaged, missing, or hostile."""

import os
import pickle
import random

import numpy as np
import pytest
import torch
from torch import nn

from adapruner_det.engine.checkpoint import RunCheckpointer, final_is_missing, newest_checkpoint


class Counter(nn.Linear):
    """A trainer's state, as checkpoints hold it."""

    def state_dict(self, *args, **options):
        return {"steps": 1}

    def load_state_dict(self, state):
        assert state == {"steps": 1}


def checkpointer(folder):
    return RunCheckpointer(nn.Linear(50, 20), str(folder), trainer=Counter(1, 1))


@pytest.fixture
def folder(tmp_path):
    """Checkpoints of iterations 6 and, noted last, 9; that of 3 is gone."""
    saving = checkpointer(tmp_path)
    for iteration in (3, 6, 9):
        saving.model.weight.data.fill_(iteration)
        saving.save(f"model_{iteration:07d}", iteration=iteration)
    return tmp_path


def flip(path, count=400):
    content, draw = bytearray(path.read_bytes()), random.Random(0)
    for _ in range(count):
        content[draw.randrange(len(content))] ^= 0xFF
    path.write_bytes(content)


def point_to(name):
    return lambda folder: (folder / "last_checkpoint").write_text(name)


def truncate(folder):
    path = folder / "model_0000009.pth"
    os.truncate(path, path.stat().st_size // 2)


@pytest.mark.parametrize(
    "spoil, iteration, complaint",
    [
        (lambda folder: None, 9, ""),
        (point_to(""), 9, "last_checkpoint is empty"),
        (lambda folder: (folder / "last_checkpoint").unlink(), 9, "last_checkpoint is missing or damaged"),
        (lambda folder: (folder / "last_checkpoint").write_bytes(b"\xff\xfe"), 9, "is missing or damaged"),
        (point_to("model_0000012.pth"), 9, "model_0000012.pth, which last_checkpoint names, is missing"),
        (point_to("../elsewhere.pth"), 9, "names '../elsewhere.pth', which is no file of this folder"),
        (point_to("/etc/passwd"), 9, "names '/etc/passwd', which is no file of this folder"),
        (
            lambda folder: flip(folder / "model_0000009.pth"),
            6,
            "model_0000009.pth, which last_checkpoint names, is dam",
        ),
        (truncate, 6, "is damaged"),
    ],
)
def test_a_run_goes_on_from_the_newest_checkpoint_that_is_sound(folder, caplog, spoil, iteration, complaint):
    spoil(folder)
    resuming = checkpointer(folder)
    assert resuming.resume_or_load("", resume=True)["iteration"] == iteration
    assert (resuming.model.weight == iteration).all() and resuming.has_checkpoint()
    said = [record.message for record in caplog.records if record.levelname == "WARNING"]
    assert len(said) == bool(complaint) and all(complaint in line and "\n" not in line for line in said)


def test_one_byte_in_a_tensor_is_noticed(folder):
    path = folder / "model_0000009.pth"
    content = path.read_bytes()
    at = content.index(np.full(8, 9, "<f4").tobytes())
    path.write_bytes(content[:at] + b"\x01" + content[at + 1 :])
    assert newest_checkpoint(folder)[0].name == "model_0000006.pth"
    with pytest.raises(ValueError, match="model_0000009.pth cannot be read as weights .is damaged in .*other weights"):
        checkpointer(folder).load(str(path))


def test_checkpoints_none_of_which_is_sound_are_reported(folder, tmp_path_factory):
    for path in folder.glob("model_*.pth"):
        flip(path)
    with pytest.raises(ValueError, match="no other checkpoint there can be read: start anew with --overwrite"):
        checkpointer(folder).has_checkpoint()
    assert newest_checkpoint(tmp_path_factory.mktemp("fresh")) == (None, "")


def test_a_final_checkpoint_that_is_damaged_or_old_counts_as_missing(folder):
    assert final_is_missing(folder, 9)
    checkpointer(folder).save("model_final", iteration=9)
    assert not final_is_missing(folder, 9) and final_is_missing(folder, 12)
    flip(folder / "model_final.pth")
    assert final_is_missing(folder, 9)


def test_the_last_two_stay_beside_the_final_one(folder):
    checkpointer(folder).save("model_final", iteration=9)
    assert sorted(path.name for path in folder.glob("*.pth")) == [
        "model_0000006.pth", "model_0000009.pth", "model_final.pth"
    ]  # fmt: skip


def test_a_save_that_fails_leaves_the_former_checkpoint_and_nothing_beside(folder):
    saving, before = checkpointer(folder), (folder / "model_0000009.pth").read_bytes()
    with pytest.raises((AttributeError, pickle.PicklingError)):
        saving.save("model_0000009", iteration=9, impossible=lambda: None)
    assert (folder / "model_0000009.pth").read_bytes() == before and not list(folder.glob(".*"))


class Payload:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (self.path,)


@pytest.mark.parametrize("name", ["weights.pkl", "weights.pth", "weights.pyth"])
def test_weights_that_would_run_code_are_refused_and_run_none(tmp_path, name):
    content = {"model": {"weight": Payload(str(tmp_path / "run"))}, "model_state": {}, "__author__": "somebody"}
    if name.endswith("pkl"):
        (tmp_path / name).write_bytes(pickle.dumps(content))
    else:
        torch.save(content, tmp_path / name)
    with pytest.raises(ValueError, match=f"{name} cannot be read as weights .*code in it is not run"):
        checkpointer(tmp_path / "out").load(str(tmp_path / name))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("protocol", [0, 2, 4])
@pytest.mark.parametrize("form", ["detectron2", "detectron1", "imagenet"])
def test_weights_of_the_model_zoos_are_read(tmp_path, protocol, form):
    weights = {"weight": np.full((20, 50), 2, np.float32), "bias": np.zeros(20, np.float32)}
    content = {
        "detectron2": {"model": weights, "__author__": "Detectron2 Model Zoo"},
        "detectron1": {"blobs": {**weights, "weight_momentum": weights["weight"]}, "cfg": "a: 1"},
        "imagenet": {**weights, "scale": np.float32(1)},
    }[form]
    path = tmp_path / "R-50.pkl"
    path.write_bytes(pickle.dumps(content, protocol=protocol))
    loaded = checkpointer(tmp_path / "out")._load_file(str(path))
    assert set(weights) <= set(loaded["model"]) and (loaded["model"]["weight"] == 2).all()
    assert loaded.get("matching_heuristics", False) == (form != "detectron2")
