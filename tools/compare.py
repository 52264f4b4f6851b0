#!/usr/bin/env python
"""Compares detectors trained on everything, on AdaPruner's selection and on a random one.

It prunes, trains and evaluates for every method, ratio and seed, several runs at a time, with equal
numbers of iterations. Killed, it goes on where it stopped when started again; finished runs are never
repeated. It leaves results.csv (a row a training) and table.md in --output.

    python tools/compare.py --prune-config configs/bccd/prune_yolov3_tiny_R18.yaml \\
        --train-configs YOLOv3-Tiny=configs/bccd/train_yolov3_tiny_R18.yaml \\
                        "Faster R-CNN=configs/bccd/train_faster_rcnn_R18_FPN.yaml" \\
        --keep-ratios 0.8 --seeds 0 1 2 --jobs 2 --output output/bccd/compare
"""
import argparse
from pathlib import Path

from adapruner_det.comparison.plan import METHODS, Comparison, plan
from adapruner_det.comparison.runs import execute
from adapruner_det.comparison.table import collect, summarise
from adapruner_det.files import write_text


def compare(comparison: Comparison, output: Path, jobs: int) -> str:
    """Runs the comparison, writes its files and returns its table as Markdown."""
    execute(plan(comparison, output), output, jobs)
    results = collect(comparison, output)
    table = summarise(results).to_markdown(index=False, disable_numparse=True)
    write_text(output / "results.csv", results.to_csv(index=False, lineterminator="\n"))
    write_text(output / "table.md", table + "\n")
    return table


def _named_config(text: str):
    name, equals, path = text.partition("=")
    if not (name and equals and Path(path).is_file()):
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=CONFIG with an existing config file")
    return name, path


def parse_arguments():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--prune-config", required=True, help="config of the pruning run")
    parser.add_argument(
        "--train-configs",
        required=True,
        nargs="+",
        type=_named_config,
        metavar="NAME=CONFIG",
        help="detectors to train and evaluate",
    )
    parser.add_argument("--methods", nargs="+", default=list(METHODS), choices=METHODS)
    parser.add_argument(
        "--keep-ratios", nargs="+", type=float, default=[0.8], help="shares of images that stay"
    )
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--jobs", type=int, default=1, help="runs at a time, sharing the cores")
    parser.add_argument("--output", required=True, type=Path)
    parser.add_argument(
        "opts", nargs=argparse.REMAINDER, help="KEY VALUE overrides for every run, at the end"
    )
    return parser.parse_args()


if __name__ == "__main__":
    args = parse_arguments()
    print(
        compare(
            Comparison(
                Path(__file__).resolve().parent,
                args.prune_config,
                dict(args.train_configs),
                tuple(args.methods),
                tuple(args.keep_ratios),
                tuple(args.seeds),
                tuple(args.opts),
            ),
            args.output,
            args.jobs,
        )
    )
