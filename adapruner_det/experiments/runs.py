"""Runs that depend on each other, several at once, each of them once."""

import fcntl
import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
from typing import IO

import torch
from tqdm import tqdm

from ..files import write_text

PLAN, DONE, CONSOLE = "run.json", "done.json", "console.txt"
_POLL_SECONDS = 2.0


class RunFailedError(RuntimeError):
    """A command ended with an error; the message names its folder and shows its last lines."""


class RunChangedError(ValueError):
    """A folder holds a run of the same name with another command or config."""


@dataclass(frozen=True)
class Run:
    """One command and the folder it fills.

    Attributes:
        name: folder below the comparison's output.
        command: what to execute; it must be able to go on where it stopped when executed again.
        fingerprint: of everything the result depends on besides the command (config files, data).
        iterations: training iterations, for the progress bar; 0 if it does not train.
        after: names of runs that have to be finished first.
    """

    name: str
    command: tuple[str, ...]
    fingerprint: str = ""
    iterations: int = 0
    after: tuple[str, ...] = ()


def execute(runs: Sequence[Run], output: "str | Path", jobs: int) -> None:
    """Executes what is not done yet, `jobs` at a time, with progress and the time left.

    They start in the order of the list, but none keeps a place while it waits for others to finish.
    Finished runs are not repeated, and of their checkpoints only the last one is kept. The cores of the
    machine are shared out evenly, and so are its GPUs, where there are several: each run sees one.

    Raises:
        ValueError: two runs of one name, one that needs a run that is not listed before it, or no job at a
            time.
        RunChangedError: before anything starts.
        RunFailedError: the first failure; runs under way are waited for, no other is started.
    """
    output = Path(output)
    if jobs < 1 or len({run.name for run in runs}) < len(runs):
        raise ValueError(f"{jobs} jobs at a time, or two runs of the same name: {_names(runs)}")
    _check_order(runs)
    for run in runs:
        _check_unchanged(run, output / run.name)
    with ThreadPoolExecutor(jobs) as pool, _progress(runs, output) as bar:
        _execute_all(runs, output, jobs, pool, bar)


def _check_order(runs: Sequence[Run]) -> None:
    before: set[str] = set()
    for run in runs:
        missing = set(run.after) - before
        if missing:
            raise ValueError(f"{run.name} needs {sorted(missing)}, not listed before it")
        before.add(run.name)


def _execute_all(runs: Sequence[Run], output: Path, jobs: int, pool: ThreadPoolExecutor, bar: tqdm) -> None:
    """Starts whatever can start as places become free; what is under way is left to the pool."""
    places: SimpleQueue = SimpleQueue()  # one for each job; whoever runs has taken one
    for environment in _environments(jobs):
        places.put(environment)
    waiting, under_way, finished = list(runs), {}, set()
    while waiting or under_way:
        ready = [run for run in waiting if finished.issuperset(run.after)]
        for run in ready[: jobs - len(under_way)]:
            waiting.remove(run)
            under_way[pool.submit(_execute_one, run, output / run.name, places)] = run
        for future in wait(under_way, _POLL_SECONDS, FIRST_COMPLETED).done:
            finished.add(_result(future, under_way.pop(future)))
        bar.set_postfix_str(f"{len(finished)} of {len(runs)} runs finished", refresh=False)
        bar.update(sum(_iterations_done(run, output / run.name) for run in runs) - bar.n)


def _environments(jobs: int) -> list[dict[str, str]]:
    """What each of the jobs has in its environment besides what is there: its share of cores and GPUs."""
    threads = max(1, (os.cpu_count() or 1) // jobs)
    shared = {"OMP_NUM_THREADS": str(threads), "PYTHONWARNINGS": "ignore"}
    gpus = _visible_gpus()
    if len(gpus) < 2:
        return [shared] * jobs
    return [{**shared, "CUDA_VISIBLE_DEVICES": gpus[job % len(gpus)]} for job in range(jobs)]


def _visible_gpus() -> list[str]:
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is None:
        return [str(number) for number in range(torch.cuda.device_count())]
    return [name.strip() for name in visible.split(",") if name.strip()]


def _result(future: Future, run: Run) -> str:
    """The name of a run that finished; its error, if it failed."""
    try:
        future.result()
    except BaseException as error:
        tqdm.write(f"failed: {run.name} ({error.__class__.__name__}); waiting for what is under way")
        raise
    return run.name


def seconds_of(folder: "str | Path") -> float:
    """Wall-clock seconds that a finished run took, over all its attempts."""
    return json.loads((Path(folder) / DONE).read_text())["seconds"]


def _check_unchanged(run: Run, folder: Path) -> None:
    plan = folder / PLAN
    if not plan.exists():
        return
    there, asked = json.loads(plan.read_text())["identity"], _identity(run)
    if there != asked:
        raise RunChangedError(
            f"{folder} holds a run with {_difference(there, asked)}: results of both must not be mixed. Choose "
            "another --output, or delete that folder"
        )


def _difference(there: dict, asked: dict) -> str:
    """What two identities differ in: the words of their commands that the other has not, if there are any."""
    was, now = there["command"], asked["command"]
    if was == now:
        return "the same command, but other settings in its config file or other data, than asked for now"
    gone, come = (" ".join(w for w in a if w not in b) or "nothing" for a, b in ((was, now), (now, was)))
    return f"another command than asked for now ({gone} there, {come} now)"


def _names(runs: Sequence[Run]) -> list[str]:
    return sorted(run.name for run in runs)


def _identity(run: Run) -> dict:
    return {"command": list(run.command), "fingerprint": run.fingerprint}


def _execute_one(run: Run, folder: Path, places: SimpleQueue) -> None:
    if not (folder / DONE).exists():
        environment = places.get()
        try:
            seconds = _call(run, folder, environment)
        finally:
            places.put(environment)
        write_text(folder / DONE, json.dumps({"seconds": round(seconds, 1)}) + "\n")
    _drop_checkpoints(folder)  # also those of a version that kept them


def _drop_checkpoints(folder: Path) -> None:
    """Deletes what was there to go on from; model_final.pth stays. A hundred runs would fill a disk."""
    for path in folder.rglob("model_[0-9]*.pth"):
        path.unlink()


def _spent(folder: Path) -> float:
    """Seconds of earlier attempts; one that was killed lasted until its last word."""
    if not (folder / PLAN).exists():
        return 0.0
    plan = json.loads((folder / PLAN).read_text())
    return plan["seconds"] + max(0.0, (folder / CONSOLE).stat().st_mtime - plan["started"])


def _call(run: Run, folder: Path, environment: dict[str, str]) -> float:
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / CONSOLE, "ab") as console:
        _lock(console, folder)
        spent, start = _spent(folder), time.time()
        _write_plan(run, folder, spent)
        status = subprocess.call(
            run.command,
            stdin=subprocess.DEVNULL,
            stdout=console,
            stderr=console,
            env={**os.environ, **environment},
        )
    seconds = spent + time.time() - start
    if status:
        _write_plan(run, folder, seconds)
        tail = (folder / CONSOLE).read_text(errors="replace").splitlines()[-12:]
        raise RunFailedError(
            f"{' '.join(run.command)}\nended with status {status}; last lines of {folder / CONSOLE}:\n"
            + "\n".join(tail)
            + "\nRun the same command again to go on where this one stopped."
        )
    return seconds


def _write_plan(run: Run, folder: Path, seconds: float) -> None:
    """Notes what runs here, the seconds spent before, and now."""
    plan = {"identity": _identity(run), "seconds": seconds, "started": time.time()}
    write_text(folder / PLAN, json.dumps(plan, indent=1))


def _lock(console: IO, folder: Path) -> None:
    """Holds the folder until the file is closed, by us and by the command that writes to it too.

    So a command that outlived its killed parent keeps others out.
    """
    try:
        fcntl.flock(console, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise RunFailedError(
            f"{folder} is in use: another comparison, or a command of one that was killed, still runs "
            "there. Wait for it or stop it"
        ) from error


def _progress(runs: Sequence[Run], output: Path) -> tqdm:
    """Counts iterations trained of all iterations."""
    total = sum(run.iterations for run in runs)
    done = sum(_iterations_done(run, output / run.name) for run in runs)
    every = 1 if sys.stderr.isatty() else 30  # seconds; a log file need not hold every step
    return tqdm(total=total, initial=done, unit="it", desc="training", mininterval=every)


def _iterations_done(run: Run, folder: Path) -> int:
    if (folder / DONE).exists():
        return run.iterations
    metrics = folder / "metrics.json"  # a line every 20 iterations, by Detectron2's JSONWriter
    if not run.iterations or not metrics.exists():
        return 0
    lines = metrics.read_text(errors="replace").splitlines()
    for line in reversed(lines):
        try:
            return min(run.iterations, json.loads(line)["iteration"] + 1)
        except (ValueError, KeyError):
            continue  # the line being written
    return 0
