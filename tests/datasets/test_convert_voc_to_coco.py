import json
import sys

import convert_voc_to_coco
import numpy as np
import pytest
from conftest import write_voc_folder
from pycocotools.coco import COCO

from adapruner_det.data.coco import load_coco_dataset, read_categories
from adapruner_det.data.pruned_datasets import annotations_digest
from adapruner_det.data.voc import load_voc_dataset


@pytest.fixture
def convert(monkeypatch):
    """Runs the script in this process."""

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["convert_voc_to_coco.py", *map(str, arguments)])
        convert_voc_to_coco.main()

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


def test_one_command_gives_the_same_data(voc, tmp_path, convert, capsys):
    convert(voc, "train", tmp_path / "train.json")
    printed = capsys.readouterr().out
    assert "train.json: 3 images" in printed and "2 classes" in printed
    classes = ["black", "white"]
    records = load_coco_dataset(tmp_path / "train.json", voc / "JPEGImages", classes)
    assert [record["image_id"] for record in records] == [1, 2, 3]
    check_same(load_voc_dataset(str(voc), "train", classes), records, classes)
    assert len(COCO(str(tmp_path / "train.json")).anns) == sum(len(r["annotations"]) for r in records)
    (tmp_path / "train.json").write_text("mine")
    with pytest.raises(SystemExit, match="is there already"):
        convert(voc, "train", tmp_path / "train.json")
    assert (tmp_path / "train.json").read_text() == "mine"


def test_classes_can_be_given_and_unknown_ones_are_reported(voc, tmp_path, convert):
    with pytest.raises(SystemExit, match="has no class red, but black, white"):
        convert(voc, "train", tmp_path / "train.json", "--classes", "red")
    assert not (tmp_path / "train.json").exists()
    convert(voc, "train", tmp_path / "train.json", "--classes", "white,black")
    written = json.loads((tmp_path / "train.json").read_text())["categories"]
    assert written == [{"id": 1, "name": "white"}, {"id": 2, "name": "black"}]


@pytest.mark.parametrize("name, split", [("neu_det", "test"), ("bccd", "val")])
def test_real_sets(shared_data, tmp_path, convert, name, split):
    convert(shared_data / name, split, tmp_path / "a.json")
    classes = list(read_categories(tmp_path / "a.json").values())
    records = load_coco_dataset(tmp_path / "a.json", shared_data / name / "JPEGImages", classes)
    check_same(load_voc_dataset(str(shared_data / name), split, classes), records, classes)
