"""Selects images by one of the other pruning methods; the files are those of AdaPruner's selections.

    adapruner score --list

    adapruner score el2n --config-file configs/cifar10/prune_small.yaml --keep-ratio 0.7 --seed 0 \\
        --output output/cifar10/el2n

Most methods look at a proxy: a network that trains on all images by the config of the pruning run,
without a mask. Where it is missing it is trained as far as the method needs it; killed, it goes on where
it stopped. One proxy serves all methods and ratios of a seed. To train it alone, to the end:

    adapruner score proxy --config-file configs/cifar10/prune_small.yaml --seed 0 \\
        --output output/cifar10/proxy_seed0

Then train on the selection: adapruner train DATA --selection output/cifar10/el2n. KEY VALUE pairs at
the end override the config; those of SCORING are for these methods alone.
"""

import argparse
import sys
from pathlib import Path

from tabulate import tabulate

from adapruner_det.baselines.registry import (
    ADAPRUNER,
    CLASSIFICATION,
    DETECTION,
    EARLY,
    GROUPS,
    METHODS,
    TRAINED,
    Method,
    current_name,
    refusal,
)
from adapruner_det.commands import Parser, program
from adapruner_det.commands.options import pairs_of
from adapruner_det.data.selection_lists import check_replaceable, write_selection
from adapruner_det.data.selection_record import summary, vanished_classes
from adapruner_det.engine import load_config
from adapruner_det.engine.proxy import Proxy, task_name
from adapruner_det.engine.score import select_by
from adapruner_det.engine.select import variant_of
from adapruner_det.engine.stopping import Stopped, StopSignals, kill_workers_with_this_process

PROXY = "proxy"


def table() -> str:
    """All methods, a line each, by what they need."""
    parts = []
    for group in GROUPS:
        rows = [_row(name, method) for name, method in METHODS.items() if method.group == group]
        parts += [f"Needs {group}:", "", tabulate(rows, headers=_HEADERS, tablefmt="github"), ""]
    reasons = [
        refusal(name, task, part)
        for task in (DETECTION, CLASSIFICATION)
        for name, method in METHODS.items()
        for part in ("", method.classes_only)
    ]
    return "\n".join([*parts, *dict.fromkeys(filter(None, reasons))])


_HEADERS = ["method", "keeps the images", "proposed by", "looks at", "at another ratio", "for", "variants"]


def _row(name: str, method: Method) -> list[str]:
    looks_at, again = ", ".join(method.needs) or "labels", "score again" if method.looks_at_ratio else "cut"
    return [name, method.summary, method.source, looks_at, again, ", ".join(method.tasks), _choices(name, method)]


def _choices(name: str, method: Method) -> str:
    return f"SCORING.{name.upper()} {', '.join(method.variants)}" if method.variants else ""


def open_proxy(args, folder) -> Proxy:
    """The proxy in a folder, or to be; ends the program if it cannot serve the method."""
    cfg = load_config(args.config_file, args.register, args.opts)
    reason = args.method != PROXY and refusal(args.method, task_name(cfg), variant_of(args.method, cfg))
    if reason:
        raise SystemExit(reason)
    return Proxy(cfg, args.seed, folder)


def score(args):
    check_replaceable(args.output, args.overwrite)  # not only when the work is done
    proxy = open_proxy(args, args.proxy or Path(args.output).resolve().parent / f"proxy_seed{args.seed}")
    selection, statistics = select_by(args.method, proxy, args.keep_ratio, args.seed)
    write_selection(selection, args.output, statistics if args.method == ADAPRUNER else None)
    print(f"{summary(selection)}\nwritten to {args.output}")
    for name in vanished_classes(selection):
        print(f"nothing of class {name} is kept: raise --keep-ratio, or set SCORING.CLASS_BALANCE True")


def train_proxy(args):
    proxy = open_proxy(args, args.output)
    proxy.train(EARLY)
    proxy.train(TRAINED)
    print(f"the proxy is in {args.output}")


def method_name(name: str) -> str:
    try:
        return current_name(name)
    except ValueError as error:
        raise argparse.ArgumentTypeError(error) from error


def parse_arguments():
    parser = Parser(description=__doc__)
    parser.add_argument(
        "method", nargs="?", type=method_name, choices=[*METHODS, PROXY], metavar="METHOD",
        help="a method that --list shows, or proxy",
    )  # fmt: skip
    parser.add_argument("--list", action="store_true", help="show all methods")
    parser.add_argument("--config-file", default="", help="config of the pruning run; it names the data")
    parser.add_argument(
        "--keep-ratio", type=float,
        help="share of the images that stays; a method that sets it itself prunes what moves the parameters as "
        "far as to prune the rest of them at random",
    )  # fmt: skip
    parser.add_argument("--seed", type=int, default=0, help="of method and proxy; default 0")
    parser.add_argument("--output", metavar="DIR", help="where the selection goes; for proxy, the proxy")
    parser.add_argument("--overwrite", action="store_true", help="replace a selection that lies there")
    parser.add_argument(
        "--proxy", metavar="DIR",
        help="where the proxy is, or is to be trained; default: the folder proxy_seed<SEED> beside --output",
    )  # fmt: skip
    parser.add_argument(
        "--register", action="append", default=[], metavar="NAME=FORMAT:...",
        help="a data set of your own, as in `adapruner prune`",
    )  # fmt: skip
    # What is left over, not REMAINDER: that would swallow the options behind a positional argument.
    args, left_over = parser.parse_known_args()
    args.opts = pairs_of(left_over)
    if args.opts and args.opts[0].startswith("-"):
        parser.error(f"unrecognized arguments: {' '.join(args.opts)}")
    if not args.list:
        needed = {"METHOD": args.method, "--output": args.output, "--config-file": args.config_file or None}
        if args.method != PROXY:
            needed["--keep-ratio"] = args.keep_ratio
        missing = [name for name, value in needed.items() if value is None]
        if missing:
            parser.error(f"{', '.join(missing)} needed (or --list)")
        if args.method == PROXY and (args.keep_ratio is not None or args.proxy):
            parser.error("proxy takes neither --keep-ratio nor --proxy: it serves every ratio, in --output")
        if args.seed < 0:
            parser.error(f"--seed is {args.seed}; it has to be at least 0")
        if args.keep_ratio is not None and not 0 < args.keep_ratio <= 1:  # at 1 there are scores alone, to cut from
            parser.error(f"--keep-ratio is {args.keep_ratio}; it is a share, above 0 and at most 1")
    return args


def main() -> None:
    arguments = parse_arguments()
    kill_workers_with_this_process()
    try:
        with StopSignals().caught():
            if arguments.list:
                print(table())
            elif arguments.method == PROXY:
                train_proxy(arguments)
            else:
                score(arguments)
    except Stopped as stopped:
        stopped.tell(program(), sys.argv)
        raise
    # yacs asserts that a file or key exists
    except (AssertionError, FloatingPointError, ImportError, KeyError, OSError, ValueError) as problem:
        message = problem.args[0] if isinstance(problem, KeyError) else problem
        raise SystemExit(f"{program()}: error: {message}") from problem


if __name__ == "__main__":
    main()
