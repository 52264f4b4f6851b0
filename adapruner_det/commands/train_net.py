"""Prunes, trains and evaluates detectors and classifiers: `--help` shows the options."""

import argparse
import multiprocessing
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adapruner_det.commands import options, program

if TYPE_CHECKING:
    from detectron2.config import CfgNode


def main(command: str = "train_net.py") -> None:
    """
    Args:
        command: "prune" or "train" of `adapruner`, or "train_net.py".
    """
    try:
        args = options.parse(command)
        if command == "train_net.py" and not args.config_file:
            raise options.UsageError("--config-file is missing; `adapruner prune DATA --keep 0.8` does without")
    except options.UsageError as error:
        raise SystemExit(f"{program()}: error: {error}") from None
    from adapruner_det.engine.distributed import launch  # here: --help and mistakes need no torch

    launch(main_of_each_process, args)


def main_of_each_process(args: argparse.Namespace) -> None:
    """Loaders start their workers as in a run of one process; one that is spawned itself would spawn them."""
    from adapruner_det.engine.distributed import leave_process_groups
    from adapruner_det.engine.stopping import kill_workers_with_this_process

    kill_workers_with_this_process()
    multiprocessing.set_start_method(None, force=True)
    run(args)
    leave_process_groups()


def run(args: argparse.Namespace) -> None:
    """Does what the command line says; a mistake in it or in the data, a signal and a lost process end the program."""
    from adapruner_det.engine.distributed import is_of_lost_process
    from adapruner_det.engine.stopping import Stopped, StopSignals
    from adapruner_det.pruning import RatioNotReachedError

    try:
        with StopSignals().caught():
            work(args)
    except Stopped as stopped:
        again = [word for word in sys.argv if word != "--overwrite"]
        going_on = [] if args.resume or args.eval_only else ["--resume"]
        stopped.tell(program(), [again[0], *going_on, *again[1:]])
        raise
    # losses that are no numbers, once the model has diverged; a penalty that did not bring the mask to the ratio
    except (UserError, FloatingPointError, RatioNotReachedError) as error:
        raise SystemExit(f"{program()}: error: {error}") from error
    except RuntimeError as error:
        if not is_of_lost_process(error):
            raise
        raise SystemExit(
            f"{program()}: error: another process of this run is gone: see what it said, and start all of them again with --resume"
        ) from error


class UserError(ValueError):
    """A mistake in the command or the data."""


def work(args: argparse.Namespace) -> "CfgNode":
    """Prunes, trains or, with --eval-only, tests; prints the result, and returns the config of the run.

    Raises:
        UserError: a mistake in the command or the data, before anything is computed.
    """
    from adapruner_det.engine import AdaPrunerTrainer, setup
    from adapruner_det.engine.checkpoint import RunCheckpointer
    from adapruner_det.engine.run_folder import clear

    try:
        cfg = setup(args)
        if not args.eval_only:
            trainer = AdaPrunerTrainer(cfg)
            trainer.resume_or_load(resume=args.resume)
            trainer.check()
            if args.overwrite:
                clear(cfg.OUTPUT_DIR)
        else:
            model = AdaPrunerTrainer.build_model(cfg)
            RunCheckpointer(model, cfg.OUTPUT_DIR).resume_or_load(cfg.MODEL.WEIGHTS, resume=args.resume)
    # yacs asserts that a file or key exists; an extra that the config asks for may not be installed
    except (AssertionError, ImportError, KeyError, OSError, ValueError) as problem:
        raise UserError(problem.args[0] if isinstance(problem, KeyError) else problem) from problem
    if args.eval_only:
        results = AdaPrunerTrainer.test(cfg, model)
    else:
        trainer.train()
        results = getattr(trainer, "_last_eval_results", {})
    _tell(args, cfg, results)
    return cfg


def _tell(args: argparse.Namespace, cfg: "CfgNode", results: dict[str, Any]) -> None:
    from detectron2.utils import comm

    from adapruner_det.engine.console import say

    if not comm.is_main_process():
        return
    several = {name: value for name, value in results.items() if name in cfg.DATASETS.TEST}
    for name, own in (several or {", ".join(cfg.DATASETS.TEST): results}).items():
        for metrics in own.values():
            say(
                "result",
                f"{name}: " + ", ".join(f"{key} {value:.1f}" for key, value in metrics.items() if "-" not in key),
            )
    if args.eval_only:
        return
    if cfg.ADAPRUNER.ENABLED:
        _tell_selection(args, cfg)
    else:
        say("weights", str(Path(cfg.OUTPUT_DIR) / "model_final.pth"))


def data_words(args: argparse.Namespace, cfg: "CfgNode") -> list[str]:
    """What names the data of a run on the command line of `adapruner train`."""
    from adapruner_det.data.registration import specs_in_use

    named = {
        "--register": args.register if args.data else specs_in_use(cfg.DATASETS),
        "--train": () if args.data else cfg.DATASETS.TRAIN,
        "--test": args.test if args.data else cfg.DATASETS.TEST,
    }
    words = [args.data] if args.data else []
    return [*words, *(word for option, values in named.items() for value in values for word in (option, value))]


def list_format(cfg: "CfgNode") -> str:
    """The format of `adapruner export` that suits the task: YOLO's has boxes."""
    return "ids" if cfg.MODEL.META_ARCHITECTURE == "ImageClassifier" else "yolo"


def _tell_selection(args: argparse.Namespace, cfg: "CfgNode") -> None:
    """The verdict, and what to type next."""
    import shlex

    from adapruner_det.data.selection_record import verdict
    from adapruner_det.engine.console import say
    from adapruner_det.pruning import Selection
    from adapruner_det.report.page import PAGE

    output = cfg.OUTPUT_DIR.rstrip("/")
    folder = f"{output}/selection"
    selection = Selection.load(folder)
    say("verdict", verdict(selection))
    if Path(folder, PAGE).is_file():
        say("page", f"{folder}/{PAGE}: what goes and why, to look at and to correct; then")
    commands = (
        ["cut", folder, "--keep-ratio", f"{selection.keep_ratio:g}", "--corrections", "corrections.csv", "--output", f"{output}_corrected"],
        ["train", *data_words(args, cfg), "--selection", folder, "--output", f"{output}_trained"],
        ["export", folder, "--format", list_format(cfg), "--output", f"{output}_export"],
    )  # fmt: skip
    for command in commands:
        say("next", f"adapruner {shlex.join(command)}")


if __name__ == "__main__":
    main()
