"""What a run says: some ten lines, one bar over all its phases, and the result. The rest is in OUTPUT_DIR/log.txt."""

import logging
import re
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from detectron2.utils import comm
from detectron2.utils.logger import setup_logger
from tqdm import tqdm

_COLOURS = re.compile(r"\x1b\[[0-9;]*m")
_LABEL = 9  # letters of what a line is about
_EVERY, _FIRST = 30.0, 10.0  # seconds between lines where stdout is no terminal, and before the first
_BAR = "{desc} {percentage:3.0f}%|{bar}| {postfix}{remaining} left"

logger = logging.getLogger(__name__)
_handlers: list[tuple[logging.Logger, logging.Handler]] = []  # of the run before, in this process


def say(about: str, text: str) -> None:
    """A line on the console and in log.txt."""
    logger.info(f"{about:{_LABEL}} {text}", extra={"console": True})


def set_up(folder: str, verbose: bool) -> None:
    """Sends all lines to log.txt in `folder`, and to the console what is said for it and warnings.

    Detectron2's `default_setup` finds its loggers made.

    Args:
        verbose: everything goes to the console as well.
    """
    while _handlers:
        owner, handler = _handlers.pop()
        owner.removeHandler(handler)
    setup_logger.cache_clear()
    logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)  # it would miss CUDA's tools
    rank = comm.get_rank()
    # called as default_setup does, whose calls then come from the cache
    owners = [
        setup_logger(folder, distributed_rank=rank, name="fvcore"),
        setup_logger(folder, distributed_rank=rank),
        setup_logger(folder, distributed_rank=rank, name="adapruner_det"),
    ]
    for owner in owners:
        for handler in list(owner.handlers):
            on_console = getattr(handler, "stream", None) is sys.stdout
            if on_console and not verbose:
                owner.removeHandler(handler)
            elif not (on_console and sys.stdout.isatty()):
                handler.setFormatter(_Plain(handler.formatter))
            _handlers.append((owner, handler))
        if not verbose and rank == 0:
            owner.addHandler(_Lines())
            _handlers.append((owner, owner.handlers[-1]))


class _Plain(logging.Formatter):
    """Another formatter's lines without colours."""

    def __init__(self, inner: "logging.Formatter | None"):
        super().__init__()
        self._inner = inner or logging.Formatter()

    def format(self, record: logging.LogRecord) -> str:
        return _COLOURS.sub("", self._inner.format(record))


class _Lines(logging.Handler):
    """Prints what is said for the console, and warnings, above the bar."""

    def emit(self, record: logging.LogRecord) -> None:
        said = getattr(record, "console", False)
        if said or record.levelno >= logging.WARNING:
            text = _COLOURS.sub("", record.getMessage())
            tqdm.write(text if said else f"{record.levelname.lower():{_LABEL}} {text}", file=sys.stdout)
            sys.stdout.flush()


class Progress:
    """A bar over everything a run does, in training steps; where stdout is no terminal, a line now and then.

    Args:
        total: steps, with what is as long as steps.
        done: steps that an earlier attempt has made.
        shown: whether to print anything.
    """

    active: "Progress | None" = None

    def __init__(self, total: float, done: float = 0.0, shown: bool = True):
        self.total, self.done, self._first = max(total, 1.0), done, done
        self._shown, self._terminal = shown, sys.stdout.isatty()
        self._phase, self._notes = "", ""
        self._start = time.monotonic()
        self._next = self._start + _FIRST
        self._bar = tqdm(total=self.total, initial=done, file=sys.stdout, leave=False, dynamic_ncols=True,
                         bar_format=_BAR, disable=not (shown and self._terminal))  # fmt: skip
        Progress.active = self

    def phase(self, name: str, notes: str = "") -> None:
        """What is done now, and a few words on how it goes."""
        changed = name != self._phase
        self._phase, self._notes = name, notes
        self._bar.set_description_str(f"{name:{_LABEL}}", refresh=changed)
        self._bar.set_postfix_str(f"{notes}, " if notes else "", refresh=False)

    def advance(self, steps: float = 1.0) -> None:
        steps = min(steps, self.total - self.done)
        self.done += steps
        self._bar.update(steps)
        now = time.monotonic()
        if self._shown and not self._terminal and now >= self._next and self.done > self._first:
            notes = f", {self._notes}" if self._notes else ""
            print(f"{self._phase:{_LABEL}} {self.done / self.total:4.0%}{notes}, {self._left(now)} left", flush=True)
            self._next = now + max(_EVERY, (now - self._start) / 20)

    def _left(self, now: float) -> str:
        seconds = (now - self._start) / (self.done - self._first) * (self.total - self.done)
        return (
            f"{seconds:.0f} s"
            if seconds < 90
            else f"{seconds / 60:.0f} min"
            if seconds < 5400
            else f"{seconds / 3600:.1f} h"
        )

    def close(self) -> None:
        self._bar.close()
        Progress.active = None


@contextmanager
def counted(num: int, what: str, unit: str) -> Iterator[Any]:
    """Counts `num` things by `update(n)`: on the run's bar, half of what is left of it, or on one of its own."""
    run = Progress.active
    if run is None:
        with tqdm(total=num, desc=what, unit=unit, delay=5, disable=None) as bar:
            yield bar
    else:
        yield _Part(run, (run.total - run.done) / 2 / max(num, 1))


class _Part:
    def __init__(self, run: Progress, steps: float):
        self._run, self._steps = run, steps

    def update(self, num: int = 1) -> None:
        self._run.advance(self._steps * num)
