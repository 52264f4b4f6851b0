"""An experiment from its file and the options of a command line."""

import os
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any, cast

import yaml
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import ConfigKeyError, OmegaConfBaseException

from .experiment import Experiment, nearest

Options = dict[str, Any]
_BY_KEY = ("opts", "prune_opts", "train_opts", "finetune_opts", "variants")


def load_experiment(given: Options, file: "str | Path | None" = None, register: Sequence[str] = ()) -> Experiment:
    """The experiment that a command line asks for.

    What is given takes the place of the file's; settings and variants do so key by key. Who names ratios, seeds or
    budgets gets them alone, without `more`; who names models gets these alone, there too.

    Args:
        given: options by the names of Experiment's fields.
        file: of `read_experiment`.
        register: data sets of one's own, as --register of train_net.py: the first trains, the second evaluates.
            Settings that were given win over them.

    Raises:
        ValueError: an option cannot be read or the experiment cannot be; names the file and the option.
    """
    given = _located(given, ".")
    if register:
        names = [spec.partition("=")[0] for spec in register]
        data = {"DATASETS.REGISTER": list(register), "DATASETS.TRAIN": names[:1]}
        given["opts"] = {**data, **given.get("opts", {})}
        given["train_opts"] = {"DATASETS.TEST": names[1:2], **given.get("train_opts", {})}
    if file is None:
        return cast(Experiment, OmegaConf.to_object(_typed(given)))
    written = read_experiment(file)
    options = {**written, **given, **{key: {**written.get(key, {}), **given.get(key, {})} for key in _BY_KEY}}
    if {"keep_ratios", "seeds", "budgets"} & given.keys():
        options["more"] = []
    elif "train_configs" in given:
        options["more"] = [{**grid, "train_configs": None} for grid in written.get("more", ())]
    try:
        return cast(Experiment, OmegaConf.to_object(_typed(options)))
    except ValueError as error:
        raise ValueError(f"{file}, with the options given besides: {error}") from error


def read_experiment(path: "str | Path") -> Options:
    """The options that an experiment file gives.

    The file is YAML; its keys are the fields of Experiment. Config files are named relative to the file, as
    `_BASE_` is.

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
        _typed(content)
        return _located(content, path.parent)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def _typed(options: Options) -> DictConfig:
    """The options checked and converted by the fields of Experiment; ValueError, naming the option, if they cannot."""
    typed = OmegaConf.structured(Experiment)
    for key, value in options.items():
        try:
            typed = OmegaConf.merge(typed, {key: value})
        except OmegaConfBaseException as error:
            message, place = str(error).splitlines()[0], error.full_key or key
            if isinstance(error, ConfigKeyError):
                known = [one.name for one in fields(error.object_type or Experiment)]
                message = f"there is no such option, but {', '.join(known)}{nearest(place.rpartition('.')[2], known)}"
            raise ValueError(f"{'' if place.startswith(str(key)) else f'{key}: '}{place}: {message}") from error
    return typed


def _located(options: Options, folder: "str | Path") -> Options:
    """With config files that are named relative to `folder`; ValueError for one that is not there."""

    def find(key: str, name: str) -> str:
        path = os.path.normpath(os.path.join(folder, str(name)))
        if not os.path.isfile(path):
            raise ValueError(f"{key}: there is no config file {path}")
        return path

    options = dict(options)
    if "prune_config" in options:
        options["prune_config"] = find("prune_config", options["prune_config"])
    for key in ("train_configs", "finetune"):
        if options.get(key):
            options[key] = {name: find(key, config) for name, config in options[key].items()}
    if "more" in options:
        options["more"] = [_located(grid, folder) for grid in options["more"]]
    return options
