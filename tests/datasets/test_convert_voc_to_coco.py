import contextlib
import io
import json
import subprocess
import sys

import numpy as np
import pytest
from conftest import ROOT, load_script, write_voc_folder
from detectron2.data import DatasetCatalog, MetadataCatalog
from pycocotools.coco import COCO

from adapruner_det.data.coco import load_coco_dataset
from adapruner_det.data.detection_registration import register_coco
from adapruner_det.data.pruned_datasets import annotations_digest
from adapruner_det.data.voc import load_voc_dataset

SCRIPT = ROOT / "datasets" / "convert_voc_to_coco.py"


@pytest.fixture
def convert(monkeypatch):
    """Runs the script in this process."""

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", [SCRIPT.name, *map(str, arguments)])
        load_script(SCRIPT).main()

    return run


@pytest.fixture
def voc(tmp_path):
    return write_voc_folder(tmp_path / "voc", {"train": ["c", "a", "b"]}, empty=["a"])


def check_same(voc_records, coco_records, classes):
    """Same files, sizes and boxes, in the same order; a digest of them is the same, too."""
    assert len(voc_records) == len(coco_records)
    for one, other in zip(voc_records, coco_records):
        assert all(one[key] == other[key] for key in ("file_name", "width", "height"))
        assert annotations_digest(one, classes) == annotations_digest(other, classes)
        boxes = [a["bbox"] for a in one["annotations"]]
        edges = [(x, y, x + w, y + h) for x, y, w, h in (a["bbox"] for a in other["annotations"])]
        np.testing.assert_allclose(np.reshape(boxes, (-1, 4)), np.reshape(edges, (-1, 4)), atol=1e-9)


def test_one_command_gives_the_same_data(voc, tmp_path):
    command = [sys.executable, SCRIPT, voc, "train", tmp_path / "train.json"]
    done = subprocess.run(command, text=True, capture_output=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    assert "train.json: 3 images" in done.stdout and "2 classes" in done.stdout
    classes = ["black", "white"]
    voc_records = load_voc_dataset(str(voc), "train", classes)
    records = load_coco_dataset(tmp_path / "train.json", voc / "JPEGImages", classes)
    assert [record["image_id"] for record in records] == [1, 2, 3]
    check_same(voc_records, records, classes)
    with contextlib.redirect_stdout(io.StringIO()):
        assert len(COCO(str(tmp_path / "train.json")).anns) == sum(len(r["annotations"]) for r in records)


def test_classes_can_be_given_and_unknown_ones_are_reported(voc, tmp_path, convert):
    with pytest.raises(SystemExit, match="unknown class"):
        convert(voc, "train", tmp_path / "train.json", "--classes", "red")
    assert not (tmp_path / "train.json").exists()
    convert(voc, "train", tmp_path / "train.json", "--classes", "white,black")
    written = json.loads((tmp_path / "train.json").read_text())["categories"]
    assert written == [{"id": 1, "name": "white"}, {"id": 2, "name": "black"}]


def test_a_file_is_not_written_over(voc, tmp_path, convert):
    (tmp_path / "train.json").write_text("mine")
    with pytest.raises(SystemExit, match="is there already"):
        convert(voc, "train", tmp_path / "train.json")
    assert (tmp_path / "train.json").read_text() == "mine"


@pytest.mark.parametrize("name, split", [("neu_det", "test"), ("bccd", "val")])
def test_real_sets(shared_data, tmp_path, convert, name, split):
    convert(shared_data / name, split, tmp_path / "a.json")
    register_coco(f"{name}_as_coco", tmp_path / "a.json", shared_data / name / "JPEGImages")
    records = DatasetCatalog.get(f"{name}_as_coco")
    classes = MetadataCatalog.get(f"{name}_as_coco").thing_classes
    DatasetCatalog.remove(f"{name}_as_coco")
    MetadataCatalog.remove(f"{name}_as_coco")
    check_same(load_voc_dataset(str(shared_data / name), split, classes), records, classes)
