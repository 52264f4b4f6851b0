import json

import pandas as pd
import pytest
from conftest import ROOT, write_voc_folder, write_voc_image
from detectron2.data import DatasetCatalog, MetadataCatalog

from adapruner_det.comparison.plan import (
    Comparison,
    _data_fingerprint,
    plan,
    selection_run,
    training_run,
)
from adapruner_det.comparison.table import collect, summarise
from adapruner_det.pruning import Selection

PRUNE = "configs/bccd/prune_yolov3_tiny_R18.yaml"
TRAIN = {"YOLOv3-Tiny": "configs/bccd/train_yolov3_tiny_R18.yaml"}


TOOLS = ROOT / "tools"


@pytest.fixture(autouse=True)
def data(monkeypatch, tmp_path):
    """A small folder in place of BCCD, and the repository as working folder."""
    folder = write_voc_folder(tmp_path / "data/bccd", {"trainval": ["a", "b"], "test": ["c"]})
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("DETECTRON2_DATASETS", str(tmp_path / "data"))
    yield folder
    _data_fingerprint.cache_clear()
    for name in ("bccd_trainval", "bccd_test"):
        if name in DatasetCatalog:
            DatasetCatalog.remove(name)
            MetadataCatalog.remove(name)


def test_changed_settings_of_pruning_or_changed_boxes_change_what_depends_on_them(data, tmp_path):
    def fingerprints(**options):
        _data_fingerprint.cache_clear()
        return [r.fingerprint for r in plan(Comparison(TOOLS, PRUNE, TRAIN, **options), tmp_path)]

    first, same = fingerprints(), fingerprints()
    longer = fingerprints(overrides=("ADAPRUNER.MASK_LR", "1.0"))
    write_voc_image(data, "b", [("black", 5, 5, 20, 20)])
    moved = fingerprints()
    assert first == same
    assert all(a != b for a, b in zip(first, longer)) and all(a != b for a, b in zip(first, moved))


def test_plan_trains_after_selecting_with_equal_iterations(tmp_path):
    comparison = Comparison(TOOLS, PRUNE, TRAIN, keep_ratios=(0.8, 0.5), seeds=(0, 1))
    runs = plan(comparison, tmp_path)
    assert len({run.name for run in runs}) == len(runs) == 2 * (2 * 2 + 1 + 2 * 2)
    by_name = {run.name: run for run in runs}
    pruned = by_name[training_run("YOLOv3-Tiny", "adapruner", 0.5, 1)]
    assert pruned.after == (selection_run("adapruner", 0.5, 1),)
    assert str(tmp_path / pruned.after[0] / "selection") in pruned.command
    full = by_name[training_run("YOLOv3-Tiny", "full", 1.0, 1)]
    assert not full.after and full.iterations == pruned.iterations == 300
    order = [run.name for run in runs]
    assert all(order.index(before) < order.index(run.name) for run in runs for before in run.after)
    for run in runs:
        option = "SEED" if "SEED" in run.command else "--seed"
        assert run.name.endswith(f"seed{run.command[run.command.index(option) + 1]}")


def write_result(folder, ap50, seconds):
    evaluation = folder / "inference" / "bccd_test"
    evaluation.mkdir(parents=True)
    (evaluation / "evaluation.json").write_text(json.dumps({"bbox": {"AP50": ap50, "AP": ap50 / 2}}))
    (folder / "done.json").write_text(json.dumps({"seconds": seconds}))


def test_table_gives_means_spreads_images_and_seconds(tmp_path):
    comparison = Comparison(TOOLS, PRUNE, TRAIN, seeds=(0, 1), methods=("full", "adapruner"))
    for seed in (0, 1):
        write_result(tmp_path / training_run("YOLOv3-Tiny", "full", 1.0, seed), 80 + 2 * seed, 100)
        write_result(tmp_path / training_run("YOLOv3-Tiny", "adapruner", 0.8, seed), 81 + 4 * seed, 90)
        Selection(
            ["d"] * 5, list("abcde"), [5, 4, 3, 2, 1], [True] * 4 + [False], 0.8, "adapruner",
            provenance={"seconds": 30.0 + seed},
        ).save(tmp_path / selection_run("adapruner", 0.8, seed) / "selection")  # fmt: skip
    frame = collect(comparison, tmp_path)
    assert frame["images"].tolist() == [5, 5, 4, 4]
    assert frame["select_seconds"].tolist() == [0, 0, 30, 31]
    table = summarise(frame)
    assert table["AP50"].tolist() == ["81.0 ± 1.4", "83.0 ± 2.8"]
    assert table["trained on"].tolist() == ["full", "adapruner 0.80"]
    assert isinstance(frame, pd.DataFrame) and table["seeds"].tolist() == [2, 2]
