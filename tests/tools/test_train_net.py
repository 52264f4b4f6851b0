"""The main job by its commands, on a tree of VOC07+12's shape with the VOC configs."""

import json
from pathlib import Path

import pytest
from conftest import write_voc_folder

from adapruner_det.pruning import Selection

# Only the length and the input size differ from what the configs say.
SMALL = ("SOLVER.MAX_ITER", "4", "INPUT.MIN_SIZE_TRAIN", "(64,)", "INPUT.MIN_SIZE_TEST", "64")


@pytest.fixture(scope="module")
def voc_root(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("datasets")
    classes = ("dog", "person", "train")
    ids = {2007: [f"00{i:04d}" for i in range(10)], 2012: [f"2008_00{i:04d}" for i in range(8)]}
    test = [f"09{i:04d}" for i in range(3)]
    write_voc_folder(root / "VOC2007", {"trainval": ids[2007], "test": test}, classes=classes)
    write_voc_folder(root / "VOC2012", {"trainval": ids[2012]}, seed=1, classes=classes)
    return root


def metrics(folder: Path) -> dict:
    return json.loads((folder / "inference/voc_2007_test/evaluation.json").read_text())["bbox"]


def test_prune_then_retrain_then_map_on_voc07_12(voc_root, run_tool, tmp_path):
    environment = {"DETECTRON2_DATASETS": str(voc_root)}
    run_tool("train_net.py", "--config-file", "configs/voc/prune_yolov3_tiny_R50.yaml",
             "OUTPUT_DIR", tmp_path / "prune", *SMALL, **environment)  # fmt: skip
    lists = {p.name: p.read_text().split() for p in (tmp_path / "prune/selection").rglob("*.txt")}
    assert set(lists) == {
        "voc_2007_trainval_adapruner_0.90.txt", "voc_2012_trainval_adapruner_0.90.txt"
    }  # fmt: skip
    assert sum(map(len, lists.values())) == 16  # 90% of 18
    assert all(i.startswith("2008_") for i in lists["voc_2012_trainval_adapruner_0.90.txt"])

    out = run_tool("train_net.py", "--config-file", "configs/voc/train_yolov3_tiny_R50.yaml",
                   "--selection", tmp_path / "prune/selection",
                   "OUTPUT_DIR", tmp_path / "train", *SMALL, **environment)  # fmt: skip
    assert "voc_2007_trainval: training on" in out and "selected by adapruner" in out
    trained = metrics(tmp_path / "train")
    assert {"AP", "AP50", "AP75", "AP50-11point", "AP50-area", "AP50-dog"} <= trained.keys()

    run_tool("train_net.py", "--eval-only", "--config-file", "configs/voc/train_yolov3_tiny_R50.yaml",
             "MODEL.WEIGHTS", tmp_path / "train/model_final.pth",
             "OUTPUT_DIR", tmp_path / "eval", *SMALL, **environment)  # fmt: skip
    assert metrics(tmp_path / "eval") == pytest.approx(trained, nan_ok=True)


def test_faster_rcnn_trains_on_voc07_12(voc_root, run_tool, tmp_path):
    run_tool("train_net.py", "--config-file", "configs/voc/train_faster_rcnn_R50_C4.yaml",
             "OUTPUT_DIR", tmp_path, *SMALL, "SOLVER.MAX_ITER", "2", "SOLVER.IMS_PER_BATCH", "2",
             "MODEL.RPN.POST_NMS_TOPK_TRAIN", "20", "MODEL.RPN.POST_NMS_TOPK_TEST", "20",  # res5 sees each
             DETECTRON2_DATASETS=str(voc_root))  # fmt: skip
    assert "AP50" in metrics(tmp_path)


def test_own_data_is_pruned_by_one_command_and_cut_by_another(run_tool, tmp_path):
    folder = write_voc_folder(tmp_path / "mine", {"all": [f"i{n}" for n in range(12)]}, empty=["i3"])
    small = (*SMALL[2:], "SOLVER.IMS_PER_BATCH", "4", "SOLVER.MAX_EPOCHS", "4")
    out = run_tool("train_net.py", "--config-file", "configs/voc/prune_yolov3_tiny_R18.yaml",
                   "--register", f"mine=voc:{folder}:all", *small,
                   "ADAPRUNER.KEEP_RATIO", "0.75", "OUTPUT_DIR", tmp_path / "out")  # fmt: skip
    assert "9 of 12 images kept" in out
    iterations = json.loads((tmp_path / "out/metrics.json").read_text().splitlines()[-1])["iteration"] + 1
    assert iterations == 12  # 4 epochs of 12 images in batches of 4
    selection = Selection.load(tmp_path / "out/selection")
    assert selection.reached_ratio == 0.75 and selection.provenance["classes"][""]["images"] == 1

    out = run_tool("selection.py", "cut", tmp_path / "out/selection", "--keep-ratio", "0.5",
                   "--output", tmp_path / "half")  # fmt: skip
    assert "6 of 12 images kept" in out
    half = Selection.load(tmp_path / "half")
    assert half.kept_ids("mine") < selection.kept_ids("mine")
    assert (tmp_path / "half/ImageSets/Main/mine_adapruner_0.50.txt").is_file()

    out = run_tool("selection.py", "cut", tmp_path / "half", "--keep-ratio", "0.25",
                   "--output", tmp_path / "half", expect=1)  # fmt: skip
    assert "is the selection to cut" in out and Selection.load(tmp_path / "half") == half

    run_tool("selection.py", "pictures", tmp_path / "out/selection",
             "--register", f"mine=voc:{folder}:all", "DATASETS.ON_INVALID", "skip_objects")  # fmt: skip
    assert (tmp_path / "out/selection/images.png").stat().st_size > 10_000

    out = run_tool("selection.py", "random", "--register", f"mine=voc:{folder}:all", "--seed", "3",
                   "--keep-ratio", "0.75", "--output", tmp_path / "random")  # fmt: skip
    assert "random: 9 of 12 images kept" in out


def test_broken_data_is_reported_before_training(run_tool, tmp_path):
    folder = write_voc_folder(tmp_path / "mine", {"all": [f"i{n}" for n in range(4)]})
    (folder / "JPEGImages/i1.jpg").unlink()
    (folder / "Annotations/i2.xml").write_text("<annotation><object>")
    arguments = ("--config-file", "configs/voc/train_yolov3_tiny_R50.yaml",
                 "--register", f"mine=voc:{folder}:all", "OUTPUT_DIR", tmp_path / "out")  # fmt: skip
    out = run_tool("train_net.py", *arguments, expect=1)
    assert "i1" in out and "i2.xml" in out and "DATASETS.ON_INVALID" in out
    assert "Starting training" not in out and "Traceback" not in out


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--config-file", "configs/voc/no_such.yaml"], "Config file 'configs/voc/no_such.yaml' does not exist"),
        (
            ["ADAPRUNER.KEEPRATIO", "0.8"],
            "sets ADAPRUNER.KEEPRATIO, which there is not; did you mean ADAPRUNER.KEEP_RATIO?",
        ),
        (["--config-file", ""], "--config-file is missing"),
    ],
)
def test_mistakes_in_the_command_end_with_one_line(run_tool, tmp_path, arguments, message):
    folder = write_voc_folder(tmp_path / "mine", {"all": ["i0", "i1"]})
    command = ("--config-file", "configs/bccd/prune_yolov3_tiny_R18.yaml", "--register", f"mine=voc:{folder}:all")
    out = run_tool("train_net.py", *command, *arguments, "OUTPUT_DIR", tmp_path / "out", expect=1)
    last = out.splitlines()[-1]
    assert last.startswith("train_net.py: error: ") and message in last
    assert "Traceback" not in out
