#!/usr/bin/env python
"""Makes one table of the results of several comparisons, such as seeds that ran on different machines.

    python tools/compare.py --experiment configs/experiments/final_neu_det.yaml --seeds 0 --output output/seed0
    python tools/compare.py --experiment configs/experiments/final_neu_det.yaml --seeds 1 2 --output output/seeds12
    python tools/merge_results.py output/seed0/results.csv output/seeds12/results.csv --output output/all

It leaves results.csv, table.md, figure.png and differences.png in --output, as compare.py does, and prints the table.
"""

import argparse
from pathlib import Path

from adapruner_det.experiments.results import draw, read_results, write_tables


def argument_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", nargs="+", type=Path, metavar="RESULTS.CSV", help="of compare.py's --output")
    parser.add_argument("--output", required=True, type=Path, help="folder for the merged results")
    return parser


if __name__ == "__main__":
    parser = argument_parser()
    arguments = parser.parse_args()
    try:
        merged = read_results(arguments.results)
        arguments.output.mkdir(parents=True, exist_ok=True)
    except (OSError, ValueError) as problem:
        parser.error(str(problem))
    print(write_tables(merged, arguments.output))
    draw(merged, arguments.output)
