"""Mixed precision, the same on CPUs and on GPUs."""

import logging
from contextlib import AbstractContextManager, nullcontext
from functools import lru_cache

import torch

logger = logging.getLogger(__name__)


def autocast(device: torch.device, enabled: bool) -> AbstractContextManager[object]:
    """A forward pass in bfloat16, which needs no scaling of losses, as Detectron2's float16 does.

    On a GPU without bfloat16 (before Ampere) it is float32, and a warning says so once.
    """
    return torch.autocast(device.type, torch.bfloat16) if enabled and _has_bfloat16(device.type) else nullcontext()


@lru_cache
def _has_bfloat16(kind: str) -> bool:
    if kind != "cuda" or torch.cuda.is_bf16_supported(including_emulation=False):
        return True
    logger.warning("This GPU has no bfloat16: SOLVER.AMP.ENABLED does nothing, and all is computed in float32")
    return False
