"""A comparison from the options of a command line and from an experiment file."""

import os
import shlex
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import yaml

from .comparison import VALUES, Comparison, Variant
from .methods import METHODS

Options = dict[str, Any]

_PAIRS = ("opts", "prune_opts", "train_opts", "finetune_opts")


def read_experiment(path: "str | Path") -> Options:
    """The options that an experiment file gives.

    The file is YAML; its keys are the options of tools/compare.py with underscores, `variants` for
    --variant. `more`, for which there is no option, is a list of further `train_configs`, `keep_ratios`,
    `seeds` and `budgets`. Config files are named relative to the file, as `_BASE_` is. KEY VALUE pairs are written
    `KEY: VALUE`, below `opts`, `prune_opts`, `train_opts`, `finetune_opts` and each variant, which may
    have a line `method: NAME` besides.

    Raises:
        ValueError: it cannot be read, or a key is unknown or has a value of another kind. The message
            names the file and the key.
    """
    path = Path(path)
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ValueError(f"{path} cannot be read as an experiment file: {error}") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path} is no experiment file: it has to hold `key: value` lines")
    readers = _readers(path.parent)
    options = {}
    for key, value in content.items():
        if key not in readers:
            raise ValueError(f"{path}: {key} is no option; it can hold {', '.join(readers)}")
        try:
            options[key] = readers[key](value)
        except ValueError as error:
            raise ValueError(f"{path}: {key}: {error}") from error
    return options


def with_registered(given: Options, specs: Sequence[str]) -> Options:
    """Data sets of one's own, as --register of train_net.py: the first trains, the second evaluates.

    KEY VALUE pairs that were given come behind and win.
    """
    if not specs:
        return given
    names = [spec.partition("=")[0] for spec in specs]
    data = ("DATASETS.REGISTER", str(tuple(specs)), "DATASETS.TRAIN", str((names[0],)))
    test = ("DATASETS.TEST", str(tuple(names[1:2])))
    return {
        **given,
        "opts": (*data, *given.get("opts", ())),
        "train_opts": (*test, *given.get("train_opts", ())),
    }


def merge(from_file: Options, given: Options) -> Options:
    """Options given on the command line take the place of the file's.

    KEY VALUE pairs come behind the file's, so that they win key by key; a variant replaces the one of
    its name and leaves the others. Who names ratios, seeds or budgets gets them alone, without `more`;
    who names models gets these alone, there too.
    """
    merged = dict(from_file)
    if any(name in given for name in VALUES):
        merged.pop("more", None)
    elif "train_configs" in given and "more" in merged:
        merged["more"] = tuple(
            {name: values for name, values in grid.items() if name != "train_configs"} for grid in merged["more"]
        )
    for key, value in given.items():
        before = merged.get(key)
        if key in _PAIRS:
            merged[key] = (*(before or ()), *value)
        elif key == "variants":
            merged[key] = {**(before or {}), **value}
        else:
            merged[key] = value
    return merged


def build_comparison(tools: Path, options: Options) -> Comparison:
    """The comparison that options describe.

    Args:
        tools: the folder with train_net.py and selection.py.

    Raises:
        ValueError: no prune_config, or what Comparison refuses.
    """
    if "prune_config" not in options:
        raise ValueError("prune_config: needed, on the command line or in an --experiment file")
    return Comparison(tools, **options)


def split_pairs(text: str) -> tuple[str, ...]:
    """`KEY VALUE ...` in one string as a shell would split it.

    Raises:
        ValueError: a quotation mark without its other half.
    """
    return tuple(shlex.split(text))


def variant_of(words: tuple[str, ...]) -> Variant:
    """`METHOD KEY VALUE ...`; without METHOD it is AdaPruner.

    Raises:
        ValueError: a word too many that names no method.
    """
    if len(words) % 2 == 0:
        return Variant(words)
    if words[0] not in METHODS:
        raise ValueError(f"{' '.join(words)!r} is neither KEY VALUE pairs nor these behind one of {', '.join(METHODS)}")
    return Variant(words[1:], words[0])


def named(text: str) -> tuple[str, str]:
    """(NAME, what follows) of `NAME=...`.

    Raises:
        ValueError: no such form.
    """
    name, equals, rest = text.partition("=")
    if not (name.strip() and equals and rest.strip()):
        raise ValueError(f"{text!r} is not of the form NAME=...")
    return name.strip(), rest.strip()


def config_file(path: str, folder: "str | Path" = ".") -> str:
    """The path of a config file that is named relative to `folder`.

    Raises:
        ValueError: there is no such file.
    """
    found = os.path.normpath(os.path.join(folder, path))
    if not os.path.isfile(found):
        raise ValueError(f"there is no config file {found}")
    return found


def _readers(folder: Path) -> dict[str, Callable[[Any], Any]]:
    """How the value of each key of an experiment file is read; ValueError if it is of another kind."""

    def config(value):
        return config_file(_of_type(str, value), folder)

    def configs(value):
        return {str(name): config(path) for name, path in _of_type(dict, value).items()}

    grid = {
        "train_configs": configs,
        "keep_ratios": _list_of(float),
        "seeds": _list_of(int),
        "budgets": _list_of(str),
    }

    def grids(value):
        parts = [_of_type(dict, one) for one in _of_type(list, value)]
        return tuple({str(k): grid.get(k, _list_of(object))(v) for k, v in part.items()} for part in parts)

    return {
        "prune_config": config,
        "methods": _list_of(str),
        **grid,
        "more": grids,
        "variants": lambda value: {str(k): _variant(v) for k, v in _of_type(dict, value).items()},
        "opts": _pairs,
        "prune_opts": _pairs,
        "train_opts": _pairs,
        "finetune": configs,
        "finetune_opts": _pairs,
        "cut_from": lambda value: _of_type(float, value),
    }


_KINDS = {
    str: "a text",
    int: "a whole number",
    float: "a number",
    dict: "`name: value` lines",
    list: "a list",
}


def _of_type(kind: type, value: Any) -> Any:
    fits = isinstance(value, (int, float) if kind is float else kind) and not isinstance(value, bool)
    if not fits:
        raise ValueError(f"{value!r} is not {_KINDS[kind]}")
    return float(value) if kind is float else value


def _list_of(kind: type) -> Callable[[Any], tuple]:
    return lambda value: tuple(_of_type(kind, entry) for entry in _of_type(list, value))


def _variant(value: Any) -> Variant:
    lines = dict(_of_type(dict, value))
    method = {"method": _of_type(str, lines.pop("method"))} if "method" in lines else {}
    return Variant(_pairs(lines), **method)


def _pairs(value: Any) -> tuple[str, ...]:
    """`KEY: VALUE` lines as KEY VALUE pairs; a list becomes what Detectron2 reads as a tuple."""
    pairs: list[str] = []
    for key, entry in _of_type(dict, value).items():
        if entry is None or isinstance(entry, dict):
            raise ValueError(f"{key} needs a value; the parts of a key are joined by dots")
        pairs += [str(key), str(tuple(entry)) if isinstance(entry, list) else str(entry)]
    return tuple(pairs)
