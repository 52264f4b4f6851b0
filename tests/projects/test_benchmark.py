"""Each table of docs/performance.md is made, as small as it can be."""

import sys
import zipfile

import numpy as np
import pytest
from conftest import ROOT, load_script, write_voc_folder
from PIL import Image

SMALL = ("--rounds", "1", "--batch-size", "2", "--image-size", "64")
pytestmark = pytest.mark.usefixtures("clean_catalogs")


@pytest.fixture
def rows(monkeypatch, capsys):
    """Runs a command; its table as a dict a row."""
    monkeypatch.syspath_prepend(ROOT / "projects" / "benchmark")
    monkeypatch.chdir(ROOT)
    script = load_script(ROOT / "projects" / "benchmark" / "benchmark.py")

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["benchmark.py", *map(str, arguments)])
        script.main()
        return as_dicts(capsys.readouterr().out)

    return run


def as_dicts(printed):
    lines = [[cell.strip() for cell in line.split("|")[1:-1]] for line in printed.splitlines() if line.startswith("|")]
    return [dict(zip(lines[0], line)) for line in lines[2:]]


def test_mask(rows):
    small, large = rows("mask", "--sizes", "1e3", "1e6", "--steps", "3")
    assert (small["samples"], large["samples"]) == ("1,000", "1,000,000")
    assert float(large["the mask, MB"]) == pytest.approx(4e6 / 1024**2, abs=0.01)  # float32 logits
    assert float(large["projection needs beyond, MB"]) < 20


def test_overhead(rows):
    (row,) = rows("overhead", "--detectors", "YOLOv3-Tiny", *SMALL)
    assert float(row["ratio"]) > 0 and float(row["plain, MB"]) > 50
    # the mask and what is remembered of 100,000 images is all that comes on top
    assert 0 < float(row["pruning, MB"]) - float(row["plain, MB"]) < 5


def test_losses(rows):
    (row,) = rows("losses", "--detectors", "Mask R-CNN", *SMALL)
    assert float(row["one at a time, ratio"]) > 0 and float(row["loss alone: ratio"]) > 0


def test_loader(rows, tmp_path):
    with zipfile.ZipFile(tmp_path / "train.zip", "w") as archive:
        for i in range(8):
            with archive.open(f"{'cat' if i % 2 else 'dog'}/{i}.png", "w") as file:
                Image.fromarray(np.full((32, 32, 3), 30 * i, np.uint8)).save(file, "PNG")
    (row,) = rows("loader", "--config-file", "configs/cifar10/train_small.yaml",
                           "--register", f"pets=images:{tmp_path / 'train.zip'}", "--rounds", "1", "--steps", "1",
                           "SOLVER.IMS_PER_BATCH", "4")  # fmt: skip
    assert row["images"] == "8" and float(row["loader, images/s"]) > 0


def test_reading(rows, tmp_path):
    folder = write_voc_folder(tmp_path, {"train": ["a", "b", "c"]})
    (row,) = rows("reading", "--config-file", "configs/bccd/prune_yolov3_tiny_R18.yaml",
                           "--register", f"mine=voc:{folder}:train", "--rounds", "1", "--steps", "2")  # fmt: skip
    assert row["images"] == "3" and float(row["ours, ms"]) > 0 and float(row["first pass / decoded whole"]) > 0


def test_a_whole_step(rows, tmp_path):
    folder = write_voc_folder(tmp_path, {"train": ["a", "b", "c", "d"]})
    (row,) = rows("whole", "--config-file", "configs/bccd/prune_yolov3_tiny_R18.yaml", "--register",
                  f"mine=voc:{folder}:train", "--rounds", "1", "--steps", "1", "SOLVER.IMS_PER_BATCH", "2")  # fmt: skip
    assert float(row["ours, ms"]) > 0 and float(row["CPU ratio"]) > 0


def test_phases_of_a_whole_run(rows, tmp_path):
    folder = write_voc_folder(tmp_path, {"train": [f"i{n}" for n in range(10)]})
    (row,) = rows("phases", "--config-file", "configs/bccd/prune_yolov3_tiny_R18.yaml", "--register",
                  f"mine=voc:{folder}:train", "SOLVER.IMS_PER_BATCH", "2", "SOLVER.MAX_ITER", "8", "SOLVER.WARMUP_ITERS", "0")  # fmt: skip
    phases = ["imports", "labels and pictures", "warm-up", "pruning", "final look", "solving", "page"]
    assert [name[:-3] for name in row if name.endswith(", s")] == [*phases, "all"]
    assert sum(float(row[f"{name}, s"]) for name in phases) == pytest.approx(float(row["all, s"]), abs=0.01)
