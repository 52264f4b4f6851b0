#!/usr/bin/env python
"""Measures what pruning costs. Each subcommand prints a Markdown table; --output keeps the figures.

The mask alone: a step and a projection at N = 1e4, 1e6, 1e8 (a minute, 0.5 GB):
    python tools/benchmark.py mask

A pruning step against Detectron2's plain one, alternating in one process (some minutes on a CPU):
    python tools/benchmark.py overhead
    python tools/benchmark.py overhead --device cuda --model-size R50 --batch-size 16 --image-size 640

Native losses, losses image by image, images one at a time:
    python tools/benchmark.py losses --detectors "Faster R-CNN" RetinaNet

A classifier's training on its data against the same on one fixed batch, alternating (a minute):
    python tools/benchmark.py loader --config-file configs/cifar10/train_small.yaml
    python tools/benchmark.py loader --config-file configs/cifar10/train_resnet18.yaml --device cuda

Reading a detection set's images as this project does against Detectron2's own way (seconds):
    python tools/benchmark.py reading --config-file configs/voc/prune_yolov3_tiny_R18.yaml

Ratios are of medians, with the quartiles of the ratios round by round beside them. Set OMP_NUM_THREADS=1
on a machine that others use.
"""

import argparse
import json
import os
import platform
from pathlib import Path

import pandas as pd
import torch

from adapruner_det.benchmark import DETECTORS
from adapruner_det.benchmark.mask import NotEnoughMemory, measure_masks
from adapruner_det.files import write_text

# Detectron2 is imported by those who need it: the processes that hold a mask start with this file.

CONFIGS = Path(__file__).resolve().parents[1] / "configs"


def mask(args):
    return measure_masks(args.sizes, args.batch_size, args.steps, args.projections, args.device)


def overhead(args):
    import adapruner_det.engine  # noqa: F401 - first: it quiets imports
    from adapruner_det.benchmark.training import measure_overhead

    return measure_overhead(args.detectors, **_setting(args), num_images=args.num_images)


def losses(args):
    import adapruner_det.engine  # noqa: F401 - first: it quiets imports
    from adapruner_det.benchmark.losses import measure_losses

    return measure_losses(args.detectors, **_setting(args))


def loader(args):
    import adapruner_det.engine  # noqa: F401 - first: it quiets imports
    from adapruner_det.benchmark.loader import measure_loader

    return measure_loader(
        args.config_file,
        args.register,
        args.opts,
        device=args.device,
        rounds=args.rounds,
        steps=args.steps,
    )


def reading(args):
    import adapruner_det.engine  # noqa: F401 - first: it quiets imports
    from adapruner_det.benchmark.reading import measure_reading

    return measure_reading(args.config_file, args.register, args.opts, rounds=args.rounds, images=args.images)


def _setting(args) -> dict:
    return {
        "configs": CONFIGS,
        "device": args.device,
        "small": args.model_size == "R18",
        "batch_size": args.batch_size,
        "image_size": args.image_size,
        "rounds": args.rounds,
        "mixed_precision": args.mixed_precision,
    }


def table(rows) -> str:
    """Markdown: three digits of every fraction, nothing where nothing was measured."""
    shown = pd.DataFrame(rows).map(
        lambda v: "" if pd.isna(v) else f"{v:,.3f}" if isinstance(v, float) else f"{v:,}"
        if isinstance(v, int) else v
    )  # fmt: skip
    return shown.to_markdown(index=False, disable_numparse=True)


def machine(device: str) -> dict:
    """Where the figures come from."""
    name = platform.processor() or platform.machine()
    if device.startswith("cuda"):
        name = torch.cuda.get_device_name(device)
    return {
        "device": name,
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "python": platform.python_version(),
    }


def _count(text: str) -> int:
    """A number of samples; 1e8 is one too."""
    value = float(text)
    if value != int(value) or value < 100:
        raise argparse.ArgumentTypeError(f"{text} is not a whole number of at least 100 samples")
    return int(value)


def _positive(text: str) -> int:
    if int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text} is not above 0")
    return int(text)


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(
        required=True, dest="command", metavar="mask | overhead | losses | loader | reading"
    )

    command = commands.add_parser("mask", help="time and memory of the mask, by number of samples")
    command.set_defaults(run=mask)
    command.add_argument(
        "--sizes", nargs="+", type=_count, default=[10**4, 10**6, 10**8], metavar="N",
        help="numbers of samples, one mask each, 4 bytes a sample; default 1e4 1e6 1e8",
    )  # fmt: skip
    command.add_argument("--steps", type=_positive, default=300, help="timed steps; default 300")
    command.add_argument("--projections", type=_positive, default=3, help="timed projections; default 3")
    _add_common(command, batch_size=256)

    command = commands.add_parser(
        "overhead", help="a training step that prunes against a plain one: time and peak memory"
    )
    command.set_defaults(run=overhead)
    _add_model(command, ["YOLOv3-Tiny", "Faster R-CNN", "RetinaNet"], rounds=20)
    command.add_argument("--num-images", type=_count, default=10**5, help="of the training set; default 1e5")

    command = commands.add_parser("losses", help="native losses, losses image by image, images one at a time")
    command.set_defaults(run=losses)
    _add_model(command, list(DETECTORS), rounds=10)

    command = commands.add_parser("loader", help="a classifier's training on its data against one on a fixed batch")
    command.set_defaults(run=loader)
    command.add_argument(
        "--config-file", type=Path, default=CONFIGS / "cifar10" / "train_small.yaml", metavar="FILE",
        help="of a classifier, whose training set is read; default configs/cifar10/train_small.yaml",
    )  # fmt: skip
    command.add_argument("--steps", type=_positive, default=10, help="a round; default %(default)s")
    _add_data(command)

    command = commands.add_parser(
        "reading", help="reading a detection set's images against Detectron2's way, on one core"
    )
    command.set_defaults(run=reading)
    command.add_argument(
        "--config-file", type=Path, required=True, metavar="FILE",
        help="of a detector, whose training set is read",
    )  # fmt: skip
    command.add_argument("--images", type=_positive, default=50, help="a round; default %(default)s")
    _add_data(command)
    return parser.parse_args()


def _add_data(command):
    command.add_argument(
        "--register", action="append", default=[], metavar="NAME=FORMAT:...",
        help="a data set of your own in place of the config's, as in train_net.py",
    )  # fmt: skip
    command.add_argument("--rounds", type=_positive, default=20, help="default %(default)s")
    _add_common(command)
    command.add_argument("opts", nargs="*", metavar="KEY VALUE", help="overrides of the config")


def _add_common(command, batch_size=None):
    command.add_argument(
        "--device",
        default="cuda" if torch.cuda.is_available() else "cpu",
        help="cpu or cuda; default cuda where there is one",
    )
    if batch_size is not None:
        command.add_argument("--batch-size", type=_positive, default=batch_size, help="default %(default)s")
    command.add_argument("--output", type=Path, metavar="FILE.json", help="write the figures there too")


def _add_model(command, detectors, rounds):
    command.add_argument(
        "--detectors", nargs="+", default=detectors, choices=list(DETECTORS), metavar="NAME",
        help=f"of {', '.join(DETECTORS)}; default {', '.join(detectors)}",
    )  # fmt: skip
    command.add_argument("--model-size", choices=("R18", "R50"), default="R18", help="backbone; default R18")
    command.add_argument("--image-size", type=_positive, default=128, help="pixels; default 128")
    command.add_argument("--rounds", type=_positive, default=rounds, help="default %(default)s")
    command.add_argument(
        "--mixed-precision",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="bfloat16, as SOLVER.AMP.ENABLED in the configs; default on",
    )
    _add_common(command, batch_size=8)


def main():
    args = parse_arguments()
    try:
        rows = args.run(args)
    except NotEnoughMemory as error:
        raise SystemExit(f"{error}")
    print(table(rows))
    if args.output:
        settings = {k: str(v) if isinstance(v, Path) else v for k, v in vars(args).items() if k != "run"}
        record = {"settings": settings, "machine": machine(args.device), "rows": rows}
        write_text(args.output, json.dumps(record, indent=1) + "\n")
        print(f"written to {args.output}")


if __name__ == "__main__":
    main()
