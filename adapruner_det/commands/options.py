"""The command line of `adapruner prune`, `adapruner train` and tools/train_net.py. Needs no torch: `--help` is quick."""

import argparse
import os
import re
from collections.abc import Sequence
from itertools import islice
from pathlib import Path

FORMATS = (
    "a PASCAL VOC folder (or FOLDER:LIST), a COCO JSON (or FILE.json:IMAGE_DIR), a YOLO data.yaml (or FILE.yaml:SPLIT), or a "
    "folder of class folders"
)
SPECS = (
    "NAME=voc:DIR:LIST, NAME=coco:FILE.json:IMAGE_DIR, NAME=yolo:data.yaml:SPLIT (each with :class1,class2,... behind it, "
    "else the classes are read from the data), NAME=images:PATH or NAME=torchvision:KIND:ROOT:SPLIT"
)
AUTO = "auto"
DEFAULT_KEEP = 0.8  # of ADAPRUNER.KEEP_RATIO

_DESCRIPTIONS = {
    "prune": "Learns which images of a training set a detector or classifier can do without, and says why.",
    "train": "Trains and evaluates a detector or classifier, on everything or on what a selection keeps.",
    "train_net.py": "Prunes a training set with AdaPruner, trains a model on everything or on a selection, and evaluates it.",
}
_OWN_DATA = f"""
DATA is {FORMATS}.

  adapruner prune /data/mine --keep 0.8 --output output/mine
  adapruner train /data/mine --selection output/mine/selection --output output/mine_train

Image size, length, anchors and classes come from the data; KEY VALUE or KEY=VALUE behind it sets anything else, such as
SOLVER.MAX_EPOCHS=40. With a config of your own, or one of configs/:

"""
_WITH_CONFIG = """  adapruner prune --config-file configs/voc/prune_yolov3_tiny_R18.yaml \\
      --register my_train=voc:/data/mine:trainval ADAPRUNER.KEEP_RATIO 0.8 OUTPUT_DIR output/mine
  adapruner train --config-file configs/voc/train_faster_rcnn_R50_FPN.yaml \\
      --register my_train=voc:/data/mine:trainval --register my_test=voc:/data/mine:test \\
      --selection output/mine/selection OUTPUT_DIR output/mine_frcnn
"""
_KEY = re.compile(r"[A-Z][A-Z0-9_]*(\.[A-Z0-9_]+)*")
_PAIR = re.compile(rf"({_KEY.pattern})=(.*)", re.DOTALL)
_WITHOUT_DOT = ("CUDNN_BENCHMARK", "OUTPUT_DIR", "SEED", "VERSION", "VIS_PERIOD")  # keys that could be a folder's name


class UsageError(ValueError):
    """What is wrong with a command line, in one line."""


class _Parser(argparse.ArgumentParser):
    def error(self, message):
        raise UsageError(message)


def ratio(text: str) -> float:
    """A share of images; ArgumentTypeError says how it is meant to be."""
    try:
        value = float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no number; it is a share of the images, such as 0.8") from None
    if not 0 < value < 1:
        meant = f"; did you mean {value / 100:g}?" if 1 < value < 100 else ""
        raise argparse.ArgumentTypeError(f"{text} is no share above 0 and below 1{meant}")
    return value


def _keep(text: str) -> "float | str":
    return AUTO if text == AUTO else ratio(text)


def argument_parser(command: str = "train_net.py") -> argparse.ArgumentParser:
    """
    Args:
        command: "prune", "train" or "train_net.py".
    """
    with_data = command != "train_net.py"
    parser = _Parser(
        prog=f"adapruner {command}" if with_data else None,
        usage=f"%(prog)s {'[DATA] ' if with_data else ''}[options] [KEY VALUE | KEY=VALUE ...]",
        description=_DESCRIPTIONS[command],
        epilog=(_OWN_DATA if with_data else "") + _WITH_CONFIG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    option = parser.add_argument
    option("words", nargs="*", metavar="KEY VALUE", help="settings of the config, after DATA if there is one")
    if command != "train":
        option("--keep", type=_keep, metavar="RATIO", help="share of the images that stays, such as 0.8; `auto`: the share down to "
               f"which images go for a reason (ADAPRUNER.KEEP_RATIO); default: the config's, {DEFAULT_KEEP:g} without one")  # fmt: skip
    if command != "prune":
        option("--selection", metavar="DIR", help="train only on what this selection keeps (DATASETS.SELECTION)")
    option("--output", metavar="DIR", help="folder of the run (OUTPUT_DIR); default: "
           f"{'of DATA output/<its name>' + '_train' * (command == 'train') + ', else ' if with_data else ''}the config's")  # fmt: skip
    option(
        "--config-file", default="", metavar="FILE", help="config; without one a small detector or classifier is taken"
    )
    option("--register", action="append", default=[], metavar="NAME=FORMAT:...", help="a data set of your own: "
           f"{SPECS}. Can be repeated: the first is trained on, the second evaluated on, unless --train and --test say "
           "otherwise")  # fmt: skip
    option(
        "--train", action="append", default=[], metavar="NAME", help="data set to prune or train on. Can be repeated"
    )
    option("--test", action="append", default=[], metavar="NAME", help="data set to evaluate on"
           f"{', or DATA' if with_data else ''}. Can be repeated")  # fmt: skip
    option("--epochs", type=float, metavar="N", help="passes over the images (SOLVER.MAX_EPOCHS)")
    option("--resume", action="store_true", help="go on with the run in the output folder")
    option("--overwrite", action="store_true", help="start anew in a folder that holds another run, and replace it")
    option("--eval-only", action="store_true", help="evaluate MODEL.WEIGHTS, or with --resume the run's newest weights")
    option("-v", "--verbose", action="store_true", help="show on the console what goes to log.txt")
    option("--num-gpus", type=int, default=1, metavar="N", help="processes on this machine, each with a GPU or on CPUs")
    option("--num-machines", type=int, default=1, metavar="N")
    option("--machine-rank", type=int, default=0, metavar="N", help="which of them this is, from 0")
    port = 2**15 + 2**14 + hash(os.getuid()) % 2**14  # of the user, so that forgotten processes are noticed
    option("--dist-url", default=f"tcp://127.0.0.1:{port}", metavar="URL", help="where the processes meet")
    return parser


def parse(command: str = "train_net.py", words: "Sequence[str] | None" = None) -> argparse.Namespace:
    """What the command line says: options in any order, `data`, and the KEY VALUE pairs as `opts`.

    Pairs that options stand for come first in `opts`, so that a pair that is written out wins.

    Raises:
        UsageError: the words make no command.
    """
    parser = argument_parser(command)
    args = parser.parse_intermixed_args(words)
    given = pairs_of(args.words)
    args.data = given.pop(0) if given and _is_data(given[0]) else None
    if len(given) % 2 or not all(map(_KEY.fullmatch, given[::2])):
        wrong = next((key for key in given[::2] if not _KEY.fullmatch(key)), given[-1] if given else "")
        parser.error(f"KEY VALUE or KEY=VALUE is needed at {wrong!r}: {_why(wrong)}")
    if command == "train_net.py" and args.data:
        parser.error(f"{args.data!r} is no KEY VALUE pair; `adapruner prune {args.data}` finds out what it is")
    if command != "train_net.py" and not (args.data or args.config_file or args.register or args.train):
        parser.error(f"DATA or --config-file is missing. DATA is {FORMATS}")
    if args.data and args.train:
        parser.error(f"{args.data} is what is trained on: leave --train {args.train[0]} out")
    args.command, args.keep = command, getattr(args, "keep", None)
    args.pairs, args.opts = given, [*_stood_for(args), *given]
    return args


def _stood_for(args: argparse.Namespace) -> list[str]:
    switch = {"prune": "True", "train": "False"}.get(args.command)
    auto = args.keep == AUTO
    values = {
        "ADAPRUNER.ENABLED": switch,
        "ADAPRUNER.AUTO_KEEP_RATIO": "True" if auto else None,
        "ADAPRUNER.KEEP_RATIO": None if auto else args.keep,
        "SOLVER.MAX_EPOCHS": args.epochs,
        "OUTPUT_DIR": args.output,
        "DATASETS.SELECTION": getattr(args, "selection", None),
    }
    return [part for key, value in values.items() if value is not None for part in (key, str(value))]


def pairs_of(words: Sequence[str]) -> list[str]:
    """The words with each KEY=VALUE in two, as Detectron2 takes them; not what is there as a path, nor what follows a KEY."""
    parts: list[str] = []
    left = iter(words)
    for word in left:
        is_path = os.path.exists(word)
        if pair := None if is_path else _PAIR.fullmatch(word):
            parts += [pair[1], pair[3]]
        else:
            parts += [word, *islice(left, 0 if is_path or not _KEY.fullmatch(word) else 1)]
    return parts


def _is_data(word: str) -> bool:
    return Path(word).exists() or not (_KEY.fullmatch(word) and ("." in word or word in _WITHOUT_DOT))


def _why(word: str) -> str:
    return "it has no value" if _KEY.fullmatch(word) else "a key has capital letters, such as SOLVER.BASE_LR"
