"""Time and memory of the mask: per step and per projection."""

import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from statistics import median

import torch
from tqdm import tqdm

from ..pruning import AdaPruner
from . import memory
from .timing import synchronize

KEEP_RATIO = 0.8
BYTES_A_SAMPLE = 4  # float32 logits


class NotEnoughMemory(RuntimeError):
    """The masks asked for would not fit on this machine."""


def measure_masks(sizes: list[int], batch_size: int, steps: int, projections: int, device: str) -> list[dict]:
    """One row a size, each from a process of its own, so that none sees another's memory."""
    check_memory(max(sizes), device)
    rows = []
    for size in tqdm(sizes, desc="mask"):
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
            rows.append(pool.submit(_measure, size, batch_size, steps, projections, device).result())
    return rows


def check_memory(num_samples: int, device: str = "cpu") -> None:
    """Raises NotEnoughMemory if a mask of `num_samples` leaves less than a tenth of what is free."""
    free = memory.available(device)
    needed = BYTES_A_SAMPLE * num_samples
    if free is not None and needed > 0.9 * free:
        raise NotEnoughMemory(
            f"a mask over {num_samples:,} samples takes {needed / memory.MB:,.0f} MB, {device} has "
            f"{free / memory.MB:,.0f} MB free: measure fewer samples"
        )


def _measure(num_samples: int, batch_size: int, steps: int, projections: int, device: str) -> dict:
    torch.manual_seed(0)
    warm = AdaPruner(10, KEEP_RATIO, 10, device=device)  # so that torch's own start is not counted
    _step(warm, torch.arange(10, device=device), torch.ones(10, device=device))
    warm.mask.project(8)
    before = memory.resident(device)
    pruner = AdaPruner(num_samples, KEEP_RATIO, 10**12, device=device)
    grown = _difference(memory.resident(device), before)
    step_seconds = []
    for _ in range(steps):
        index = torch.randint(num_samples, (batch_size,), device=device)
        step_seconds.append(_step(pruner, index, torch.rand(batch_size, device=device)))
    seconds, extra = _project(pruner, projections, device)
    return {
        "samples": num_samples,
        "batch": batch_size,
        "step_ms": 1e3 * median(step_seconds),
        "projection_s": seconds,
        "projection_ns_per_sample": 1e9 * seconds / num_samples,
        "tensor_bytes_per_sample": memory.bytes_of(memory.tensors_in(pruner)) / num_samples,
        "grown_mb": None if grown is None else grown / memory.MB,
        "projection_extra_mb": None if extra is None else extra / memory.MB,
        "kept_ratio": pruner.kept_ratio,
    }


def _step(pruner: AdaPruner, index: torch.Tensor, losses: torch.Tensor) -> float:
    """Seconds of what the mask does in a training step."""
    start = time.perf_counter()
    pruner.weights(index)
    pruner.update(index, losses)
    return time.perf_counter() - start


def _project(pruner: AdaPruner, repeats: int, device: str) -> "tuple[float, int | None]":
    """(median seconds, most bytes beyond what was there) of a projection of random logits."""
    seconds, extras = [], []
    for _ in range(repeats):
        pruner.mask.logits.normal_()
        synchronize(device)
        memory.forget_peak(device)
        before = memory.resident(device)
        start = time.perf_counter()
        pruner.mask.project(pruner.num_to_keep)
        synchronize(device)
        seconds.append(time.perf_counter() - start)
        extras.append(_difference(memory.peak_resident(device), before))
    return median(seconds), None if extras[0] is None else max(extras)


def _difference(after: int | None, before: int | None) -> int | None:
    return None if after is None or before is None else after - before
