#!/usr/bin/env python
"""Compares models trained on everything, on AdaPruner's selection, on a random one and on other methods'.

It prunes, trains and evaluates for every method, ratio and seed, several runs at a time. Killed, it goes
on where it stopped when started again; finished runs are never repeated. AdaPruner prunes once a seed, whatever
the ratios. It leaves results.csv (a row a training), table.md, figure.png and selections.md in --output.

    python tools/compare.py --prune-config configs/bccd/prune_yolov3_tiny_R18.yaml \\
        --train-configs YOLOv3-Tiny=configs/bccd/train_yolov3_tiny_R18.yaml \\
                        "Faster R-CNN=configs/bccd/train_faster_rcnn_R18_FPN.yaml" \\
        --keep-ratios 0.8 --seeds 0 1 2 --jobs 2 --output output/bccd/compare

An experiment file holds the same options; those given besides take their place:
    python tools/compare.py --experiment configs/experiments/cifar10_small.yaml --seeds 0 \\
        --output output/cifar10_small

On data of your own (README.md has the formats), with any configs:
    python tools/compare.py --experiment configs/experiments/detection_small.yaml \\
        --register my_train=voc:/data/mine:trainval --register my_test=voc:/data/mine:test \\
        --output output/mine_compare

Without --train-configs it only selects, and prints how far the selections agree (selections.md).

With --budgets iterations every training is as long as the one on everything, with epochs a training on a
selection sees its fewer images as often, in fewer iterations.
"""

import argparse
import functools
import re
from pathlib import Path

from adapruner_det.experiments.agreement import CAPTION, PLANTED_CAPTION, compare_selections
from adapruner_det.experiments.budgets import BUDGETS
from adapruner_det.experiments.comparison import FULL, Comparison
from adapruner_det.experiments.experiment import (
    build_comparison,
    config_file,
    merge,
    named,
    read_experiment,
    split_pairs,
    variant_of,
    with_registered,
)
from adapruner_det.experiments.methods import METHODS
from adapruner_det.experiments.plan import check, plan
from adapruner_det.experiments.results import write_results
from adapruner_det.experiments.runs import RunChangedError, RunFailedError, execute
from adapruner_det.experiments.table import collect
from adapruner_det.files import write_text
from adapruner_det.report.planted import Planted, PlantedMismatchError

TOOLS = Path(__file__).resolve().parent
NO_OPTION = ("experiment", "output", "jobs", "planted", "register")  # of a Comparison


def compare(comparison: Comparison, output: Path, jobs: int) -> str:
    """Runs the comparison, writes its files and returns its table as Markdown."""
    execute(plan(comparison, output), output, jobs)
    return report(comparison, output)


def report(comparison: Comparison, output: Path, planted: Planted | None = None) -> str:
    """Writes the files of a comparison whose runs are finished; returns its table as Markdown.

    Raises:
        PlantedMismatchError: the planted defects are those of other images; the other files are written.
    """
    table = write_results(collect(comparison, output), output) if comparison.models() else ""
    selections = _selections(comparison, output, planted)
    return table or selections


def _selections(comparison: Comparison, output: Path, planted: Planted | None) -> str:
    """Writes the table of the selections, if there are any, and returns it."""
    if not comparison.selecting_methods():
        return ""
    table = compare_selections(comparison, output, planted).to_markdown(index=False, disable_numparse=True)
    captions = f"{CAPTION} {PLANTED_CAPTION}" if planted else CAPTION
    write_text(output / "selections.md", f"{table}\n\n{captions}\n")
    return table


def _named_config(text: str):
    name, path = named(text)
    return name, config_file(path)


def _jobs(text: str) -> int:
    jobs = int(text)
    if jobs < 1:
        raise ValueError(f"{jobs} runs at a time; there has to be at least 1")
    return jobs


def _variant(text: str):
    name, words = named(text)
    return name, variant_of(split_pairs(words))


def _planted(path: str) -> Planted:
    try:
        return Planted.load(path)
    except FileNotFoundError as error:
        raise ValueError(str(error)) from error


def _explained(convert):
    """For argparse, which hides the message of a ValueError."""

    def explaining(text):
        try:
            return convert(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from error

    return explaining


def _each(convert):
    """For an option with several values: the overrides at the end would be taken for more of them."""

    @functools.wraps(convert)
    def converting(text):
        if re.fullmatch(r"[A-Z][A-Z0-9_]*(\.[A-Z0-9_]+)*", text):
            raise argparse.ArgumentTypeError(
                f"{text} is a config key; KEY VALUE overrides go behind an option that takes one value: "
                f"... --output DIR {text} VALUE"
            )
        return convert(text)

    return converting


def argument_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        argument_default=argparse.SUPPRESS,
    )
    parser.add_argument("--output", required=True, type=Path, help="folder of all runs and the results")
    parser.add_argument(
        "--jobs", type=_explained(_jobs), default=1, help="runs at a time, sharing cores and GPUs (default: 1)"
    )
    parser.add_argument("--experiment", metavar="FILE", help="YAML file with any of the options below")
    parser.add_argument("--prune-config", type=_explained(config_file), help="config of the pruning run")
    parser.add_argument(
        "--train-configs",
        nargs="+",
        type=_each(_explained(_named_config)),
        metavar="NAME=CONFIG",
        help="models to train and evaluate; without any, only the selections are compared",
    )
    parser.add_argument(
        "--register",
        action="append",
        default=[],
        metavar="NAME=FORMAT:...",
        help="data sets of your own in place of the configs', as in train_net.py: the first is pruned and "
        "trained on, the second evaluated on",
    )
    parser.add_argument(
        "--methods",
        nargs="+",
        type=_each(str),
        choices=(FULL, *METHODS),
        metavar="METHOD",
        help=f"default: full random adapruner. There are {', '.join((FULL, *METHODS))}; "
        "`score.py --list` explains them",
    )
    parser.add_argument("--keep-ratios", nargs="+", type=_each(float), help="shares of images that stay (default: 0.8)")
    parser.add_argument("--seeds", nargs="+", type=_each(int), help="default: 0")
    parser.add_argument(
        "--budgets",
        nargs="+",
        type=_each(str),
        choices=BUDGETS,
        help="what is equal in all trainings (default: iterations)",
    )
    parser.add_argument(
        "--variant",
        action="append",
        dest="variants",
        type=_explained(_variant),
        metavar='"NAME=[METHOD] KEY VALUE ..."',
        help='a method with other settings, shown as NAME: --variant "no warm-up=adapruner ADAPRUNER.WARMUP 0" '
        '(AdaPruner if none is named), "EL2N by class=el2n SCORING.CLASS_BALANCE True". Can be repeated',
    )
    parser.add_argument(
        "--cut-from",
        type=float,
        metavar="RATIO",
        help="AdaPruner prunes once a seed, at this ratio (default: 0.8), and its selections at others are cut from "
        "that one; methods that look at the ratio score for this one alone (default: for each)",
    )
    parser.add_argument(
        "--planted",
        metavar="FILE",
        default=None,
        type=_explained(_planted),
        help="planted.json of datasets/inject_label_errors.py, of the images to prune: selections.md says how "
        "often its defects were pruned",
    )
    parser.add_argument(
        "--finetune",
        nargs="+",
        type=_each(_explained(_named_config)),
        metavar="NAME=CONFIG",
        help="go on from each training of model NAME with CONFIG, on other data; what is compared is "
        "the result of that",
    )
    for stage, what in (("prune", "what selects"), ("train", "the trainings"), ("finetune", "--finetune")):
        parser.add_argument(
            f"--{stage}-opts",
            type=_explained(split_pairs),
            metavar='"KEY VALUE ..."',
            help=f"overrides for {what} alone",
        )
    parser.add_argument(
        "opts",
        nargs=argparse.REMAINDER,
        help="KEY VALUE overrides for every run, at the end, behind an option that takes one value (--output DIR)",
    )
    return parser


def comparison_of(args: argparse.Namespace) -> Comparison:
    """What the command line and its experiment file ask for.

    Raises:
        ValueError: see `read_experiment` and `Comparison`; names the experiment file.
    """
    given = {name: value for name, value in vars(args).items() if name not in NO_OPTION}
    for name in ("train_configs", "variants", "finetune"):
        if name in given:
            given[name] = dict(given[name])
    given = {name: tuple(v) if isinstance(v, list) else v for name, v in given.items()}
    given = with_registered(given, args.register)
    experiment = getattr(args, "experiment", None)
    if experiment is None:
        return build_comparison(TOOLS, given)
    options = read_experiment(experiment)
    try:
        return build_comparison(TOOLS, merge(options, given))
    except ValueError as error:
        raise ValueError(f"{experiment}, with the options given besides: {error}") from error


if __name__ == "__main__":
    parser = argument_parser()
    arguments = parser.parse_args()
    try:
        asked_for = comparison_of(arguments)
        check(asked_for)
        runs = plan(asked_for, arguments.output)
    except (OSError, ValueError) as problem:
        parser.error(str(problem))
    except KeyError as problem:  # of Detectron2, for a data set that is not registered
        parser.error(str(problem.args[0]))
    try:
        execute(runs, arguments.output, arguments.jobs)
    except (RunChangedError, RunFailedError) as problem:
        raise SystemExit(f"compare.py: error: {problem}") from None
    try:
        print(report(asked_for, arguments.output, arguments.planted))
    except PlantedMismatchError as problem:
        raise SystemExit(f"compare.py: error: {problem}") from None
