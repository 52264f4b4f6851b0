"""Comparing the time of functions on a machine that others use too."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median, quantiles

import numpy as np
import torch
from tqdm import tqdm


@dataclass
class Times:
    """Seconds of each call of one function: by the clock, and of this process's CPU."""

    wall: list[float]
    cpu: list[float]


def synchronize(device: "torch.device | str") -> None:
    """Waits until the device has done what it was told."""
    if torch.device(device).type == "cuda":
        torch.cuda.synchronize(device)


def alternate(
    functions: dict[str, Callable[[int], None]],
    rounds: int,
    *,
    warmup: int = 2,
    device: "torch.device | str" = "cpu",
    seed: int = 0,
    name: str = "",
) -> dict[str, Times]:
    """Calls all functions once a round, in an order drawn anew each round, and times every call.

    What slows the machine down for a while then meets all of them alike, and no function always runs
    with the caches another one left.

    Args:
        functions: by name; each gets the number of the round, so that all do the same work in it.
        rounds: how many of them count.
        warmup: rounds before these, which do not.
        device: waited for before the clock is read.
        seed: of the order.
        name: for the progress bar.
    """
    rng = np.random.default_rng(seed)
    times = {key: Times([], []) for key in functions}
    for turn in tqdm(range(warmup + rounds), desc=name, leave=False, mininterval=1.0):
        for key in rng.permutation(list(functions)):
            synchronize(device)
            wall, cpu = time.perf_counter(), time.process_time()
            functions[key](turn)
            synchronize(device)
            if turn >= warmup:
                times[key].wall.append(time.perf_counter() - wall)
                times[key].cpu.append(time.process_time() - cpu)
    return times


def ratio(ours: list[float], baseline: list[float]) -> float:
    """Of the medians."""
    return median(ours) / median(baseline)


def spread(ours: list[float], baseline: list[float]) -> "tuple[float, float]":
    """First and third quartile of the ratios round by round: what the noise leaves open."""
    ratios = [a / b for a, b in zip(ours, baseline)]
    if len(ratios) < 2:
        return ratios[0], ratios[0]
    first, _, third = quantiles(ratios, n=4)
    return first, third
