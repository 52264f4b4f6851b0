"""Commands of this package as processes that are forked from one which has imported everything (`fork_server`).

The imports take longer than many a command.
"""

import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from . import fork_server

COMMANDS = Path(__file__).resolve().parents[1] / "commands"
_PACKAGE = "adapruner_det.commands"
_lock = threading.Lock()
_server: socket.socket | None = None  # what it is asked through
_running: set[int] = set()  # commands
_passed_on: list[int] = []  # signals, which commands that start later get as well


def start(environment: Mapping[str, str]) -> None:
    """Starts the process that forks, if it does not run, and waits for its imports; OSError if it ends before."""
    global _server
    with _lock:
        if _server is not None:
            return
        ours, theirs = socket.socketpair()
        command = [sys.executable, fork_server.__file__, str(theirs.fileno())]
        subprocess.Popen(
            command, env={**os.environ, **environment}, pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL
        )
        theirs.close()
        if not ours.recv(5):
            raise OSError("the process that commands are forked from has not started; what it says is above")
        _server = ours


def call(command: Sequence[str], console: int, environment: Mapping[str, str], folder: "str | Path" = ".") -> int:
    """The exit status of a command of this package, below 0 if a signal ended it, as `subprocess.call` gives it.

    Args:
        command: Python, the command's file, of this name in the package's `commands`, and arguments.
        console: file descriptor that its output goes to.
        environment: on top of this process's. What libraries read when they are imported is as in the first call.
        folder: where it runs.
    """
    start(environment)
    request = {
        "module": f"{_PACKAGE}.{Path(command[1]).stem}",
        "words": list(command[1:]),
        "folder": os.path.abspath(folder),
        "environment": {**os.environ, **environment},
    }
    ended, status = os.pipe()
    with open(ended) as answer:
        try:
            _ask(json.dumps(request).encode(), [console, status])
        finally:
            os.close(status)
        process = answer.readline()
        with _known(int(process or 0)):
            code = answer.readline()
    if not code:
        raise OSError(
            f"the process that forks commands has ended while {Path(command[1]).name} ran or should have started"
        )
    return int(code)


def pass_on(signum: int) -> None:
    """Sends a signal to all commands, as a terminal does; does not wait for their end."""
    _passed_on.append(signum)
    for process in list(_running):
        _send(process, signum)


@contextmanager
def _known(process: int) -> Iterator[None]:
    """While it runs it gets what is passed on, and at once what was before; 0 is none."""
    if process:
        _running.add(process)
        for signum in _passed_on:
            _send(process, signum)
    try:
        yield
    finally:
        _running.discard(process)


def _send(process: int, signum: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(process, signum)


def _ask(request: bytes, files: Sequence[int]) -> None:
    assert _server is not None
    with _lock:
        socket.send_fds(_server, [len(request).to_bytes(8, "big")], files)
        _server.sendall(request)
