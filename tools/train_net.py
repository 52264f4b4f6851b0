#!/usr/bin/env python
"""Prunes, trains and evaluates detectors: `--help` shows the commands."""
from adapruner_det.engine import AdaPrunerTrainer, argument_parser, setup  # first: it quiets imports

from detectron2.checkpoint import DetectionCheckpointer
from detectron2.engine import launch

from adapruner_det.engine.distributed import leave_process_groups


def main(args):
    cfg = setup(args)
    if args.eval_only:
        model = AdaPrunerTrainer.build_model(cfg)
        DetectionCheckpointer(model, save_dir=cfg.OUTPUT_DIR).resume_or_load(
            cfg.MODEL.WEIGHTS, resume=args.resume
        )
        return AdaPrunerTrainer.test(cfg, model)
    trainer = AdaPrunerTrainer(cfg)
    trainer.resume_or_load(resume=args.resume)
    return trainer.train()


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
