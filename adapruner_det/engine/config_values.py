"""Whether values of Detectron2's own keys can be meant, before anything is computed."""

import math
from functools import reduce

from detectron2.config import CfgNode

_LARGEST_SIDE = 2**15  # pixels
# What numbers of Detectron2's may be that fail late, or not at all, if they are something else: at least, at most.
_RANGES = {
    "SEED": (-1, 2**31 - 1),
    "SOLVER.IMS_PER_BATCH": (1, 10**12),
    "SOLVER.MAX_ITER": (0, 10**12),
    "SOLVER.MAX_EPOCHS": (0, 10**12),
    "SOLVER.CHECKPOINT_PERIOD": (1, math.inf),
    "SOLVER.WEIGHT_DECAY": (0, math.inf),
    "SOLVER.MOMENTUM": (0, 1),
    "SOLVER.GAMMA": (0, math.inf),
    "SOLVER.WARMUP_FACTOR": (0, 1),
    "DATALOADER.NUM_WORKERS": (0, 1000),
    "DATALOADER.CACHE_GB": (0, math.inf),
    "TEST.DETECTIONS_PER_IMAGE": (1, math.inf),
    "INPUT.MAX_SIZE_TRAIN": (1, _LARGEST_SIDE),
    "INPUT.MIN_SIZE_TEST": (0, _LARGEST_SIDE),  # 0: as the pictures are
    "INPUT.MAX_SIZE_TEST": (1, _LARGEST_SIDE),
}


def check_values(cfg: CfgNode) -> None:
    """Raises ValueError, with its key, for a value that can only be a mistake."""
    for key, (least, most) in _RANGES.items():
        value = reduce(getattr, key.split("."), cfg)
        if not least <= value <= most:
            raise ValueError(
                f"{key} is {value!s:.30}; it is at least {least}" + (f", at most {most}" if most < math.inf else "")
            )
    sizes, steps = cfg.INPUT.MIN_SIZE_TRAIN, cfg.SOLVER.STEPS
    if not sizes or not all(isinstance(size, int) and 0 < size <= _LARGEST_SIDE for size in sizes):
        raise ValueError(f"INPUT.MIN_SIZE_TRAIN is {sizes}; it has whole numbers of pixels, 1 to {_LARGEST_SIDE}")
    if not all(isinstance(step, int) for step in steps) or list(steps) != sorted(steps):
        raise ValueError(f"SOLVER.STEPS is {steps}; it has numbers of iterations, the lowest first")
    if cfg.INPUT.RANDOM_FLIP not in ("none", "horizontal", "vertical"):
        raise ValueError(f"INPUT.RANDOM_FLIP is {cfg.INPUT.RANDOM_FLIP!r}; it can be none, horizontal or vertical")
