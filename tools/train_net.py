#!/usr/bin/env python
"""Prunes, trains and evaluates detectors: `--help` shows the commands."""

from detectron2.checkpoint import DetectionCheckpointer
from detectron2.engine import launch

from adapruner_det.engine import AdaPrunerTrainer, argument_parser, setup  # first: it quiets imports
from adapruner_det.engine.distributed import leave_process_groups


def main(args):
    cfg, trainer = prepare(args)
    if trainer is not None:
        try:
            return trainer.train()
        except FloatingPointError as problem:  # the losses have diverged: no fault of the program
            raise SystemExit(f"train_net.py: error: {problem}") from problem
    model = AdaPrunerTrainer.build_model(cfg)
    DetectionCheckpointer(model, save_dir=cfg.OUTPUT_DIR).resume_or_load(cfg.MODEL.WEIGHTS, resume=args.resume)
    return AdaPrunerTrainer.test(cfg, model)


def prepare(args):
    """The config and, unless --eval-only, the trainer; a mistake in the command or the data ends the program."""
    try:
        cfg = setup(args)
        if args.eval_only:
            return cfg, None
        trainer = AdaPrunerTrainer(cfg)
        trainer.resume_or_load(resume=args.resume)
        trainer.check()
        return cfg, trainer
    # yacs asserts that a file or key exists; an extra that the config asks for may not be installed
    except (AssertionError, ImportError, KeyError, OSError, ValueError) as problem:
        message = problem.args[0] if isinstance(problem, KeyError) else problem
        raise SystemExit(f"train_net.py: error: {message}") from problem


def main_of_each_process(args):
    results = main(args)
    leave_process_groups()
    return results


if __name__ == "__main__":
    args = argument_parser().parse_args()
    launch(
        main_of_each_process,
        args.num_gpus,
        num_machines=args.num_machines,
        machine_rank=args.machine_rank,
        dist_url=args.dist_url,
        args=(args,),
    )
