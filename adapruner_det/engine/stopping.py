"""What ends a run early, with one line: SIGTERM and Ctrl-C, once the step is finished and saved, and a full disk."""

import ctypes
import errno
import multiprocessing
import os
import shlex
import signal
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from multiprocessing.util import Finalize

from detectron2.utils import comm

_FULL = (errno.ENOSPC, errno.EDQUOT)
SIGNALS = (signal.SIGINT, signal.SIGTERM)
_PR_SET_PDEATHSIG = 1  # of prctl(2)
_ONE = 1.0  # seconds in which signals are the same one, sent to a group and passed on by a parent


class Stopped(SystemExit):
    """A signal or a full disk has ended a run that can go on; `code` is its exit status."""

    def __init__(self, code: int, done: str):
        super().__init__(code)
        self.done = done

    @classmethod
    def by_signal(cls, signum: int, done: str) -> "Stopped":
        """The exit status is the shell's, 128 and the signal's number."""
        return cls(128 + signum, f"{signal.Signals(signum).name}: {done}")

    def tell(self, tool: str, again: Sequence[str]) -> None:
        """Prints, once for all processes, what is done and the command that goes on."""
        if comm.is_main_process():
            command, *rest = again  # `adapruner prune` is one word there, and no file
            called = command.split() if command.startswith("adapruner ") else ["python", command]
            print(f"{tool}: {self.done}; go on with: {shlex.join([*called, *rest])}", file=sys.stderr, flush=True)


class StopSignals:
    """Notes the first signal while steps are made; outside of steps it ends the run, as a second one does anywhere."""

    def __init__(self) -> None:
        self.waits = False
        self._number: int | None = None
        self._since = 0.0
        self._process = os.getpid()

    @contextmanager
    def caught(self) -> Iterator["StopSignals"]:
        if threading.current_thread() is not threading.main_thread():
            yield self  # whoever owns the main thread owns the signals
            return
        before = [signal.signal(signum, self._receive) for signum in SIGNALS]
        try:
            yield self
        finally:
            for signum, handler in zip(SIGNALS, before):
                signal.signal(signum, handler)

    @property
    def received(self) -> bool:
        return self._number is not None

    def agreed(self) -> int | None:
        """The signal that any of the processes has noted, the same in all."""
        return next((number for number in comm.all_gather(self._number) if number is not None), None)

    def _receive(self, signum: int, frame) -> None:
        if os.getpid() != self._process:  # a worker of a data loader, which its parent will end
            return
        now = time.monotonic()
        if self._number is None:
            self._number, self._since = signum, now
            if not self.waits:
                raise Stopped.by_signal(signum, "ended between steps; what was finished before is saved")
            if comm.is_main_process():
                print("\nfinishing this step and saving; a second signal ends at once", file=sys.stderr, flush=True)
        elif now - self._since > _ONE:
            os._exit(128 + signum)


@contextmanager
def full_disk_stops(folder: str) -> Iterator[None]:
    """Raises Stopped in place of the error of a full disk or quota, naming the file or else the folder."""
    try:
        yield
    except OSError as error:
        if error.errno not in _FULL:
            raise
        chain: list[BaseException] = [error]  # closing what could not be written fails again
        while isinstance(chain[-1].__context__, (OSError, Stopped)):
            chain.append(chain[-1].__context__)
        for cause in chain:
            if isinstance(cause, Stopped):
                raise cause from None
        names = [cause.filename for cause in chain if isinstance(cause, OSError) and cause.filename]
        what = f"{error.strerror}: {names[-1] if names else folder}"
        raise Stopped(1, f"error: {what}; what was saved before is sound: make room") from error


def kill_workers_with_this_process() -> None:
    """Whatever this process forks from now on, such as data loader workers, is killed when it ends, by SIGKILL too (Linux).

    Left alone, a worker may wait for ever to write into a pipe that its sisters have open as well.
    """
    if sys.platform == "linux":
        os.register_at_fork(after_in_child=partial(ctypes.CDLL(None).prctl, _PR_SET_PDEATHSIG, int(signal.SIGKILL)))


@contextmanager
def held_back() -> Iterator[None]:
    """Signals wait until the block ends; processes started in it, such as data loader workers, never get them."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        Finalize(None, _kill_workers, exitpriority=10)


def _kill_workers() -> None:
    """Before multiprocessing, at exit, asks workers to end by SIGTERM, which these never get, and waits for them."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # torch's would raise for each
    for process in multiprocessing.active_children():
        if process.daemon:
            process.kill()
