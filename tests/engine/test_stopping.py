"""Runs that are ended by signals, by the command a user would type."""

import os
import re
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from conftest import ROOT, write_voc_folder

from adapruner_det.engine import stopping
from adapruner_det.engine.stopping import Stopped, StopSignals
from adapruner_det.pruning import Selection


def command(voc, output, iterations, *options):
    return [
        sys.executable, str(ROOT / "tools/train_net.py"), "-v", *options, "--config-file", "configs/bccd/prune_yolov3_tiny_R18.yaml",
        "--register", f"data=voc:{voc}:all", "SOLVER.MAX_ITER", str(iterations), "SOLVER.IMS_PER_BATCH", "2",
        "SOLVER.WARMUP_ITERS", "0", "INPUT.MIN_SIZE_TRAIN", "(64,)", "INPUT.MIN_SIZE_TEST", "64", "SEED", "1",
        "ADAPRUNER.KEEP_RATIO", "0.5", "OUTPUT_DIR", str(output),
    ]  # fmt: skip


def start(words):
    return subprocess.Popen(
        words, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"},
    )  # fmt: skip


def read_until(process, words):
    lines = []
    for line in process.stdout:
        lines.append(line)
        if words in line:
            return lines
    raise AssertionError("".join(lines))


@pytest.mark.parametrize(
    "signum, whole_group, options, workers",
    [
        (signal.SIGTERM, True, (), 2),  # as Slurm: workers of the data loader get it, too
        (signal.SIGINT, False, ("--num-gpus", "2"), 0),  # passed on to both processes
    ],
)
def test_a_signal_ends_a_run_when_the_step_is_saved_and_says_how_to_go_on(
    tmp_path, signum, whole_group, options, workers
):
    voc = write_voc_folder(tmp_path / "voc", {"all": [f"i{n:02d}" for n in range(8)]})
    words = [
        *command(voc, tmp_path / "out", 60, *options),
        "DATALOADER.NUM_WORKERS",
        str(workers),
        "MODEL.DEVICE",
        "cpu",
    ]
    process = start(words)
    read_until(process, "iter: 19")
    (os.killpg if whole_group else os.kill)(process.pid, signum)
    said = process.communicate(timeout=120)[0]
    assert process.returncode == 128 + signum and "Traceback" not in said
    (line,) = re.findall(r"train_net.py: SIG.*", said)
    done, going_on = re.match(
        r".*: (\d+) of 60 iterations are done and saved in .*; go on with: python (.*)", line
    ).groups()
    assert 20 <= int(done) < 60
    saved = torch.load(tmp_path / f"out/model_{int(done) - 1:07d}.pth", mmap=True)
    assert saved["iteration"] == int(done) - 1 and not (tmp_path / "out/selection").exists()
    if workers:
        resumed = start([sys.executable, *shlex.split(going_on)])
        said = resumed.communicate(timeout=300)[0]
        assert resumed.returncode == 0 and f"Starting training from iteration {done}" in said
        assert Selection.load(tmp_path / "out/selection").reached_ratio == 0.5


def test_signals_wait_in_steps_end_all_else_and_end_at_once_the_second_time(monkeypatch):
    ends = []
    monkeypatch.setattr(stopping.os, "_exit", ends.append)
    with pytest.raises(Stopped) as stopped, StopSignals().caught():
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(1)
    assert stopped.value.code == 143
    with StopSignals().caught() as signals:
        signals.waits = True
        for _ in range(2):  # sent to the group, and passed on by a parent
            os.kill(os.getpid(), signal.SIGINT)
        assert signals.agreed() == signal.SIGINT and not ends
        monkeypatch.setattr(stopping, "_ONE", 0)
        os.kill(os.getpid(), signal.SIGINT)
        assert ends == [130]
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


@pytest.mark.skipif(sys.platform != "linux", reason="prctl is Linux's")
def test_workers_of_a_killed_run_are_gone(tmp_path):
    voc = write_voc_folder(tmp_path / "voc", {"all": [f"i{n:02d}" for n in range(8)]})
    options = ["DATALOADER.NUM_WORKERS", "2", "MODEL.DEVICE", "cpu"]
    process = start([*command(voc, tmp_path / "out", 10_000), *options])
    read_until(process, "iter: 19")
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    assert len(children) >= 2
    for worker in children:
        os.kill(int(worker), signal.SIGSTOP)  # as one that waits for a pipe: it cannot see that its parent is gone
    process.kill()
    process.wait()
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline and any(map(is_alive, children)):
        time.sleep(0.1)
    left = list(filter(is_alive, children))
    for worker in left:
        os.kill(int(worker), signal.SIGKILL)
    assert not left


def is_alive(pid):
    try:
        return ") Z " not in Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        return False
