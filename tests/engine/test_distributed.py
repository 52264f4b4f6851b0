"""Two processes prune as one does, by the command a user would type."""

import json
import multiprocessing
import os
import shutil
import subprocess
import sys
import time
import weakref
from argparse import Namespace
from contextlib import nullcontext
from datetime import timedelta
from importlib import import_module

import numpy as np
import pytest
import torch
from conftest import ROOT, write_voc_folder
from detectron2.config import get_cfg
from detectron2.engine.launch import _find_free_port as free_port
from detectron2.utils import comm

from adapruner_det.data.serialized_records import SerializedRecords
from adapruner_det.engine import distributed, hooks
from adapruner_det.engine.distributed import leave_process_groups, patient_group, synchronise_statistics
from adapruner_det.engine.trainer import AdaPrunerTrainer
from adapruner_det.pruning import RatioNotReachedError, Selection

IDS = [f"img{i:02d}" for i in range(20)]
# GroupNorm, as BatchNorm's statistics are of a process's own half of the batch. The learning rate is low
# since training at full speed amplifies the rounding of sums; twice as high it would change losses by 7%.
TINY = (
    *("--config-file", "configs/Base-YOLOv3-Tiny-R18.yaml"),
    *("MODEL.RESNETS.NORM", "GN", "MODEL.YOLO.NORM", "GN", "INPUT.MIN_SIZE_TRAIN", "(64,)"),
    *("INPUT.MIN_SIZE_TEST", "64", "SOLVER.AMP.ENABLED", "False", "SOLVER.IMS_PER_BATCH", "4"),
    *("SOLVER.MAX_ITER", "20", "SOLVER.WARMUP_ITERS", "0", "SOLVER.BASE_LR", "0.0004"),
    *("DATALOADER.NUM_WORKERS", "0", "SOLVER.CHECKPOINT_PERIOD", "10"),
)


@pytest.fixture(scope="module")
def voc(tmp_path_factory):
    return write_voc_folder(tmp_path_factory.mktemp("voc"), {"train": IDS, "test": IDS[:5]})


def prune(run_tool, voc, output, *options, workers=0):
    run_tool("train_net.py", *options, "--register", f"data=voc:{voc}:train", *TINY,
             "ADAPRUNER.ENABLED", "True", "ADAPRUNER.KEEP_RATIO", "0.7", "OUTPUT_DIR", output, "DATALOADER.NUM_WORKERS", workers,
             OMP_NUM_THREADS="1")  # fmt: skip
    return Selection.load(output / "selection")


@pytest.fixture(scope="module")
def both(voc, tmp_path_factory, run_tool):
    output = tmp_path_factory.mktemp("out")
    one = prune(run_tool, voc, output / "one")
    return one, prune(run_tool, voc, output / "two", "--num-gpus", "2"), output


def test_two_processes_at_half_the_batch_prune_the_same_images_as_one(both):
    one, two, _ = both
    assert one.ids == two.ids and one.kept == two.kept
    assert np.ptp(one.columns["against_redundancy"]) > 0.01  # the mask has something to go by beside the draw
    # Channels-last convolutions round by the size of the batch: of losses 0.1% is another, of what is said against an
    # image up to 0.2 (AVX-512) where it counts at all: doubts and whitened features are steep.
    assert np.corrcoef(two.scores, one.scores)[0, 1] > 0.98
    np.testing.assert_allclose(two.scores, one.scores, atol=0.25)
    assert two.columns["reason"] == one.columns["reason"] and two.columns["similar_to"] == one.columns["similar_to"]
    assert two.columns["visits"] == one.columns["visits"]
    for column in ("mean_loss", "mean_loss_obj", "mean_loss_cls", "last_loss", "final_loss"):
        np.testing.assert_allclose(two.columns[column], one.columns[column], rtol=5e-3)


def test_torchrun_s_processes_are_those_of_launch(both, voc, tmp_path):
    _, two, _ = both
    command = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--nproc-per-node",
        "2",
        "--master-port",
        str(free_port()),
    ]
    subprocess.run(
        [*command, "tools/train_net.py", "--register", f"data=voc:{voc}:train", *TINY, "ADAPRUNER.ENABLED", "True",
         "ADAPRUNER.KEEP_RATIO", "0.7", "OUTPUT_DIR", str(tmp_path)],
        cwd=ROOT, env={**os.environ, "OMP_NUM_THREADS": "1"}, check=True,
    )  # fmt: skip
    run = Selection.load(tmp_path / "selection")
    assert run.kept == two.kept and run.scores == two.scores


def test_two_processes_resumed_with_workers_end_with_the_same_scores(both, voc, run_tool):
    """To the last bit, which one process has otherwise: it sums the losses and gradients in another order."""
    one, two, output = both
    shutil.copytree(output / "two", output / "again")
    shutil.rmtree(output / "again/selection")
    for name in ("last_checkpoint", "model_final.pth", "model_0000019.pth"):  # as if killed after half of it
        (output / "again" / name).unlink()
    again = prune(run_tool, voc, output / "again", "--resume", "--num-gpus", "2", workers=2)
    assert again.scores == two.scores and again.kept == two.kept == one.kept
    assert "Starting training from iteration 10" in (output / "again/log.txt").read_text()


def test_two_processes_resume_and_evaluate(both, voc, run_tool):
    """Training on the selection, stopped and resumed, ends in the same evaluation by one process."""
    _, _, output = both
    arguments = ("--register", f"data=voc:{voc}:train", "--register", f"data_test=voc:{voc}:test")
    train = (*arguments, "--selection", output / "two/selection", *TINY, "OUTPUT_DIR", output / "train",
             "SOLVER.LR_SCHEDULER_NAME", "WarmupMultiStepLR")  # fmt: skip
    run_tool("train_net.py", "--num-gpus", "2", *train, "SOLVER.MAX_ITER", "4", OMP_NUM_THREADS="1")
    out = run_tool("train_net.py", "--num-gpus", "2", "--resume", *train, "SOLVER.MAX_ITER", "8",
                   OMP_NUM_THREADS="1")  # fmt: skip
    assert "Starting training from iteration 4" in out
    evaluated = output / "train/inference/data_test/evaluation.json"
    by_two = json.loads(evaluated.read_text())["bbox"]
    run_tool("train_net.py", "--eval-only", *train, "MODEL.WEIGHTS", output / "train/model_final.pth")
    assert json.loads(evaluated.read_text())["bbox"] == pytest.approx(by_two, nan_ok=True)


def in_two_processes(work, folder):
    """Forked, since importing torch and Detectron2 anew takes most of a spawned process's time."""
    torch.multiprocessing.start_processes(work, (folder,), nprocs=2, start_method="fork")


def _synchronised(rank, folder):
    """What one of two processes has after tests and after it, of other statistics before; and what is left of its groups."""
    store = f"file://{folder}/store"
    torch.distributed.init_process_group("gloo", init_method=store, rank=rank, world_size=2)
    model = torch.nn.BatchNorm1d(1)
    for buffer in model.buffers():
        buffer.fill_(rank + 2)
    model.loss_normalizer = 10.0 * (rank + 1)
    cfg = get_cfg()
    cfg.DATASETS.TEST = ()
    AdaPrunerTrainer.test(cfg, model)
    tested = [float(buffer) for buffer in model.buffers()] + [model.loss_normalizer]
    model.running_mean.fill_(rank + 2)
    synchronise_statistics(model)
    statistics = [float(buffer) for buffer in model.buffers()] + [model.loss_normalizer]
    comm.create_local_process_group(2)
    groups = [weakref.ref(group) for group in (torch.distributed.group.WORLD, comm.get_local_process_group())]
    cycle = [torch.nn.parallel.DistributedDataParallel(model)]  # which has a group, and goes with the garbage alone
    cycle.append(cycle)
    del cycle
    leave_process_groups()
    (folder / str(rank)).write_text(str([tested, *statistics, *(group() for group in groups)]))


def test_running_statistics_become_those_of_the_main_process_and_no_group_is_left(tmp_path):
    in_two_processes(_synchronised, tmp_path)
    for rank, normalizer in enumerate((10.0, 20.0)):  # of losses, which go on as they are when a model is tested
        expected = [[2.0, 2.0, 2.0, normalizer], 2.0, 2.0, 2.0, 10.0, None, None]
        assert (tmp_path / str(rank)).read_text() == str(expected)


def _waited(rank, folder):
    """One of two processes whose messages may take a second, of which the main one works for three."""
    options = {"rank": rank, "world_size": 2, "timeout": timedelta(seconds=1)}
    torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/store", **options)
    with patient_group():  # a barrier alone fails here
        if rank == 0:
            time.sleep(3)
            (folder / "selection").write_text("written")
    comm.synchronize()
    (folder / str(rank)).write_text((folder / "selection").read_text())
    leave_process_groups()


def test_the_others_wait_for_the_main_process_as_long_as_it_writes(tmp_path):
    in_two_processes(_waited, tmp_path)
    assert [(tmp_path / rank).read_text() for rank in "01"] == ["written"] * 2


def _left_alone(rank, folder):
    """One of two processes, of which the other ends in the middle of the run."""
    store = f"file://{folder}/store"
    torch.distributed.init_process_group("gloo", init_method=store, rank=rank, world_size=2)
    comm.synchronize()
    if rank == 1:
        os._exit(0)
    tool = import_module("adapruner_det.commands.train_net")
    tool.work = lambda args: torch.distributed.all_reduce(torch.ones(1))
    try:
        tool.run(Namespace(resume=False, eval_only=False))
    except SystemExit as ended:
        (folder / "said").write_text(str(ended))
        os._exit(0)  # there is nobody to leave groups with


def test_a_process_that_is_lost_ends_the_others_with_one_line(tmp_path):
    in_two_processes(_left_alone, tmp_path)
    said = (tmp_path / "said").read_text()
    assert "another process of this run is gone" in said and said.endswith("--resume")


@pytest.mark.parametrize(
    "error, ends",
    [(RuntimeError, RuntimeError), (FloatingPointError, SystemExit), (RatioNotReachedError, SystemExit)],
)
def test_other_errors_are_not_taken_for_a_lost_process(monkeypatch, error, ends):
    tool = import_module("adapruner_det.commands.train_net")

    def work(args):
        raise error("too much")

    monkeypatch.setattr(tool, "work", work)
    with pytest.raises(ends, match="too much"):
        tool.run(Namespace(resume=False, eval_only=False))


def test_each_process_of_train_net_forks_workers_and_leaves_its_groups_when_it_is_done(monkeypatch):
    tool, calls = import_module("adapruner_det.commands.train_net"), []
    monkeypatch.setattr(tool, "run", lambda args: calls.extend([args, multiprocessing.get_start_method()]))
    monkeypatch.setattr("adapruner_det.engine.distributed.leave_process_groups", lambda: calls.append("left"))
    multiprocessing.set_start_method("spawn", force=True)  # as a process finds it that is spawned itself
    tool.main_of_each_process("args")
    assert calls == ["args", multiprocessing.get_all_start_methods()[0], "left"]


def test_different_masks_are_refused(monkeypatch):
    hooks.check_same_mask(torch.ones(3))
    monkeypatch.setattr(hooks.comm, "all_gather", lambda digest: [digest, "another"])
    with pytest.raises(RuntimeError, match="the processes hold different masks"):
        hooks.check_same_mask(torch.ones(3))


def test_the_first_process_of_a_machine_reads_and_the_others_map_what_it_has(monkeypatch, tmp_path):
    """Both sides of the exchange in turn: what the first tells is what the second is told."""
    told, records = [], SerializedRecords([{"image_id": i} for i in range(3)])
    monkeypatch.setattr(distributed, "patient_group", lambda: nullcontext())
    monkeypatch.setattr(comm, "get_local_size", lambda: 2)

    def take(rank, load):
        def gathered(shared, group):
            if rank:
                return told[-1]
            if shared:  # the first one removes its own file
                shared = shared[0], shutil.copy(shared[1], tmp_path / "kept.npy")
            told.append([shared, None])
            return told[-1]

        monkeypatch.setattr(comm, "get_local_rank", lambda: rank)
        monkeypatch.setattr(comm, "get_rank", lambda: rank)
        monkeypatch.setattr(comm, "all_gather", gathered)
        return distributed.once_a_machine(load)

    assert take(0, lambda: records) is records
    assert take(1, lambda: pytest.fail("read twice")) == records
    assert take(0, lambda: [{"image_id": 5}]) == take(1, lambda: [{"image_id": 5}])
    with pytest.raises(ValueError, match="broken"):
        take(0, lambda: int("broken"))
    assert take(1, lambda: "its own error") == "its own error"
