"""How long a training on a selection lasts, measured by the training on everything."""

from detectron2.config import CfgNode

from ..engine.trainer import with_max_iter

ITERATIONS, EPOCHS = "iterations", "epochs"
BUDGETS = (ITERATIONS, EPOCHS)


def length(cfg: CfgNode, budget: str, everything: int, kept: int) -> tuple[str, ...]:
    """KEY VALUE pairs that give a training on a selection the length that `budget` grants it.

    With equal iterations it trains as long as the full training does, and sees each of its fewer
    images more often. With equal epochs it sees each image as often as the full training does, in
    fewer iterations: the schedule is the same one in a shorter time, SOLVER.STEPS and WARMUP_ITERS
    with it.

    Args:
        cfg: of the full training; its length is SOLVER.MAX_ITER, or MAX_EPOCHS where that is set.
        everything: images the full training trains on.
        kept: images this training trains on.
    """
    if budget == ITERATIONS:
        if not cfg.SOLVER.MAX_EPOCHS:
            return ()
        full = with_max_iter(cfg, everything).SOLVER.MAX_ITER
        return ("SOLVER.MAX_EPOCHS", "0.0", "SOLVER.MAX_ITER", str(full))
    share = kept / everything
    iterations = () if cfg.SOLVER.MAX_EPOCHS else _scaled("MAX_ITER", cfg.SOLVER.MAX_ITER, share, 1)
    warmup = _scaled("WARMUP_ITERS", cfg.SOLVER.WARMUP_ITERS, share) if cfg.SOLVER.WARMUP_ITERS else ()
    return (*iterations, *warmup, *_steps(cfg, share))


def _scaled(key: str, value: int, share: float, least: int = 0) -> tuple[str, str]:
    return f"SOLVER.{key}", str(max(least, round(share * value)))


def _steps(cfg: CfgNode, share: float) -> tuple[str, ...]:
    if cfg.SOLVER.LR_SCHEDULER_NAME != "WarmupMultiStepLR":
        return ()  # the cosine follows MAX_ITER
    return "SOLVER.STEPS", str(tuple(round(share * step) for step in cfg.SOLVER.STEPS))
