"""Mixed precision, the same on CPUs and on GPUs."""

import logging
from contextlib import AbstractContextManager, nullcontext
from functools import lru_cache

import torch

logger = logging.getLogger(__name__)


# Of x86 and Arm, by torch's names, if it is so new that it tells. Without them a convolution in bfloat16 takes ten times as long as in float32.
_INSTRUCTIONS = ("amx_bf16", "avx512_bf16", "bf16")


def autocast(device: torch.device, enabled: bool) -> AbstractContextManager[object]:
    """A forward pass in bfloat16, which needs no scaling of losses, as Detectron2's float16 does.

    On a GPU (before Ampere) or a CPU without bfloat16 it is float32, and the log says so once.
    """
    return torch.autocast(device.type, torch.bfloat16) if enabled and _has_bfloat16(device.type) else nullcontext()


@lru_cache
def _has_bfloat16(kind: str) -> bool:
    without = "This %s has no bfloat16: SOLVER.AMP.ENABLED does nothing, and all is computed in float32"
    if kind == "cuda" and not torch.cuda.is_bf16_supported(including_emulation=False):
        logger.warning(without, "GPU")
        return False
    able: dict[str, object] = getattr(torch.cpu, "get_capabilities", dict)()
    if kind == "cpu" and not any(map(able.get, _INSTRUCTIONS)):
        logger.info(without, "CPU")
        return False
    return True
