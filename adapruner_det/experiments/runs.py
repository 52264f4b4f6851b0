"""Runs that depend on each other, several at once, each of them once."""

import fcntl
import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import closing
from dataclasses import dataclass
from graphlib import TopologicalSorter
from pathlib import Path
from typing import IO

import torch
from tqdm import tqdm

from .. import __version__
from ..engine.console import Progress
from ..files import write_text
from . import processes

_FIRST = "0.1.0"  # the version that did not say so
PLAN, DONE, CONSOLE = "run.json", "done.json", "console.txt"
_POLL_SECONDS = 2.0


class RunFailedError(RuntimeError):
    """A command ended with an error; the message names its folder and shows its last lines."""


class RunChangedError(ValueError):
    """A folder holds a run of the same name with another command or config, or of another version."""


@dataclass(frozen=True)
class Run:
    """One command and the folder it fills.

    Attributes:
        name: folder below the comparison's output.
        command: what to execute; it must be able to go on where it stopped when executed again.
        fingerprint: of everything the result depends on besides the command (config files, data, weights).
        iterations: training iterations, for the progress bar; 0 if it does not train.
        after: names of runs that have to be finished first; each is among those executed.
        anew: words behind the command that let it replace what an earlier attempt left; no result depends on them.
    """

    name: str
    command: tuple[str, ...]
    fingerprint: str = ""
    iterations: int = 0
    after: tuple[str, ...] = ()
    anew: tuple[str, ...] = ()


def execute(runs: Sequence[Run], output: "str | Path", jobs: int) -> None:
    """Executes what is not done yet, `jobs` at a time, with progress and the time left.

    They start in the order of the list, but none keeps a place while it waits for others to finish.
    Finished runs are not repeated, and of their checkpoints only the last one is kept. The cores of the
    machine are shared out evenly, and so are its GPUs, where there are several: each run sees one.

    Raises:
        RunChangedError: before anything starts.
        RunFailedError: the first failure; runs under way are waited for, no other is started.
    """
    output = Path(output)
    for run in runs:
        _check_unchanged(run, output / run.name)
    total = sum(run.iterations for run in runs)
    with ThreadPoolExecutor(jobs) as pool, closing(Progress(total, _done(runs, output), file=sys.stderr)) as progress:
        _execute_all(runs, output, jobs, pool, progress)


def _execute_all(runs: Sequence[Run], output: Path, jobs: int, pool: ThreadPoolExecutor, progress: Progress) -> None:
    """Starts whatever can start as places become free; what is under way is left to the pool."""
    places = _environments(jobs)  # whoever runs has taken one
    by_name, order = {run.name: run for run in runs}, TopologicalSorter({run.name: run.after for run in runs})
    order.prepare()
    ready: list[str] = []
    finished = 0
    under_way: dict[Future, tuple[Run, dict[str, str]]] = {}
    while order.is_active():
        ready = sorted([*ready, *order.get_ready()], key=list(by_name).index)
        while ready and places:
            run, place = by_name[ready.pop(0)], places.pop(0)
            under_way[pool.submit(_execute_one, run, output / run.name, place)] = run, place
        for future in wait(under_way, _POLL_SECONDS, FIRST_COMPLETED).done:
            run, place = under_way.pop(future)
            if error := future.exception():
                tqdm.write(f"failed: {run.name} ({error.__class__.__name__}); waiting for what is under way")
                raise error
            order.done(run.name)
            places.append(place)
            finished += 1
        progress.phase("training", f"{finished} of {len(runs)} runs finished")
        progress.advance(_done(runs, output) - progress.done)


def _environments(jobs: int) -> list[dict[str, str]]:
    """What each of the jobs has in its environment besides what is there: its share of cores, unless that is set, and GPUs."""
    threads = os.environ.get("OMP_NUM_THREADS") or str(max(1, (os.cpu_count() or 1) // jobs))
    shared = {"OMP_NUM_THREADS": threads, "PYTHONWARNINGS": "ignore", "TQDM_DISABLE": "1"}
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    names = map(str, range(torch.cuda.device_count())) if visible is None else visible.split(",")
    gpus = [name.strip() for name in names if name.strip()]
    if len(gpus) < 2:
        return [shared] * jobs
    return [{**shared, "CUDA_VISIBLE_DEVICES": gpus[job % len(gpus)]} for job in range(jobs)]


def seconds_of(folder: "str | Path") -> float:
    """Wall-clock seconds that a finished run took, over all its attempts."""
    return json.loads((Path(folder) / DONE).read_text())["seconds"]


def _identity(run: Run) -> dict:
    return {"command": _without_places(run.command), "fingerprint": run.fingerprint, "version": __version__}


def _without_places(command: Sequence[str]) -> list[str]:
    """The command without the interpreter and the folder of its script, which results do not depend on."""
    script = next((at for at, word in enumerate(command) if word.endswith(".py")), 0)
    return [Path(command[script]).name, *command[script + 1 :]]


def _check_unchanged(run: Run, folder: Path) -> None:
    if not (folder / PLAN).exists():
        return
    there, asked = json.loads((folder / PLAN).read_text())["identity"], _identity(run)
    there["command"] = _without_places(there["command"])
    if there == asked:
        return
    difference = (
        "the same command, but other settings in its config file, other data or other weights, than asked for now"
    )
    was, now = there["command"], asked["command"]
    if there.get("version", _FIRST) != __version__:
        difference = f"results of version {there.get('version', _FIRST)} of this package, and this is {__version__}"
    elif was != now:
        gone, come = (" ".join(w for w in a if w not in b) or "nothing" for a, b in ((was, now), (now, was)))
        difference = f"another command than asked for now ({gone} there, {come} now)"
    raise RunChangedError(
        f"{folder} holds a run with {difference}: results of both must not be mixed. Choose another --output, or "
        "delete that folder"
    )


def _execute_one(run: Run, folder: Path, environment: dict[str, str]) -> None:
    _check_unchanged(run, folder)  # another comparison may have finished it meanwhile
    if not (folder / DONE).exists():
        seconds = _call(run, folder, environment)
        write_text(folder / DONE, json.dumps({"seconds": round(seconds, 1)}) + "\n")
    for path in folder.rglob("model_[0-9]*.pth"):  # model_final.pth stays; those of a hundred runs would fill a disk
        path.unlink()


def _call(run: Run, folder: Path, environment: dict[str, str]) -> float:
    """Executes the command; returns the seconds of all its attempts."""
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / CONSOLE, "ab") as console:
        try:  # the command holds the lock too: one that outlives its killed parent keeps others out
            fcntl.flock(console, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise RunFailedError(
                f"{folder} is in use: another comparison, or a command of one that was killed, still runs "
                "there. Wait for it or stop it"
            ) from error
        spent, start = _spent(folder), time.time()
        _write_plan(run, folder, spent)
        try:
            status = _status((*run.command, *run.anew), console, environment)
        except OSError as error:
            raise RunFailedError(f"{' '.join(run.command)}: {error}. Run the same command again to go on") from error
    seconds = spent + time.time() - start
    if status:
        _write_plan(run, folder, seconds)
        tail = "\n".join((folder / CONSOLE).read_text(errors="replace").splitlines()[-12:])
        raise RunFailedError(
            f"{' '.join(run.command)}\nended with status {status}; last lines of {folder / CONSOLE}:\n{tail}\n"
            "Run the same command again to go on where this one stopped."
        )
    return seconds


def _is_forked(command: Sequence[str]) -> bool:
    return Path(command[1]).parent == processes.COMMANDS


def _status(command: Sequence[str], console: IO[bytes], environment: dict[str, str]) -> int:
    if _is_forked(command):
        return processes.call(command, console.fileno(), environment)
    return subprocess.call(
        command, stdin=subprocess.DEVNULL, stdout=console, stderr=console, env={**os.environ, **environment}
    )


def _spent(folder: Path) -> float:
    """Seconds of earlier attempts; one that was killed lasted until its last word."""
    if not (folder / PLAN).exists():
        return 0.0
    plan = json.loads((folder / PLAN).read_text())
    return plan["seconds"] + max(0.0, (folder / CONSOLE).stat().st_mtime - plan["started"])


def _write_plan(run: Run, folder: Path, seconds: float) -> None:
    """Notes what runs here, the seconds spent before, and now."""
    plan = {"identity": _identity(run), "seconds": seconds, "started": time.time()}
    write_text(folder / PLAN, json.dumps(plan, indent=1))


def _done(runs: Sequence[Run], output: Path) -> int:
    """Iterations trained of all runs."""
    return sum(_iterations_done(run, output / run.name) for run in runs)


def _iterations_done(run: Run, folder: Path) -> int:
    if (folder / DONE).exists():
        return run.iterations
    metrics = folder / "metrics.json"  # a line every 20 iterations, by Detectron2's JSONWriter
    if not run.iterations or not metrics.exists():
        return 0
    for line in reversed(metrics.read_text(errors="replace").splitlines()):
        try:
            return min(run.iterations, json.loads(line)["iteration"] + 1)
        except (ValueError, KeyError):
            continue  # the line being written
    return 0
