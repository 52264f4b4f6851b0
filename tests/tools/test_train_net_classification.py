"""A classifier pruned, retrained and evaluated by the commands a user would type."""

import json
import zipfile

import numpy as np
import pytest
import torch
from conftest import ROOT
from PIL import Image

from adapruner_det.pruning import Selection

EMBEDDING = ROOT / "projects" / "embedding"
# Only the length and the batch differ from the config for CIFAR-10.
SMALL = (
    *("--config-file", "configs/cifar10/prune_small.yaml", "SOLVER.MAX_EPOCHS", "6"),
    *("SOLVER.IMS_PER_BATCH", "16", "SOLVER.WARMUP_ITERS", "0", "ADAPRUNER.KEEP_RATIO", "0.7"),
)
PLAIN = ("ADAPRUNER.ENABLED", "False")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Zips of class folders, 60 images to train on: most cats are dark, most dogs bright."""
    folder = tmp_path_factory.mktemp("pets")
    rng = np.random.default_rng(0)
    for split, each in (("train", 30), ("test", 10)):
        with zipfile.ZipFile(folder / f"{split}.zip", "w") as archive:
            for label, mean in (("cat", 90), ("dog", 160)):
                for i in range(each):
                    pixels = rng.normal(rng.normal(mean, 25), 40, (32, 32, 3))
                    pixels = pixels.clip(0, 255).astype(np.uint8)
                    Image.fromarray(pixels).save(folder / "image.png")
                    archive.write(folder / "image.png", f"{split}/{label}/{i:03d}.png")
    return folder


def register(data):
    return (
        *("--register", f"pets=images:{data / 'train.zip'}"),
        *("--register", f"pets_test=images:{data / 'test.zip'}"),
    )


def accuracy(folder):
    written = json.loads((folder / "inference/pets_test/evaluation.json").read_text())
    return written["classification"]["accuracy"]


def weights(folder):
    return torch.load(folder / "model_final.pth")["model"]["head.weight"]


@pytest.fixture(scope="module")
def pruned(data, tmp_path_factory, run_tool):
    output = tmp_path_factory.mktemp("prune")
    out = run_tool("train_net.py", *register(data), *SMALL, "OUTPUT_DIR", output, OMP_NUM_THREADS="1")
    return output, out


def test_pruning_leaves_a_list_of_relative_paths_and_a_table(pruned):
    output, out = pruned
    assert "adapruner: 42 of 60 images kept; ratio asked for 0.700, reached 0.700" in out
    selection = Selection.load(output / "selection")
    (path,) = (p for p in (output / "selection").rglob("*.txt"))
    listed = path.read_text().split()
    assert set(listed) == selection.kept_ids("pets") and len(listed) == 42
    assert all(i.split("/")[0] in ("cat", "dog") and i.endswith(".png") for i in listed)
    table = selection.table()
    assert set(table["class"]) == {"cat", "dog"} and (table["visits"] >= 5).all()
    assert selection.provenance["classes"]["cat"]["images"] == 30


def test_retraining_on_the_selection_learns_and_resumes(pruned, data, run_tool, tmp_path):
    selection = pruned[0] / "selection"
    train = ("train_net.py", *register(data), "--selection", selection, *SMALL, *PLAIN)
    straight = (*train, "OUTPUT_DIR", tmp_path / "straight")
    out = run_tool(*straight, "SOLVER.CHECKPOINT_PERIOD", "8", OMP_NUM_THREADS="1")
    assert "pets: training on 42 of 60 images" in out
    # 6 passes over 42 images in batches of 16
    assert "Overall training speed: 14 iterations" in out
    assert accuracy(tmp_path / "straight") >= 75

    (tmp_path / "straight" / "last_checkpoint").write_text("model_0000007.pth")
    (tmp_path / "straight" / "inference/pets_test/evaluation.json").unlink()
    before = weights(tmp_path / "straight")
    out = run_tool("train_net.py", "--resume", *straight[1:], OMP_NUM_THREADS="1")
    assert "Starting training from iteration 8" in out
    assert torch.equal(weights(tmp_path / "straight"), before)


def test_features_of_the_pruning_network_are_measured_and_drawn(pruned, data, run_tool, tmp_path):
    output, _ = pruned
    run_tool(EMBEDDING / "extract_features.py", *SMALL[:2], *register(data), "--output", tmp_path / "features.npz",
             "MODEL.WEIGHTS", output / "model_final.pth")  # fmt: skip
    out = run_tool(EMBEDDING / "embedding.py", "--features", tmp_path / "features.npz",
                   "--selection", output / "selection", "--output", tmp_path / "embedding")  # fmt: skip
    assert "| points" in out and "42" in out and "dunn" in out.lower()
    assert (tmp_path / "embedding" / "embedding.png").stat().st_size > 10_000


def test_classes_can_be_held_to_the_ratio_each(data, run_tool, tmp_path):
    run_tool("selection.py", "random", *register(data), *SMALL[:2], "--keep-ratio", "0.7",
             "--output", tmp_path / "all", "SCORING.CLASS_BALANCE", "True")  # fmt: skip
    kept = Selection.load(tmp_path / "all").kept_ids("pets")
    assert sum(i.startswith("cat") for i in kept) == sum(i.startswith("dog") for i in kept) == 21
    run_tool("selection.py", "cut", tmp_path / "all", "--keep-ratio", "0.5",
             "--output", tmp_path / "half")  # fmt: skip
    kept = Selection.load(tmp_path / "half").kept_ids("pets")
    assert sum(i.startswith("cat") for i in kept) == sum(i.startswith("dog") for i in kept) == 15
    run_tool("selection.py", "cut", tmp_path / "all", "--keep-ratio", "0.5", "--across-classes",
             "--output", tmp_path / "best")  # fmt: skip
    best = Selection.load(tmp_path / "best")
    assert min(s for s, k in zip(best.scores, best.kept) if k) >= max(
        s for s, k in zip(best.scores, best.kept) if not k
    )


def test_another_ratio_is_solved_for_without_training(pruned, run_tool, tmp_path):
    output, _ = pruned
    cut = ("selection.py", "cut", output / "selection", "--keep-ratio", "0.5", "--output")
    assert "why images go:" in run_tool(*cut, tmp_path / "half")
    run_tool(
        *cut,
        tmp_path / "drawn",
        "ADAPRUNER.REDUNDANCY",
        "0",
        "ADAPRUNER.LABEL_ERRORS",
        "0",
        "ADAPRUNER.DIFFICULTY",
        "0",
    )
    half, drawn = (Selection.load(tmp_path / name) for name in ("half", "drawn"))
    assert sum(half.kept) == sum(drawn.kept) == 30 and half.kept != drawn.kept
    assert drawn.provenance["reasons"]["random"] == 30 and half.keep_ratio == 0.5
    run_tool("selection.py", "cut", tmp_path / "half", "--keep-ratio", "0.7", "--output", tmp_path / "back")
    assert Selection.load(tmp_path / "back").scores == Selection.load(output / "selection").scores
    for wrong, message in (
        (("--output", tmp_path / "x", "ADAPRUNER.WARMUP", "0"), "ADAPRUNER.WARMUP is no term"),
        (("--output", tmp_path / "x", "--across-classes"), "ADAPRUNER.CLASS_BALANCE 0 at the end does without"),
        (("--keep-ratio", "0.9999", "--output", tmp_path / "x"), "keep_ratio 0.9999 of 60 samples is all of them"),
    ):
        out = run_tool(*cut[:5], *wrong, expect=1)
        assert message in out and "Traceback" not in out and not (tmp_path / "x").exists()


def test_the_pictures_of_a_selection_are_drawn(data, run_tool, tmp_path):
    run_tool(
        "selection.py", "random", *register(data), *SMALL[:2], "--keep-ratio", "0.5", "--output", tmp_path / "half"
    )
    run_tool("selection.py", "pictures", tmp_path / "half", *register(data))
    with Image.open(tmp_path / "half" / "images.png") as sheet:
        assert sheet.width > 500
