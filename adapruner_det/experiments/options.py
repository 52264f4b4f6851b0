"""An experiment from its file and the options of a command line."""

import os
import shlex
from collections.abc import Callable, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any, cast

import yaml
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import ConfigKeyError, OmegaConfBaseException

from ..baselines.registry import current_name
from .experiment import PAIRS, Experiment, nearest
from .methods import ADAPRUNER, METHODS

Options = dict[str, Any]
Readers = dict[str, Callable[[Any], Any]]
CONFIGS = ("prune_config", "train_configs", "finetune")  # options that name config files


def load_experiment(given: Options, file: "str | Path | None" = None, register: Sequence[str] = ()) -> Experiment:
    """The experiment that a command line asks for.

    Args:
        given: options as texts, as on the command line of tools/compare.py, by the names of Experiment's fields.
        file: of `read_experiment`; what is given takes the place of its options.
        register: data sets of one's own, as --register of train_net.py: the first trains, the second evaluates.
            KEY VALUE pairs that were given come behind and win.

    Raises:
        ValueError: an option cannot be read or the experiment cannot be; names the file and the option.
    """
    given = _read(given, _ON_COMMAND_LINE, ".")
    if register:
        names = [spec.partition("=")[0] for spec in register]
        data = ["DATASETS.REGISTER", str(tuple(register)), "DATASETS.TRAIN", str((names[0],))]
        given["opts"] = [*data, *given.get("opts", ())]
        given["train_opts"] = ["DATASETS.TEST", str(tuple(names[1:2])), *given.get("train_opts", ())]
    if file is None:
        return cast(Experiment, OmegaConf.to_object(_typed(given)))
    options = merge(read_experiment(file), given)
    try:
        return cast(Experiment, OmegaConf.to_object(_typed(options)))
    except ValueError as error:
        raise ValueError(f"{file}, with the options given besides: {error}") from error


def read_experiment(path: "str | Path") -> Options:
    """The options that an experiment file gives.

    The file is YAML; its keys are the fields of Experiment. Config files are named relative to the file, as
    `_BASE_` is. KEY VALUE pairs are written `KEY: VALUE`, below `opts`, `prune_opts`, `train_opts`,
    `finetune_opts` and each variant, which may have a line `method: NAME` besides.

    Raises:
        ValueError: it cannot be read, or a key is unknown or has a value of another kind; names file and key.
    """
    path = Path(path)
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ValueError(f"{path} cannot be read as an experiment file: {' '.join(str(error).split())}") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path} is no experiment file: it has to hold `key: value` lines")
    try:
        options = _read(content, _IN_FILE, path.parent)
        _typed(options)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    return options


def merge(from_file: Options, given: Options) -> Options:
    """Options given on the command line take the place of the file's.

    KEY VALUE pairs come behind the file's, so that they win key by key; a variant replaces the one of
    its name and leaves the others. Who names ratios, seeds or budgets gets them alone, without `more`;
    who names models gets these alone, there too.
    """
    merged = {**from_file, **given}
    for key in PAIRS:
        merged[key] = [*from_file.get(key, ()), *given.get(key, ())]
    merged["variants"] = {**from_file.get("variants", {}), **given.get("variants", {})}
    if {"keep_ratios", "seeds", "budgets"} & given.keys():
        merged["more"] = []
    elif "train_configs" in given:
        merged["more"] = [{**grid, "train_configs": None} for grid in from_file.get("more", ())]
    return merged


def _typed(options: Options) -> DictConfig:
    """The options checked and converted by the fields of Experiment; ValueError, naming the option, if they cannot."""
    typed = OmegaConf.structured(Experiment)
    for key, value in options.items():
        if OmegaConf.is_list(typed.get(key)) and not isinstance(value, list):
            raise ValueError(f"{key}: {value!r} is not a list")
        if OmegaConf.is_dict(typed.get(key)):
            _lines(value, f"{key}: ")
        try:
            typed = OmegaConf.merge(typed, {key: value})
        except OmegaConfBaseException as error:
            message, place = str(error).splitlines()[0], error.full_key or key
            if isinstance(error, ConfigKeyError):
                known = [one.name for one in fields(error.object_type or Experiment)]
                message = f"there is no such option, but {', '.join(known)}{nearest(place.rpartition('.')[2], known)}"
            within = "" if place.startswith(str(key)) else f"{key}: "
            raise ValueError(f"{within}{place}: {message}") from error
    return typed


def _read(written: Options, readers: Readers, folder: "str | Path") -> Options:
    """What is written, in the form of the fields; ValueError, naming the option, if it cannot be."""
    options: Options = {}
    for key, value in written.items():
        try:
            options[key] = _located(key, readers[key](value) if key in readers else value, folder)
        except ValueError as error:
            raise ValueError(f"{key}: {error}") from error
    return options


def _located(key: str, value: Any, folder: "str | Path") -> Any:
    """With config files that are named relative to `folder`; what names none is left to `_typed` to refuse."""
    if key == "more" and isinstance(value, list):
        return [_read(grid, {}, folder) if isinstance(grid, dict) else grid for grid in value]
    if key in CONFIGS and isinstance(value, dict):
        return {name: _located(key, path, folder) for name, path in value.items()}
    if key not in CONFIGS or not isinstance(value, str):
        return value
    path = os.path.normpath(os.path.join(folder, value))
    if not os.path.isfile(path):
        raise ValueError(f"there is no config file {path}")
    return path


def _lines(value: Any, where: str = "") -> Options:
    if not isinstance(value, dict):
        raise ValueError(f"{where}{value!r} is not `name: value` lines")
    return value


def _pairs_in_file(value: Any) -> list[str]:
    """`KEY: VALUE` lines as KEY VALUE pairs; a list becomes what Detectron2 reads as a tuple."""
    pairs: list[str] = []
    for key, entry in _lines(value).items():
        if entry is None or isinstance(entry, dict):
            raise ValueError(f"{key} needs a value; the parts of a key are joined by dots")
        pairs += [str(key), str(tuple(entry)) if isinstance(entry, list) else str(entry)]
    return pairs


def _variants_in_file(value: Any) -> Options:
    variants: Options = {}
    for name, lines in _lines(value).items():
        pairs = dict(_lines(lines))
        method = pairs.pop("method", ADAPRUNER)
        variants[name] = {"opts": _pairs_in_file(pairs), "method": method}
    return variants


def _named(texts: Sequence[str]) -> dict[str, str]:
    """What follows each name of `NAME=...`."""
    found: dict[str, str] = {}
    for text in texts:
        name, _, rest = (part.strip() for part in text.partition("="))
        if not (name and rest):
            raise ValueError(f"{text!r} is not of the form NAME=...")
        found[name] = rest
    return found


def _named_variants(texts: Sequence[str]) -> Options:
    """`NAME=[METHOD] KEY VALUE ...`; without METHOD it is AdaPruner."""
    variants: Options = {}
    for name, text in _named(texts).items():
        words = shlex.split(text)
        method = words.pop(0) if len(words) % 2 else ADAPRUNER
        if current_name(method) not in METHODS:
            raise ValueError(f"{text!r} is neither KEY VALUE pairs nor these behind one of {', '.join(METHODS)}")
        variants[name] = {"opts": words, "method": method}
    return variants


# How what is written becomes the value of a field, where these differ.
_IN_FILE: Readers = {**dict.fromkeys(PAIRS, _pairs_in_file), "variants": _variants_in_file}
_ON_COMMAND_LINE: Readers = {
    **dict.fromkeys(PAIRS[1:], shlex.split),
    "variants": _named_variants,
    "train_configs": _named,
    "finetune": _named,
}
