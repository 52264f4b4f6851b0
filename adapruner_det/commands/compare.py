"""Compares models trained on everything, on AdaPruner's selection, on a random one and on other methods'.

It prunes, trains and evaluates for every method, ratio and seed, several runs at a time. Killed, it goes
on where it stopped when started again; finished runs are never repeated. AdaPruner prunes once a seed, whatever
the ratios. It leaves results.csv (a row a training), table.md, figure.png, differences.png (each method less the strongest
control, with intervals) and selections.md (in numbers: selections.csv) in --output.

    adapruner compare --prune-config configs/bccd/prune_yolov3_tiny_R18.yaml \\
        --train-configs YOLOv3-Tiny=configs/bccd/train_yolov3_tiny_R18.yaml \\
                        "Faster R-CNN=configs/bccd/train_faster_rcnn_R18_FPN.yaml" \\
        --keep-ratios 0.8 --seeds 0 1 2 --jobs 2 --output output/bccd/compare

An experiment file holds the same options; those given besides take their place:
    adapruner compare --experiment configs/experiments/cifar10_small.yaml --seeds 0 \\
        --output output/cifar10_small

On data of your own (README.md has the formats), with any configs:
    adapruner compare --experiment configs/experiments/detection_small.yaml \\
        --register my_train=voc:/data/mine:trainval --register my_test=voc:/data/mine:test \\
        --output output/mine_compare

Without --train-configs it only selects, and prints how far the selections agree (selections.md).

With --budgets iterations every training is as long as the one on everything, with epochs a training on a
selection sees its fewer images as often, in fewer iterations.
"""

import argparse
import re
import shlex
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from adapruner_det.commands import Parser, program
from adapruner_det.commands.options import pairs_of
from adapruner_det.experiments import processes
from adapruner_det.experiments.agreement import CAPTION, INJECTED_CAPTION, compare_selections
from adapruner_det.experiments.check import check_injected, labels_of
from adapruner_det.experiments.experiment import BUDGETS, FULL, METHODS, Experiment
from adapruner_det.experiments.options import load_experiment
from adapruner_det.experiments.plan import plan
from adapruner_det.experiments.results import draw, markdown, write_tables
from adapruner_det.experiments.runs import RunChangedError, RunFailedError, execute
from adapruner_det.experiments.table import collect
from adapruner_det.files import write_text
from adapruner_det.report.injected import InjectedErrors

NO_FIELD = ("experiment", "output", "jobs", "injected", "register")  # options that are no fields of Experiment


def report(experiment: Experiment, output: Path, injected: InjectedErrors | None = None) -> str:
    """Writes the files of a comparison whose runs are finished, the pictures last; returns its table as Markdown."""
    results = collect(experiment, output) if experiment.models() else None
    table = "" if results is None else write_tables(results, output)
    if experiment.selecting_methods():
        selections = _write_selections(experiment, output, injected)
        table = table or selections
    if results is not None:
        draw(results, output)
    return table


def _write_selections(experiment: Experiment, output: Path, injected: InjectedErrors | None) -> str:
    frame, means = compare_selections(experiment, output, injected, labels_of(experiment))
    write_text(output / "selections.csv", frame.to_csv(index=False, float_format="%.4g", lineterminator="\n"))
    selections = markdown(means)
    captions = f"{CAPTION} {INJECTED_CAPTION}" if injected else CAPTION
    write_text(output / "selections.md", f"{selections}\n\n{captions}\n")
    return selections


def argument_parser() -> argparse.ArgumentParser:
    parser = Parser(description=__doc__, argument_default=argparse.SUPPRESS)
    option = parser.add_argument
    option("--output", required=True, type=Path, help="folder of all runs and the results")
    option("--jobs", type=int, default=1, help="runs at a time, sharing cores and GPUs (default: 1)")
    option("--experiment", metavar="FILE", default=None, help="YAML file with any of the options below")
    option("--prune-config", help="config of the pruning run")
    option(
        "--train-configs",
        nargs="+",
        type=_one_of(_named),
        metavar="NAME=CONFIG",
        help="models to train and evaluate; without any, only the selections are compared",
    )
    option(
        "--register",
        action="append",
        default=[],
        metavar="NAME=FORMAT:...",
        help="data sets of your own in place of the configs', as in `adapruner prune`: the first is pruned and "
        "trained on, the second evaluated on",
    )
    option(
        "--methods",
        nargs="+",
        type=_one_of(str),
        metavar="METHOD",
        help=f"default: full random adapruner. There are {', '.join((FULL, *METHODS))}; "
        "`adapruner score --list` explains them",
    )
    option("--keep-ratios", nargs="+", type=_one_of(float), help="shares of images that stay (default: 0.8)")
    option("--seeds", nargs="+", type=_one_of(int), help="default: 0")
    option(
        "--budgets",
        nargs="+",
        type=_one_of(str),
        help=f"what is equal in all trainings: {', '.join(BUDGETS)} (default: iterations)",
    )
    option(
        "--variant",
        action="append",
        dest="variants",
        type=variant,
        metavar='"NAME=[METHOD] KEY VALUE ..."',
        help='a method with other settings, shown as NAME: --variant "no warm-up=adapruner ADAPRUNER.WARMUP 0" '
        '(AdaPruner if none is named), "EL2N by class=el2n SCORING.CLASS_BALANCE True". Can be repeated',
    )
    option(
        "--injected",
        metavar="FILE",
        default=None,
        help="injected.json of datasets/inject_label_errors.py, of the images to prune: selections.md says how "
        "often its defects were pruned",
    )
    option(
        "--finetune",
        nargs="+",
        type=_one_of(_named),
        metavar="NAME=CONFIG",
        help="go on from each training of model NAME with CONFIG, on other data; what is compared is "
        "the result of that",
    )
    for stage, what in (("prune", "what selects"), ("train", "the trainings"), ("finetune", "--finetune")):
        option(f"--{stage}-opts", type=key_value_pairs, metavar='"KEY VALUE ..."', help=f"overrides for {what} alone")
    option(
        "opts",
        nargs=argparse.REMAINDER,
        help="KEY VALUE overrides for every run, at the end, behind an option that takes one value (--output DIR)",
    )
    return parser


def experiment_of(args: argparse.Namespace) -> Experiment:
    """What the command line and its experiment file ask for; ValueError as `load_experiment`."""
    given = {name: value for name, value in vars(args).items() if name not in NO_FIELD}
    given["opts"] = _settings(given["opts"], "opts: ")
    for name in ("train_configs", "finetune", "variants"):
        if name in given:
            given[name] = dict(given[name])
    return load_experiment(given, args.experiment, args.register)


def _one_of(read: Callable[[str], Any]) -> Callable[[str], Any]:
    """Reads one value of an option that takes several, which would take KEY VALUE overrides as well."""

    def value(text: str) -> Any:
        if re.fullmatch(r"[A-Z][A-Z0-9_]*(\.[A-Z0-9_]+)*", text):
            raise argparse.ArgumentTypeError(
                f"{text} is a config key; KEY VALUE overrides go behind an option that takes one value: ... --output "
                f"DIR {text} VALUE"
            )
        return read(text)

    value.__name__ = read.__name__  # in argparse's messages
    return value


def _named(text: str) -> tuple[str, str]:
    """Name and what follows it, of `NAME=...`."""
    name, _, rest = (part.strip() for part in text.partition("="))
    if not (name and rest):
        raise argparse.ArgumentTypeError(f"{text!r} is not of the form NAME=...")
    return name, rest


def key_value_pairs(text: str) -> dict[str, Any]:
    return _settings(shlex.split(text))


def _settings(words: Sequence[str], where: str = "") -> dict[str, Any]:
    """KEY VALUE or KEY=VALUE pairs by key; the last of a key wins."""
    words = pairs_of(words)
    if len(words) % 2:
        raise argparse.ArgumentTypeError(f"{where}{words[-1]} has no value; KEY VALUE pairs are needed")
    return dict(zip(words[::2], words[1::2]))


def variant(text: str) -> tuple[str, dict[str, Any]]:
    """Of `NAME=[METHOD] KEY VALUE ...`; without METHOD it is AdaPruner."""
    name, rest = _named(text)
    words = pairs_of(shlex.split(rest))
    method = {"method": words.pop(0)} if len(words) % 2 else {}
    return name, {**method, **_settings(words)}


def main():
    parser = argument_parser()
    args = parser.parse_args()
    if args.jobs < 1:
        parser.error(f"--jobs: {args.jobs} runs at a time; there has to be at least 1")
    try:
        experiment = experiment_of(args)
        injected = InjectedErrors.load(args.injected) if args.injected else None
        runs = plan(experiment, args.output)
        if injected:
            check_injected(experiment, injected)
    except (OSError, ValueError, argparse.ArgumentTypeError) as problem:
        parser.error(str(problem))
    except KeyError as problem:  # of Detectron2, for a data set that is not registered
        parser.error(str(problem.args[0]))
    try:
        with _sigterm_passed_on():
            execute(runs, args.output, args.jobs)
        print(report(experiment, args.output, injected))
    except (RunChangedError, RunFailedError) as problem:
        sys.exit(f"{program()}: error: {problem}")
    except KeyboardInterrupt as stopped:
        print(f"{program()}: stopped; the same command goes on where this one was", file=sys.stderr)
        sys.exit(128 + (stopped.args or (signal.SIGINT,))[0])


@contextmanager
def _sigterm_passed_on() -> Iterator[None]:
    """SIGTERM ends the commands that run as Ctrl-C does, which these get from the terminal: they finish their step and save."""

    def stop(signum: int, frame: Any) -> None:
        processes.pass_on(signum)
        raise KeyboardInterrupt(signum)

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
