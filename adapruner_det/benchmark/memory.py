"""Memory: what a process holds, what a function needs at its peak, what tensors take."""
import json
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any, Callable, Iterable, Iterator, Optional

import torch
from torch import Tensor
from torch.profiler import ProfilerActivity, profile

from .timing import synchronize

STATUS, CLEAR, MEMORY = "/proc/self/status", "/proc/self/clear_refs", "/proc/meminfo"
MB = 1024**2


def resident() -> Optional[int]:
    """Bytes this process holds now (VmRSS); None where the system does not tell (it is Linux that does)."""
    return _kilobytes(STATUS, "VmRSS")


def peak_resident() -> Optional[int]:
    """The most bytes this process held since `forget_peak` (VmHWM), or None."""
    return _kilobytes(STATUS, "VmHWM")


def forget_peak() -> None:
    """Lets `peak_resident` start over, where the system allows it."""
    with suppress(OSError):  # the peak then counts from the start of the process: never too low
        Path(CLEAR).write_text("5")


def available() -> Optional[int]:
    """Bytes the machine can still give without swapping, or None."""
    return _kilobytes(MEMORY, "MemAvailable")


def _kilobytes(path: str, key: str) -> Optional[int]:
    try:
        lines = Path(path).read_text().splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{key}:")), None)


def bytes_of(tensors: Iterable[Tensor]) -> int:
    """Of the storages behind tensors, each once."""
    storages = {t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in tensors}
    return sum(storages.values())


def tensors_in(thing: Any) -> Iterator[Tensor]:
    """All tensors in an object's attributes, dicts, lists and tuples, and in those of our own classes."""
    if isinstance(thing, Tensor):
        yield thing
    elif isinstance(thing, dict):
        for value in thing.values():
            yield from tensors_in(value)
    elif isinstance(thing, (list, tuple)):
        for value in thing:
            yield from tensors_in(value)
    elif type(thing).__module__.startswith("adapruner_det") and hasattr(thing, "__dict__"):
        yield from tensors_in(vars(thing))


def peak_of(function: Callable[[], None], device: "torch.device | str") -> int:
    """The most bytes of tensors that `function` holds at a time on top of what is there before it.

    On CUDA from the caching allocator; on a CPU the allocations that torch's profiler tracks, which
    unlike the process's memory do not depend on how malloc hands pages back.
    """
    if torch.device(device).type == "cuda":
        synchronize(device)
        before = torch.cuda.memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
        function()
        synchronize(device)
        return torch.cuda.max_memory_allocated(device) - before
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as recorded:
        function()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "trace.json"
        recorded.export_chrome_trace(str(path))
        events = json.loads(path.read_text())["traceEvents"]
    changes = sorted(
        (event["ts"], event["args"]["Bytes"]) for event in events if event.get("name") == "[memory]"
    )
    held = peak = 0
    for _, change in changes:
        held += change
        peak = max(peak, held)
    return peak
