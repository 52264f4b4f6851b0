"""A training step that prunes against Detectron2's plain one: same model, data and precision."""

import copy
import itertools
from pathlib import Path
from statistics import median

import torch
from detectron2.solver import build_optimizer
from detectron2.utils.events import EventStorage
from tqdm import tqdm

from ..engine.detection import DetectionTask
from ..engine.train_loop import AdaPrunerStep, MixedPrecisionTrainer
from ..modeling.per_image import return_per_image_losses
from ..pruning import AdaPruner
from .detectors import FLOAT32_ONLY, build_detector, detector_config, make_batches
from .memory import MB, bytes_of, peak_of, tensors_in
from .timing import alternate, ratio, spread

PLAIN, PRUNING = "plain", "pruning"
NUM_BATCHES = 4


def measure_overhead(
    names: list[str],
    configs: Path,
    *,
    device: str,
    small: bool,
    batch_size: int,
    image_size: int,
    num_images: int,
    rounds: int,
    mixed_precision: bool,
) -> list[dict]:
    """One row a detector: median milliseconds and peak MB of both steps, and their ratios.

    The pruning run is past its warm-up, so its mask moves. In each round both take the same batch with
    the same random numbers.
    """
    batches = make_batches(NUM_BATCHES, batch_size, image_size, num_images)
    rows = []
    for name in tqdm(names, desc="overhead"):
        cfg = detector_config(name, configs, small, device)
        mixed = mixed_precision and name not in FLOAT32_ONLY
        trainers = _trainers(name, cfg, batches, num_images, mixed)
        steps = {key: _stepper(trainer) for key, trainer in trainers.items()}
        times = alternate(steps, rounds, device=device, name=name)
        plain, ours = times[PLAIN], times[PRUNING]
        first, third = spread(ours.wall, plain.wall)
        memory = {key: _memory_of(trainers[key], steps[key], device) for key in steps}
        rows.append(
            {
                "detector": name,
                "precision": "bfloat16" if mixed else "float32",
                "plain_ms": 1e3 * median(plain.wall),
                "pruning_ms": 1e3 * median(ours.wall),
                "ratio": ratio(ours.wall, plain.wall),
                "ratio_first_quartile": first,
                "ratio_third_quartile": third,
                "cpu_ratio": ratio(ours.cpu, plain.cpu),
                "plain_mb": memory[PLAIN] / MB,
                "pruning_mb": memory[PRUNING] / MB,
                "memory_ratio": memory[PRUNING] / memory[PLAIN],
                "rounds": rounds,
            }
        )
    return rows


def _trainers(name, cfg, batches, num_images, mixed_precision) -> dict:
    model = build_detector(name, cfg)
    pruned = copy.deepcopy(model)
    return_per_image_losses(pruned)
    pruner = AdaPruner(num_images, keep_ratio=0.8, total_steps=10**9)
    return {
        PLAIN: MixedPrecisionTrainer(model, itertools.cycle(batches), build_optimizer(cfg, model), mixed_precision),
        PRUNING: AdaPrunerStep(
            pruned,
            itertools.cycle(batches),
            build_optimizer(cfg, pruned),
            pruner=pruner,
            task=DetectionTask(),
            records=[],  # looked at for error messages only
            mixed_precision=mixed_precision,
        ),
    }


def _stepper(trainer: MixedPrecisionTrainer):
    def step(turn: int) -> None:
        torch.manual_seed(turn)  # anchors and proposals are sampled
        with EventStorage(turn) as trainer.storage:
            trainer.iter = turn
            trainer.run_step()

    return step


def _memory_of(trainer: MixedPrecisionTrainer, step, device: str) -> int:
    """Bytes of weights, gradients, optimizer state and mask, and what a step needs beyond them."""
    held = [*trainer.model.parameters(), *trainer.model.buffers()]
    held += [p.grad for p in trainer.model.parameters() if p.grad is not None]
    held += list(tensors_in(list(trainer.optimizer.state.values())))
    for name in ("pruner", "statistics"):
        held += list(tensors_in(getattr(trainer, name, None)))
    return bytes_of(held) + peak_of(lambda: step(0), device)
