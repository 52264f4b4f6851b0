"""Prunes, trains and evaluates detectors: `--help` shows the commands."""

import sys
from functools import partial

from adapruner_det.commands import program
from adapruner_det.engine import AdaPrunerTrainer, argument_parser, setup  # first: it quiets imports
from adapruner_det.engine.checkpoint import RunCheckpointer
from adapruner_det.engine.distributed import launch, leave_process_groups
from adapruner_det.engine.run_folder import clear
from adapruner_det.engine.stopping import Stopped, StopSignals


def run(args):
    try:
        with StopSignals().caught():
            return prepare(args)()
    except Stopped as stopped:
        again = [word for word in sys.argv if word != "--overwrite"]
        going_on = [] if args.resume or args.eval_only else ["--resume"]
        stopped.tell(program(), [again[0], *going_on, *again[1:]])
        raise


def prepare(args):
    """What is to be done: training or, with --eval-only, testing. A mistake in the command or the data ends the program."""
    try:
        cfg = setup(args)
        if args.eval_only:
            model = AdaPrunerTrainer.build_model(cfg)
            RunCheckpointer(model, cfg.OUTPUT_DIR).resume_or_load(cfg.MODEL.WEIGHTS, resume=args.resume)
            return partial(AdaPrunerTrainer.test, cfg, model)
        trainer = AdaPrunerTrainer(cfg)
        trainer.resume_or_load(resume=args.resume)
        if args.overwrite:
            trainer.check()
            clear(cfg.OUTPUT_DIR)
        return trainer.train
    # yacs asserts that a file or key exists; an extra that the config asks for may not be installed
    except (AssertionError, ImportError, KeyError, OSError, ValueError) as problem:
        message = problem.args[0] if isinstance(problem, KeyError) else problem
        raise SystemExit(f"{program()}: error: {message}") from problem


def main_of_each_process(args):
    results = run(args)
    leave_process_groups()
    return results


def main() -> None:
    launch(main_of_each_process, argument_parser().parse_args())


if __name__ == "__main__":
    main()
