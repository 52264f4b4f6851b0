"""Commands of this package as processes that are forked from one which has imported everything.

The imports take longer than many a command. Nothing else has happened in the process that is forked: no thread runs in it and
no GPU is in use.
"""

import multiprocessing
import os
import sys
import threading
import warnings
from collections.abc import Mapping, Sequence
from importlib import import_module
from multiprocessing.connection import wait
from multiprocessing.forkserver import ensure_running
from multiprocessing.reduction import DupFd
from pathlib import Path

import torch

COMMANDS = Path(__file__).resolve().parents[1] / "commands"
_PACKAGE = f"{__package__.partition('.')[0]}.commands"
_IMPORTED = (
    *(f"{_PACKAGE}.{name}" for name in ("train_net", "score", "selection")),
    *("sklearn.neighbors", "sklearn.decomposition", "sklearn.isotonic", "scipy.optimize"),
)
_context = multiprocessing.get_context("forkserver")
_lock = threading.Lock()  # multiprocessing takes note of ended processes whenever one starts, in whatever thread


def call(command: Sequence[str], console: int, environment: Mapping[str, str], folder: "str | Path" = ".") -> int:
    """The exit status of a command of this package, below 0 if a signal ended it, as `subprocess.call` gives it.

    Args:
        command: Python, the command's file, of this name in the package's `commands`, and arguments.
        console: file descriptor that its output goes to.
        environment: on top of this process's. What libraries read when they are imported is as in the first call.
        folder: where it runs.
    """
    module = f"{_PACKAGE}.{Path(command[1]).stem}"
    with _lock:
        _start_server(environment)
        arguments = (module, command[1:], _Descriptor(console), os.path.abspath(folder), {**os.environ, **environment})
        process = _context.Process(target=_run, args=arguments)
        process.start()
    wait([process.sentinel])
    with _lock:
        process.join()
    assert process.exitcode is not None
    return process.exitcode


class _Descriptor:
    """A file descriptor that goes along to a process."""

    def __init__(self, number: int):
        self.number = number

    def __getstate__(self) -> object:
        return DupFd(self.number)

    def __setstate__(self, copy: object) -> None:
        self.number = copy.detach()  # type: ignore[attr-defined]


def _start_server(environment: Mapping[str, str]) -> None:
    """Libraries read what is set for them when they are imported."""
    before = dict(os.environ)
    os.environ.update(environment)
    try:
        _context.set_forkserver_preload(list(_IMPORTED))
        ensure_running()
    finally:
        os.environ.clear()
        os.environ.update(before)


def _run(module: str, words: Sequence[str], console: _Descriptor, folder: str, environment: Mapping[str, str]) -> None:
    for stream in (1, 2):
        os.dup2(console.number, stream)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    if environment.get("OMP_NUM_THREADS"):
        torch.set_num_threads(int(environment["OMP_NUM_THREADS"]))
    if environment.get("PYTHONWARNINGS") == "ignore":
        warnings.simplefilter("ignore")
    sys.argv = list(words)
    import_module(module).main()
