"""Time and memory of the mask: per step, per projection, on one process or spread over several."""
import json
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from datetime import timedelta
from multiprocessing import get_context
from pathlib import Path
from statistics import median
from typing import List, Optional

import torch
from torch import distributed, multiprocessing
from tqdm import tqdm

from ..files import write_text
from ..pruning import AdaPruner, ShardedMask
from . import memory
from .timing import synchronize

KEEP_RATIO = 0.8
BYTES_A_SAMPLE = 4  # float32 logits


class NotEnoughMemory(RuntimeError):
    """The masks asked for would not fit on this machine."""


def measure_masks(
    sizes: List[int], batch_size: int, steps: int, projections: int, device: str
) -> List[dict]:
    """One row a size, each from a process of its own, so that none sees another's memory."""
    check_memory(max(sizes), device)
    rows = []
    for size in tqdm(sizes, desc="mask"):
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
            rows.append(pool.submit(_measure, size, batch_size, steps, projections, device).result())
    return rows


def measure_sharded(
    num_samples: int, processes: int, batch_size: int, steps: int, projections: int
) -> dict:
    """A row for one mask over several processes on this machine, joined by gloo: the slowest's times."""
    check_memory(num_samples)
    with tempfile.TemporaryDirectory() as folder:
        multiprocessing.start_processes(
            _measure_shard,
            args=(processes, folder, num_samples, batch_size, steps, projections),
            nprocs=processes,
            start_method="spawn",
        )
        rows = [json.loads((Path(folder) / f"{r}.json").read_text()) for r in range(processes)]
    worst = {key: max(row[key] for row in rows) for key in rows[0] if rows[0][key] is not None}
    return {**rows[0], **worst, "processes": processes}


def check_memory(num_samples: int, device: str = "cpu") -> None:
    """Raises NotEnoughMemory if a mask of `num_samples` leaves less than a tenth of what is free."""
    free = memory.available(device)
    needed = BYTES_A_SAMPLE * num_samples
    if free is not None and needed > 0.9 * free:
        raise NotEnoughMemory(
            f"a mask over {num_samples:,} samples takes {needed / memory.MB:,.0f} MB, {device} has "
            f"{free / memory.MB:,.0f} MB free: measure fewer samples"
        )


def _measure_shard(rank: int, processes: int, folder: str, *measurement) -> None:
    torch.set_num_threads(max(1, torch.get_num_threads() // processes))
    distributed.init_process_group(
        "gloo",
        init_method=f"file://{folder}/rendezvous",
        rank=rank,
        world_size=processes,
        timeout=timedelta(hours=1),  # the others may wait long for one that counts slowly
    )
    row = _measure(*measurement, "cpu", (rank, processes))
    write_text(Path(folder) / f"{rank}.json", json.dumps(row))
    distributed.destroy_process_group()


def _measure(
    num_samples: int,
    batch_size: int,
    steps: int,
    projections: int,
    device: str,
    shard: "Optional[tuple[int, int]]" = None,
) -> dict:
    torch.manual_seed(shard[0] if shard else 0)
    warm = AdaPruner(10, KEEP_RATIO, 10, device=device)  # so that torch's own start is not counted
    _step(warm, torch.arange(10, device=device), torch.ones(10, device=device))
    warm.mask.project(8)
    before = memory.resident(device)
    mask = ShardedMask(num_samples, *shard, device=device) if shard else None
    pruner = AdaPruner(num_samples, KEEP_RATIO, 10**12, mask=mask, device=device)
    mask, start = pruner.mask, (pruner.mask.owned.start if shard else 0)
    grown = _difference(memory.resident(device), before)
    step_seconds = []
    for _ in range(steps):
        index = start + torch.randint(len(mask.logits), (batch_size,), device=device)
        step_seconds.append(_step(pruner, index, torch.rand(batch_size, device=device)))
    seconds, extra = _project(pruner, projections, device)
    here = len(mask.logits)
    return {
        "samples": num_samples,
        "processes": 1,
        "batch": batch_size,
        "step_ms": 1e3 * median(step_seconds),
        "projection_s": seconds,
        "projection_ns_per_sample": 1e9 * seconds / num_samples,
        "tensor_bytes_per_sample": memory.bytes_of(memory.tensors_in(pruner)) / here,
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


def _project(
    pruner: AdaPruner, repeats: int, device: str
) -> "tuple[float, Optional[int]]":
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


def _difference(after: Optional[int], before: Optional[int]) -> Optional[int]:
    return None if after is None or before is None else after - before
