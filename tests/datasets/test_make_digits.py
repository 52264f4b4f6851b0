"""datasets/make_digits.py: scikit-learn's digits where configs/digits looks for them."""

import make_digits as script
import numpy as np
import pytest
from conftest import ROOT
from detectron2.config import get_cfg
from sklearn.datasets import load_digits

from adapruner_det.data.image_folders import find_class_names, load_images_dataset
from adapruner_det.data.images import read_images
from adapruner_det.data.registration import find_path
from adapruner_det.engine import add_adapruner_config


def test_all_digits_arrive_under_their_index_where_the_config_looks(tmp_path, monkeypatch):
    monkeypatch.setenv("DETECTRON2_DATASETS", str(tmp_path))
    script.make_digits(tmp_path / "digits")
    cfg = get_cfg()
    add_adapruner_config(cfg)
    cfg.merge_from_file(str(ROOT / "configs/digits/prune_small.yaml"))
    images, classes = load_digits(return_X_y=True)
    seen = []
    for spec in cfg.DATASETS.REGISTER:
        path = find_path(spec.split(":")[1])
        records = load_images_dataset(path, find_class_names(path), "error")
        indices = [int(record["image_id"].split("/")[1][:4]) for record in records]
        assert [record["category_id"] for record in records] == classes[indices].tolist()
        grey = read_images(records, 8)[..., 0]
        assert np.array_equal(grey.reshape(-1, 64), np.round(images[indices] * 255 / 16))
        seen += indices
    assert sorted(seen) == list(range(1797)) and len(records) == 359


def test_a_folder_that_is_there_is_left_alone(tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(FileExistsError, match="is there already"):
        script.make_digits(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]
