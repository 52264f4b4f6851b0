"""Memory: what a process holds, what a function needs at its peak, what tensors take."""

import json
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.profiler import ProfilerActivity, profile

from .timing import synchronize

STATUS, CLEAR, MEMORY = "/proc/self/status", "/proc/self/clear_refs", "/proc/meminfo"
MB = 1024**2


def resident(device: "torch.device | str" = "cpu") -> int | None:
    """Bytes this process holds now: of a CPU's memory all (VmRSS), on CUDA those of its tensors.

    None where the system does not tell (it is Linux that does).
    """
    if _is_cuda(device):
        return torch.cuda.memory_allocated(device)
    return _kilobytes(STATUS, "VmRSS")


def peak_resident(device: "torch.device | str" = "cpu") -> int | None:
    """The most bytes this process held since `forget_peak` (on a CPU VmHWM), or None."""
    if _is_cuda(device):
        return torch.cuda.max_memory_allocated(device)
    return _kilobytes(STATUS, "VmHWM")


def forget_peak(device: "torch.device | str" = "cpu") -> None:
    """Lets `peak_resident` start over, where the system allows it."""
    if _is_cuda(device):
        torch.cuda.reset_peak_memory_stats(device)
        return
    with suppress(OSError):  # the peak then counts from the start of the process: never too low
        Path(CLEAR).write_text("5")


def available(device: "torch.device | str" = "cpu") -> int | None:
    """Bytes the machine (without swapping) or the GPU can still give, or None."""
    if _is_cuda(device):
        return torch.cuda.mem_get_info(device)[0]
    return _kilobytes(MEMORY, "MemAvailable")


def _is_cuda(device: "torch.device | str") -> bool:
    return torch.device(device).type == "cuda"


def _kilobytes(path: str, key: str) -> int | None:
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
    if _is_cuda(device):
        synchronize(device)
        before = resident(device)
        forget_peak(device)
        function()
        synchronize(device)
        return peak_resident(device) - before
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as recorded:
        function()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "trace.json"
        recorded.export_chrome_trace(str(path))
        events = json.loads(path.read_text())["traceEvents"]
    changes = sorted((event["ts"], event["args"]["Bytes"]) for event in events if event.get("name") == "[memory]")
    held = peak = 0
    for _, change in changes:
        held += change
        peak = max(peak, held)
    return peak
