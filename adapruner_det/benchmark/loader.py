"""A training step of a classifier on batches as the loader makes them, against one on a fixed batch."""

import copy
import itertools
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import torch
from detectron2.config import CfgNode
from detectron2.modeling import build_model
from detectron2.solver import build_optimizer
from detectron2.utils.events import EventStorage
from torch import nn

from ..data.sampling import ResumableSampler
from ..engine import load_config
from ..engine.tasks import task_of
from ..engine.train_loop import MixedPrecisionTrainer
from .timing import alternate, ratio, spread

LOADER, FIXED = "loader", "fixed batch"


def measure_loader(
    config_file: Path,
    register: Sequence[str],
    opts: Sequence[str],
    *,
    device: str,
    rounds: int,
    steps: int,
) -> list[dict]:
    """One row: images a second on the data of a config and on its first batch, and their ratio.

    The ratio is 1 where the data path costs nothing. Blocks of steps of both alternate; reading the
    images from disk comes before and does not count.

    Args:
        config_file: of a classifier; its training set is read.
        register: specs as of --register.
        opts: KEY VALUE pairs.
        rounds: of one block each.
        steps: a block's.

    Raises:
        ValueError: the config is not of a classifier; and what loading config and data raises.
    """
    cfg = load_config(str(config_file), register, [*opts, "MODEL.DEVICE", device])
    if cfg.MODEL.META_ARCHITECTURE != "ImageClassifier":
        raise ValueError(
            f"{config_file}: MODEL.META_ARCHITECTURE is {cfg.MODEL.META_ARCHITECTURE}; what is measured is "
            "the loader of an ImageClassifier"
        )
    cfg.SOLVER.BASE_LR = 1e-9  # the model stays what it is, so that every block is the same work
    task = task_of(cfg)
    records = task.load_records(cfg)
    batches = task.train_loader(cfg, records, ResumableSampler(len(records), seed=0))
    torch.manual_seed(0)
    model = build_model(cfg).train()
    task.adapt_model(model, records)
    data = {LOADER: batches, FIXED: itertools.repeat(next(iter(batches)))}
    blocks = {key: _block(_trainer(cfg, copy.deepcopy(model), own), steps) for key, own in data.items()}
    times = alternate(blocks, rounds, device=device, name=LOADER)
    # Fewer seconds are more images a second, so the fixed batch's time comes first.
    first, third = spread(times[FIXED].wall, times[LOADER].wall)
    return [
        {
            "network": cfg.MODEL.CLASSIFIER.NAME,
            "images": len(records),
            "batch": cfg.SOLVER.IMS_PER_BATCH,
            "precision": "bfloat16" if cfg.SOLVER.AMP.ENABLED else "float32",
            **_speeds(cfg, times, steps),
            "ratio": ratio(times[FIXED].wall, times[LOADER].wall),
            "ratio_first_quartile": first,
            "ratio_third_quartile": third,
            "cpu_ratio": ratio(times[FIXED].cpu, times[LOADER].cpu),
            "rounds": rounds,
        }
    ]


def _speeds(cfg: CfgNode, times: dict[str, Any], steps: int) -> dict[str, float]:
    images = cfg.SOLVER.IMS_PER_BATCH * steps
    keys = {LOADER: "loader_images_per_s", FIXED: "fixed_images_per_s"}
    return {name: images / median(times[key].wall) for key, name in keys.items()}


def _trainer(cfg: CfgNode, model: nn.Module, data: Iterable[dict]) -> MixedPrecisionTrainer:
    return MixedPrecisionTrainer(model, data, build_optimizer(cfg, model), cfg.SOLVER.AMP.ENABLED)


def _block(trainer: MixedPrecisionTrainer, steps: int) -> Callable[[int], None]:
    def block(turn: int) -> None:
        with EventStorage(turn * steps) as trainer.storage:
            for trainer.iter in range(turn * steps, (turn + 1) * steps):
                trainer.run_step()

    return block
