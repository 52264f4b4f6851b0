"""From a command line to a config with its data sets registered."""

import argparse
import logging
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import detectron2
import torch
import yaml
from detectron2.config import CfgNode, get_cfg
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.engine import default_setup
from detectron2.utils import comm

from ..data.formats import FORMATS
from ..data.recognise import TESTING, recognise
from ..data.registration import register_from_spec
from . import console, defaults
from .checkpoint import newest_checkpoint, noted_settings
from .config import RENAMED_OR_GONE, add_adapruner_config, apply_preset
from .config_values import check_values
from .distributed import once_a_machine
from .run_folder import check_settings, enter, settings_of
from .tasks import task_of

CLASSES_ONLY = {"images", "torchvision"}  # formats of classification
_ZOO = Path(detectron2.__file__).parent / "model_zoo" / "configs"

logger = logging.getLogger(__name__)


def setup(args: argparse.Namespace) -> CfgNode:
    """The frozen config of a run, with its data sets registered, and Detectron2's default_setup done.

    `args` are those of `commands.options`.

    Every head gets the number of classes of the data; a seed is drawn if none is set. Unless it only evaluates, the
    process holds OUTPUT_DIR until it ends.

    Raises:
        ValueError, KeyError: from Detectron2 and the registration, naming the key or the spec; OUTPUT_DIR belongs to
            another run.
    """
    register, names, told = _data_of(args)
    words = [*names, *args.opts]
    chooses = not args.config_file and args.command != "train_net.py"
    config_file = str(_default_config(register)) if chooses else args.config_file
    cfg = load_config(config_file, register, words)
    _check_settings(cfg, args, register)
    if args.eval_only:
        _check_evaluation(cfg, args, register)
    else:
        _enter(cfg.OUTPUT_DIR, args)
    console.set_up(cfg.OUTPUT_DIR, args.verbose)
    for line in told:
        console.say(*line)
    lines = [("model", f"{cfg.MODEL.META_ARCHITECTURE} as in {args.config_file}")] if args.config_file else []
    if chooses:
        chosen = defaults.choose(cfg, once_a_machine(lambda: task_of(cfg).load_records(cfg)), args.opts[::2])
        cfg, lines = load_config(config_file, register, [*chosen.words(), *words]), chosen.lines
    for line in lines:
        console.say(*line)
    _warn(cfg, args)
    set_num_classes(cfg)
    cfg.SEED = _seed(cfg, args.resume)
    cfg.freeze()
    if args.resume and not args.eval_only and not cfg.SOLVER.REFERENCE_WORLD_SIZE:
        noted = noted_settings(cfg.OUTPUT_DIR)  # before config.yaml is written; the trainer compares all
        try:
            check_settings({key: value for key, value in noted.items() if key != "SOLVER.MAX_ITER"}, cfg)
        except ValueError as error:
            follows = ". What you have not typed follows from the data, which may have changed" if chooses else ""
            raise ValueError(f"{error}{follows}") from error
    default_setup(cfg, args)
    return cfg


def load_config(config_file: str = "", register: Sequence[str] = (), opts: Sequence[str] = ()) -> CfgNode:
    """A config file, then the data sets to register, then KEY VALUE pairs; registers the data sets.

    An ADAPRUNER.PRESET among these takes the place of the defaults below all of them. Data sets of
    DATASETS.REGISTER that are neither trained nor evaluated on need not be there.

    Args:
        register: specs as of --register. One takes the place of the config's for the same name.
    """
    cfg = _merged(config_file, register, opts)
    if cfg.ADAPRUNER.PRESET:
        cfg = _merged(config_file, register, opts, cfg.ADAPRUNER.PRESET)
    if cfg.SOLVER.MAX_EPOCHS and "SOLVER.MAX_ITER" in opts[::2]:
        raise ValueError(
            f"SOLVER.MAX_ITER is given, but SOLVER.MAX_EPOCHS, {cfg.SOLVER.MAX_EPOCHS:g}, would take its place: add "
            "SOLVER.MAX_EPOCHS 0, or leave MAX_ITER out"
        )
    used = {*cfg.DATASETS.TRAIN, *cfg.DATASETS.TEST}
    for spec in cfg.DATASETS.REGISTER:
        if spec in register or _name(spec) in used:
            register_from_spec(spec, FORMATS, on_invalid=cfg.DATASETS.ON_INVALID)
    return cfg


class _Config(CfgNode):
    """Takes a whole number for a key that holds a float, in files and pairs; yacs refuses it."""

    def merge_from_other_cfg(self, cfg_other: CfgNode) -> None:
        _make_floats(cfg_other, self)
        super().merge_from_other_cfg(cfg_other)

    def merge_from_list(self, cfg_list: Sequence[str]) -> None:
        pairs: list[Any] = list(cfg_list)
        for at, (key, value) in enumerate(zip(pairs[::2], pairs[1::2])):
            if isinstance(self._value(key), float) and re.fullmatch(r"[+-]?\d+", str(value)):
                pairs[2 * at + 1] = float(value)
        super().merge_from_list(pairs)

    @classmethod
    def load_yaml_with_base(cls, filename: str, allow_unsafe: bool = False) -> dict[str, Any]:
        """What tags like !!python/object name is executed in files that came with Detectron2 alone, whatever is asked.

        Its RetinaNets work their anchors out so.
        """
        return super().load_yaml_with_base(filename, Path(filename).resolve().is_relative_to(_ZOO.resolve()))

    def merge_from_file(self, cfg_filename: str, allow_unsafe: bool = False) -> None:
        try:
            super().merge_from_file(cfg_filename, allow_unsafe)
        except (yaml.YAMLError, UnicodeDecodeError, RecursionError, TypeError, AttributeError) as error:
            reason = " ".join(str(error).split())[:300]
            raise ValueError(
                f"{cfg_filename} is no config: {reason}. KEY: value lines are needed, with values written out, not "
                "tags such as !!python/..., which would be executed"
            ) from error
        except ValueError as error:  # of a whole node, which yacs prints
            lines = str(error).splitlines()
            raise ValueError(f"{cfg_filename}: {lines[0]} ... {lines[-1]}" if len(lines) > 1 else str(error)) from error

    def _value(self, key: str) -> Any:
        node: Any = self
        for part in key.split("."):
            node = node.get(part) if isinstance(node, CfgNode) else None
        return node


def _make_floats(new: CfgNode, known: CfgNode) -> None:
    for key, value in new.items():
        if isinstance(value, CfgNode) and isinstance(known.get(key), CfgNode):
            _make_floats(value, known[key])
        elif type(value) is int and isinstance(known.get(key), float):
            new[key] = float(value)


def _merged(config_file: str, register: Sequence[str], opts: Sequence[str], preset: str = "") -> CfgNode:
    """The defaults, or those of a preset, with everything that was set explicitly on top."""
    cfg = get_cfg()
    add_adapruner_config(cfg)
    cfg, before = _Config(cfg), cfg.clone()
    if preset:
        apply_preset(cfg, preset)
    with _advice(config_file, before):
        if config_file:
            _check_config_file(config_file)
            cfg.merge_from_file(config_file)
    _add_registered(cfg, register, opts)
    with _advice("the command line", before):
        _check_pairs(cfg, opts)
        cfg.merge_from_list(opts)
    _refuse_none(cfg, before)
    for key in ("REGISTER", "TRAIN", "TEST"):
        if wrong := [word for word in cfg.DATASETS[key] if not isinstance(word, str)]:
            raise ValueError(f"DATASETS.{key} has {wrong[0]!r}; it is a list of texts")
    check_values(cfg)
    return cfg


def _check_pairs(cfg: "_Config", opts: Sequence[str]) -> None:
    """What yacs says less plainly, or not at all. Raises ValueError, KeyError."""
    if len(opts) % 2:
        raise ValueError(f"{' '.join(map(str, opts))} are no KEY VALUE pairs: a key or a value is missing")
    for key in opts[::2]:
        above = cfg._value(key.rpartition(".")[0]) if "." in key else cfg
        if not isinstance(above, CfgNode):
            raise KeyError(f"Non-existent key: {key}")
        if isinstance(above.get(key.rpartition(".")[2]), CfgNode):
            raise ValueError(f"{key} is a group of keys, such as {key}.{next(iter(cfg._value(key)))}: set one of these")


def _refuse_none(cfg: CfgNode, defaults: CfgNode, node: str = "") -> None:
    """Raises ValueError for a key without a value where there is to be one: yacs takes None for every key."""
    for key, value in defaults.items():
        if isinstance(value, CfgNode):
            _refuse_none(cfg[key], value, f"{node}{key}.")
        elif cfg[key] is None and value is not None:
            raise ValueError(f"{node}{key} has no value; it is a {type(value).__name__}, such as {value!r}")


@contextmanager
def _advice(source: str, cfg: CfgNode) -> Iterator[None]:
    """Says of a key that is there no more what to do instead, and of one that never was the nearest that is there."""
    try:
        yield
    except (KeyError, AssertionError) as error:
        for key, advice in RENAMED_OR_GONE.items():
            if re.search(rf"{re.escape(key)}\b", str(error)):
                raise KeyError(f"{source} sets {key}, which is gone: {advice}") from error
        if unknown := re.search(r"Non-existent(?: config)? key: ([\w.]+)", str(error)):
            near = get_close_matches(unknown[1], settings_of(cfg), n=1, cutoff=0.75)
            meant = f"; did you mean {near[0]}?" if near else ""
            raise KeyError(f"{source} sets {unknown[1]}, which there is not{meant}") from error
        raise


def _check_config_file(file: str) -> None:
    if file.endswith(".py"):
        raise ValueError(
            f"{file} is a LazyConfig, which only Detectron2's lazyconfig_train_net.py reads: prune with a YAML config, "
            "such as the one of this model in Detectron2's model zoo, and train the lazy one on the selection's lists"
        )


def _data_of(args: argparse.Namespace) -> tuple[list[str], list[str], list[tuple[str, str]]]:
    """(specs to register, KEY VALUE pairs that name them, lines on what was recognised) of DATA, --train and --test."""
    register, train, test = list(args.register), list(args.train), []
    told: list[tuple[str, str]] = []
    pairs: dict[str, Any] = {}
    if args.data:
        found = recognise(args.data)
        told.append(("data", found.text))
        train = [found.name]
        register.append(found.spec)
        if found.test and not args.test:
            register.append(found.test)
            test.append(_name(found.test))
            told.append(("test", f"{found.test.partition('=')[2]}, unless --test names other data"))
        pairs["OUTPUT_DIR"] = f"output/{found.name}{'_train' if args.command == 'train' else ''}"
    for name in args.test:
        if name not in map(_name, register) and name not in DatasetCatalog:
            found = recognise(name, TESTING)
            told.append(("test", found.text))
            register.append(found.spec)
            name = found.name
        test.append(name)
    if test and not train:
        train = [name for name in map(_name, register) if name not in test]
    if train:
        pairs["DATASETS.TRAIN"] = tuple(train)
    if test or args.data:
        pairs["DATASETS.TEST"] = tuple(test)
    return register, [part for key, value in pairs.items() for part in (key, str(value))], told


def _default_config(register: Sequence[str]) -> Path:
    kinds = [spec.partition("=")[2].partition(":")[0].strip() for spec in register]
    return defaults.CLASSIFICATION if set(kinds) & CLASSES_ONLY else defaults.DETECTION


def _check_settings(cfg: CfgNode, args: argparse.Namespace, register: Sequence[str]) -> None:
    """Raises ValueError for what cannot be meant, before any image is read."""
    device, ratio = cfg.MODEL.DEVICE, cfg.ADAPRUNER.KEEP_RATIO
    try:
        torch.device(device)
    except RuntimeError as error:
        raise ValueError(f"MODEL.DEVICE is {device!r}, which torch does not know; it can be cpu or cuda") from error
    if device.startswith("cuda") and not torch.cuda.is_available():
        raise ValueError(f"MODEL.DEVICE is {device}, but torch sees no GPU here: add MODEL.DEVICE cpu")
    if cfg.ADAPRUNER.ENABLED and not 0 < ratio < 1:
        meant = f"; did you mean {ratio / 100:g}?" if 1 < ratio < 100 else ""
        raise ValueError(f"ADAPRUNER.KEEP_RATIO is {ratio}; it is a share, above 0 and below 1{meant}")
    unused = [name for name in map(_name, register) if name not in (*cfg.DATASETS.TRAIN, *cfg.DATASETS.TEST)]
    if unused and "DATASETS.TRAIN" not in args.pairs[::2]:
        raise ValueError(
            f"{', '.join(unused)}: registered, but neither trained on ({', '.join(cfg.DATASETS.TRAIN)}) nor evaluated on "
            f"({', '.join(cfg.DATASETS.TEST) or 'none'}): "
            + (
                f"{args.data} is the data already, leave --register out"
                if args.data
                else "say which is what, --train NAME --test NAME"
            )
        )


def _warn(cfg: CfgNode, args: argparse.Namespace) -> None:
    """Says what will have no effect, or not be measured."""
    idle = [key for key in args.pairs[::2] if key.startswith("ADAPRUNER.") and key != "ADAPRUNER.ENABLED"]
    if idle and not cfg.ADAPRUNER.ENABLED and not args.eval_only:
        logger.warning(f"{', '.join(idle)}: without effect, as ADAPRUNER.ENABLED is False and nothing is pruned")
    if not cfg.DATASETS.TEST:
        lost = (
            "how fit the selector is will not be measured"
            if cfg.ADAPRUNER.ENABLED
            else "the training will leave weights, and no figure"
        )
        logger.warning(f"no data to evaluate on (--test): {lost}")


def _check_evaluation(cfg: CfgNode, args: argparse.Namespace, register: Sequence[str]) -> None:
    """--eval-only takes a single registered data set as the one to evaluate on."""
    if len(register) == 1 and not cfg.DATASETS.TEST:
        cfg.DATASETS.TEST = cfg.DATASETS.TRAIN
    if not cfg.DATASETS.TEST:
        raise ValueError("--eval-only: DATASETS.TEST names no data set to evaluate on")
    if not cfg.MODEL.WEIGHTS and not (args.resume and newest_checkpoint(cfg.OUTPUT_DIR)[0]):
        raise ValueError(
            "--eval-only: no weights to evaluate; name them, MODEL.WEIGHTS PATH, or use --resume with the "
            "OUTPUT_DIR of a training"
        )


def _enter(folder: str, args: argparse.Namespace) -> None:
    """The main process takes the folder for all; what is wrong with it ends all."""
    if args.resume and args.overwrite:
        raise ValueError("--resume goes on with what is in OUTPUT_DIR, --overwrite replaces it: use one of them")
    problem = None
    if comm.is_main_process():
        try:
            enter(folder, args.resume, args.overwrite)
        except (OSError, ValueError) as error:
            problem = str(error)
    problem = comm.all_gather(problem)[0]
    if problem:
        raise ValueError(problem)


def _add_registered(cfg: CfgNode, specs: Sequence[str], opts: Sequence[str]) -> None:
    if not specs:
        return
    names = [_name(spec) for spec in specs]
    others = [spec for spec in cfg.DATASETS.REGISTER if _name(spec) not in names]
    cfg.DATASETS.REGISTER = (*others, *specs)
    if "DATASETS.TRAIN" not in opts:
        cfg.DATASETS.TRAIN = (names[0],)
        cfg.DATASETS.TEST = tuple(names[1:2])


def _name(spec: str) -> str:
    return spec.split("=", 1)[0]


def set_num_classes(cfg: CfgNode) -> None:
    """Makes every head predict the classes of the data sets, which have to agree.

    Raises:
        ValueError: the data sets have different classes; the message shows them.
    """
    names = (*cfg.DATASETS.TRAIN, *cfg.DATASETS.TEST)
    classes = {name: MetadataCatalog.get(name).get("thing_classes") for name in names}
    classes = {name: own for name, own in classes.items() if own is not None}
    if not classes:
        return
    first, wanted = next(iter(classes.items()))
    for name, own in classes.items():
        if list(own) != list(wanted):
            raise ValueError(
                f"data set {name} has the classes {own}, {first} has {wanted}: give both the same list, "
                "--register NAME=...:class1,class2, or set DATASETS.TEST as well as DATASETS.TRAIN"
            )
    for head in ("YOLO", "ROI_HEADS", "RETINANET", "CLASSIFIER"):
        cfg.MODEL[head].NUM_CLASSES = len(wanted)


def _seed(cfg: CfgNode, resume: bool) -> int:
    """cfg.SEED, or a random one; resuming takes the one the run was started with."""
    if cfg.SEED >= 0:
        return cfg.SEED
    drawn = comm.shared_random_seed()
    if not resume:
        return drawn
    try:
        written = yaml.safe_load(Path(cfg.OUTPUT_DIR, "config.yaml").read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError):
        written = None  # the run was killed before or while it was written
    noted = {**(written if isinstance(written, dict) else {}), **noted_settings(cfg.OUTPUT_DIR)}
    return noted["SEED"] if isinstance(noted.get("SEED"), int) and noted["SEED"] >= 0 else drawn
