"""OUTPUT_DIR belongs to one run."""

import logging
import subprocess
import sys

import pytest
from conftest import ROOT

from adapruner_det.data.selection_lists import write_selection
from adapruner_det.engine import load_config
from adapruner_det.engine.checkpoint import newest_checkpoint
from adapruner_det.engine.run_folder import LOCK, check_settings, clear, enter, settings_of
from adapruner_det.pruning import Selection

HOLD = f"""
import fcntl, sys
file = open(sys.argv[1] + "/{LOCK}", "a")
fcntl.lockf(file, fcntl.LOCK_EX)
print("held", flush=True)
sys.stdin.read()
"""


def fill(folder, *names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(name)


RUN, SELECTION = ("last_checkpoint", "model_final.pth", "metrics.json"), ("selection/selection.json",)


@pytest.mark.parametrize(
    "files, resume, overwrite, message",
    [
        ((), False, False, None),
        (("notes.txt", "config.yaml", "plan.json", "console.txt"), False, False, None),
        ((), True, False, None),
        (RUN, True, False, None),
        ((*RUN, *SELECTION), True, False, None),
        ((*RUN, *SELECTION), False, True, None),  # it is replaced when the new run can start
        (RUN, False, False, "holds another run: go on with it by --resume, name another OUTPUT_DIR, or replace it with --ov"),
        (("model_0000003.pth",), False, False, "holds another run"),
        ((*RUN, *SELECTION), False, False, "holds another run and a finished selection"),
        (SELECTION, True, False, "holds a finished selection: name another OUTPUT_DIR, or replace it with --overwrite"),
    ],
)  # fmt: skip
def test_another_run_is_not_replaced_without_a_word(tmp_path, files, resume, overwrite, message):
    fill(tmp_path, *files)
    if message:
        with pytest.raises(ValueError, match=message):
            enter(tmp_path, resume, overwrite)
    else:
        enter(tmp_path, resume, overwrite)
    left = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()} - {LOCK}
    assert left == set(files)


def test_only_the_main_process_removes_the_old_run(tmp_path, monkeypatch):
    fill(tmp_path, *RUN)
    monkeypatch.setattr("detectron2.utils.comm.get_rank", lambda: 1)
    clear(tmp_path)
    assert all((tmp_path / name).read_text() == name for name in RUN)


def test_of_a_run_that_is_overwritten_nothing_is_left_that_could_be_taken_for_the_new_one(tmp_path):
    columns = {"boxes_by_class": [[1], [1]]}
    selection = Selection(
        ["data"] * 2, ["a", "b"], [1.0, 0.0], [True, False], 0.5, "adapruner", columns, {"class_names": ["x"]}
    )
    write_selection(selection, tmp_path / "selection")
    fill(tmp_path, *RUN, "model_0000003.pth", "early.pth", "dynamics.npz", "proxy.json", "network_1/early.pth",
         "statistics/el2n.npz", "inference/data/evaluation.json", "events.out.tfevents.1",
         *(f"selection/{name}" for name in ("report.html", "thumbnails/0.jpg", "doubtful_labels.csv", "images.png")))  # fmt: skip
    mine = {"notes.txt", "log.txt", "selection/corrections.csv", "selection/mine/a.jpg"}
    fill(tmp_path, *mine)
    with open(tmp_path / "metrics.json", "a") as writer:  # as a trainer has it open
        clear(tmp_path)
        writer.write("new")
    left = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()}
    assert left == {"metrics.json"} | {name.replace("selection/", "selection_before_1/") for name in mine}
    assert (tmp_path / "metrics.json").read_text() == "new"
    assert not (tmp_path / "selection_before_1/thumbnails").exists()
    clear(tmp_path)  # again changes nothing
    assert (tmp_path / "selection_before_1/corrections.csv").is_file() and not (tmp_path / "selection").exists()


def test_what_no_run_has_left_is_no_run_and_stays(tmp_path):
    mine = {"model_coco.pth", "inference/mine.py", "inference/data/mine.py", "statistics/mine.py", "network_configs/mine.py",
            "early.pth", "train.py"}  # fmt: skip
    fill(tmp_path, *mine)
    enter(tmp_path, resume=False, overwrite=False)
    assert newest_checkpoint(tmp_path) == (None, "")
    fill(tmp_path, *RUN, "inference/test/evaluation.json", "inference/half/per_class_ap.csv")  # one was killed
    clear(tmp_path)
    left = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()} - {LOCK, "metrics.json"}
    assert left == mine


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    with pytest.raises(ValueError, match="OUTPUT_DIR is empty: name a folder"):
        enter("", resume=False, overwrite=False)
    fill(tmp_path, "file")
    with pytest.raises(
        ValueError, match="OUTPUT_DIR '.*file/out' cannot be made .Not a directory.: name another folder"
    ):
        enter(tmp_path / "file/out", resume=False, overwrite=False)


def test_two_runs_do_not_go_on_in_one_folder(tmp_path):
    command = [sys.executable, "-c", HOLD, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout.readline() == b"held\n"
        for _ in range(2):
            with pytest.raises(
                ValueError, match="is in use by another run: wait for it, stop it, or name another OUTPUT_D"
            ):
                enter(tmp_path, resume=True, overwrite=False)
        other.kill()  # who is killed holds nothing
    enter(tmp_path, resume=True, overwrite=False)
    enter(tmp_path, resume=True, overwrite=False)  # its own lock


def test_what_dead_runs_left_is_swept_and_nothing_else(tmp_path):
    dead = (".selection.x1.tmp/half.json", ".model_0000004.pth.77.tmp", ".last_checkpoint.77.tmp",
            "inference/data/.evaluation.json.77.tmp", ".selection.old.y2.tmp/selection/.thumbnails.x3.tmp/0.jpg")  # fmt: skip
    alive = (".other.x.tmp/selection.json", "notes.tmp", "selection.tmp", "inference/data/evaluation.json")
    fill(tmp_path, *dead, *alive, ".selection.old.y2.tmp/selection/selection.json")
    enter(tmp_path, resume=True, overwrite=True)
    left = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()} - {LOCK}
    assert left == {*alive, "selection/selection.json"}  # which was being replaced


TRAINING, PRUNING = "configs/voc/train_yolov3_tiny_R50.yaml", "configs/voc/prune_yolov3_tiny_R50.yaml"


@pytest.mark.parametrize(
    "config, changes, refused",
    [
        (TRAINING, {"SEED": 3}, "SEED was 0, is 3"),
        (TRAINING, {"SOLVER.BASE_LR": 0.5, "INPUT.MIN_SIZE_TRAIN": (64,)},
         r"INPUT.MIN_SIZE_TRAIN was \[.*\], is \[64\]; SOLVER.BASE_LR was 0.01, is 0.5. Use those again"),
        (TRAINING, {"ADAPRUNER.ENABLED": True}, "ADAPRUNER.ENABLED was False, is True"),
        (TRAINING, {"SOLVER.STEPS": (3,)}, "SOLVER.STEPS was"),
        ("", {"SOLVER.MAX_ITER": 7}, None),
        (TRAINING, {"SOLVER.MAX_ITER": 7}, "SOLVER.MAX_ITER was"),  # its learning rate goes by it, as a cosine
        (TRAINING, {"INPUT.MIN_SIZE_TEST": 64, "TEST.DETECTIONS_PER_IMAGE": 3, "ADAPRUNER.KEEP_RATIO": 0.5}, None),
        (PRUNING, {"SOLVER.MAX_ITER": 7}, "SOLVER.MAX_ITER was"),
        (PRUNING, {"INPUT.MIN_SIZE_TEST": 64}, "INPUT.MIN_SIZE_TEST was"),
        (PRUNING, {"ADAPRUNER.RANDOM": 0.5}, "ADAPRUNER.RANDOM was 0.2, is 0.5"),
        (PRUNING, {"OUTPUT_DIR": "x", "DATALOADER.NUM_WORKERS": 9, "MODEL.DEVICE": "cpu:0", "VIS_PERIOD": 5,
                   "SOLVER.CHECKPOINT_PERIOD": 3, "TEST.EVAL_PERIOD": 9}, None),
    ],
)  # fmt: skip
def test_other_settings_are_refused_by_name_if_they_change_the_result_and_said_if_not(caplog, config, changes, refused):
    cfg = load_config(config and str(ROOT / config))
    was = settings_of(cfg)
    cfg.merge_from_list([part for pair in changes.items() for part in pair])
    with caplog.at_level(logging.INFO):
        if refused:
            with pytest.raises(ValueError, match=f"--resume with other settings than the run in .*{refused}"):
                check_settings(was, cfg)
        else:
            check_settings(was, cfg)
            assert all(key in caplog.text for key in changes)
