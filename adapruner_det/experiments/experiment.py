"""An experiment: what is compared with what, and what its runs are called."""

import difflib
import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import product
from typing import Any, NamedTuple

from ..baselines.registry import ADAPRUNER, METHODS, RANDOM, current_name
from ..pruning.selection import ratio_label

FULL = "full"
DRAWN = (RANDOM, "random_class_weighted", "random_stratified")  # by chance alone, which costs nothing
CONTROLS = (*DRAWN, "near_duplicates")  # the cheap rivals that a claim has to hold against
ITERATIONS, EPOCHS = BUDGETS = ("iterations", "epochs")
ANY_BUDGET = "any"  # of the training on everything, which all budgets measure the others by
PRUNED_AT = 0.8  # the ratio of AdaPruner's one run a seed, whichever are compared
Settings = dict[str, Any]  # config key -> value


class Stage(NamedTuple):
    """One training: a config file, and KEY VALUE pairs on top of it, of which later ones win."""

    config: str
    overrides: tuple[str, ...]


class Cell(NamedTuple):
    """One training that is compared."""

    model: str
    method: str
    keep_ratio: float
    budget: str
    seed: int


@dataclass
class Grid:
    """The product of its fields is compared; None is what the experiment itself has."""

    train_configs: dict[str, str] | None = None
    keep_ratios: list[float] | None = None
    seeds: list[int] | None = None
    budgets: list[str] | None = None

    def __post_init__(self) -> None:
        for name in ("keep_ratios", "seeds", "budgets"):
            if (values := getattr(self, name)) is not None:
                _check_once(name, values)
        _check_choice("budgets", self.budgets or (), BUDGETS)
        if wrong := [ratio for ratio in self.keep_ratios or () if not 0 < ratio < 1]:
            raise ValueError(f"keep_ratios: {wrong} are no shares that stay, between 0 and 1")
        if any(seed < 0 for seed in self.seeds or ()):
            raise ValueError(f"seeds: {list(self.seeds or ())}; a seed is at least 0, to get the same run again")


@dataclass
class Experiment(Grid):
    """What to compare: the schema of an experiment file.

    Settings win in the order config file, `opts`, those of the stage, those of the variant.

    Attributes:
        train_configs: of the models to train, by the name to print; without any, selections alone are compared.
        keep_ratios: shares of the images that stay; see `source_ratio` for what is made for each.
        seeds: each prunes, selects at random and trains.
        budgets: of BUDGETS; what is equal between a training on everything and one on a selection.
        prune_config: of the pruning run, and of the proxy.
        methods: "full" and those of METHODS.
        variants: settings of a method by the name to print, and the `method`, if it is not AdaPruner.
        opts, prune_opts, train_opts, finetune_opts: settings of every run, of what selects, of trainings, of finetune.
        finetune: configs of a second stage by model: it goes on from the training, and its result is compared.
        more: further grids, such as more seeds at one ratio, or another model at a few.

    Raises:
        ValueError: what is asked for cannot be compared; the message opens with the field's name.
    """

    train_configs: dict[str, str] = field(default_factory=dict)
    keep_ratios: list[float] = field(default_factory=lambda: [0.8])
    seeds: list[int] = field(default_factory=lambda: [0])
    budgets: list[str] = field(default_factory=lambda: [ITERATIONS])
    prune_config: str = ""
    methods: list[str] = field(default_factory=lambda: [FULL, RANDOM, ADAPRUNER])
    variants: dict[str, dict[str, Any]] = field(default_factory=dict)
    opts: Settings = field(default_factory=dict)
    prune_opts: Settings = field(default_factory=dict)
    train_opts: Settings = field(default_factory=dict)
    finetune: dict[str, str] = field(default_factory=dict)
    finetune_opts: Settings = field(default_factory=dict)
    more: list[Grid] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.prune_config:
            raise ValueError("prune_config: needed, on the command line or in an --experiment file")
        _check_once("methods", self.methods)
        _check_choice("methods", self.methods, (FULL, *METHODS))
        _check_folders("train_configs", self.models())
        _check_folders("variants", (FULL, *METHODS, *self.variants))
        if not self.models() and not self.selecting_methods():
            raise ValueError("train_configs, methods: neither a model nor a method to compare")
        for name in ("opts", "prune_opts", "train_opts", "finetune_opts"):
            _check_settings(name, getattr(self, name))
        for name in self.variants:
            _check_choice(f"variants: {name}", [self.base_method(name)], METHODS)
            _check_settings(f"variants: {name}", self.variants[name])
        if self.finetune and self.finetune.keys() != self.models().keys():
            raise ValueError(
                f"finetune: names the models {sorted(self.finetune)}, but those trained are "
                f"{sorted(self.models())}; give each of them a config of its second stage, or none"
            )

    def _grids(self) -> Iterator[tuple[dict[str, str], list[float], list[int], list[str]]]:
        """Models, ratios, seeds and budgets of the experiment's own grid and of those of `more`."""
        yield self.train_configs, self.keep_ratios, self.seeds, self.budgets
        for grid in self.more:
            yield (
                self.train_configs if grid.train_configs is None else grid.train_configs,
                grid.keep_ratios or self.keep_ratios,
                grid.seeds or self.seeds,
                grid.budgets or self.budgets,
            )

    def models(self) -> dict[str, str]:
        """The config of each model that any grid trains; ValueError if two grids have different ones."""
        configs: dict[str, str] = {}
        for model, config in (item for models, *_ in self._grids() for item in models.items()):
            if configs.setdefault(model, config) != config:
                raise ValueError(f"more: train_configs: {model} is {config}, but {configs[model]} elsewhere")
        return configs

    def cells(self) -> list[Cell]:
        """Every training: by model, everything first, then each method at each budget and ratio."""
        cells: list[Cell] = []
        for model in self.models():
            grids = [grid for grid in self._grids() if model in grid[0]]
            if FULL in self.methods:
                cells += [
                    Cell(model, FULL, 1.0, ANY_BUDGET, seed) for seed in _once(s for grid in grids for s in grid[2])
                ]
            for budget, ratio in _once(key for _, ratios, _, budgets in grids for key in product(budgets, ratios)):
                seeds = _once(
                    s for _, ratios, own, budgets in grids if budget in budgets and ratio in ratios for s in own
                )
                keys = product(self.selecting_methods(), seeds)
                cells += [Cell(model, method, ratio, budget, seed) for method, seed in keys]
        return cells

    def all_seeds(self) -> list[int]:
        """Each seed of any grid once."""
        return _once(seed for _, _, seeds, _ in self._grids() for seed in seeds)

    def ratios_of(self, seed: int) -> list[float]:
        """The ratios that a seed selects at."""
        return _once(ratio for _, ratios, seeds, _ in self._grids() if seed in seeds for ratio in ratios)

    def selecting_methods(self) -> list[str]:
        """The methods that make a selection: all but "full", the variants behind the others."""
        return [method for method in (*self.methods, *self.variants) if method != FULL]

    def base_method(self, method: str) -> str:
        """The entry of METHODS that `method` is, or is a variant of."""
        return self.variants[method].get("method", ADAPRUNER) if method in self.variants else method

    def needs_proxy(self, method: str) -> bool:
        """Whether it looks at a proxy, which has to be trained before; AdaPruner trains its own network."""
        base = self.base_method(method)
        return base != ADAPRUNER and bool(METHODS[base].trainings)

    def source_ratio(self, method: str) -> float | None:
        """The ratio whose selection those at the others are cut from; None if each has a run of its own.

        It does not depend on which ratios are compared: one more of these must not change the runs there are.
        """
        base = self.base_method(method)
        if base == ADAPRUNER:
            return PRUNED_AT if self.solves_at_end(method) else None
        return None if base in DRAWN or METHODS[base].looks_at_ratio else 1.0

    def solves_at_end(self, method: str) -> bool:
        """Whether a pruning run leaves statistics to solve other ratios from, as far as overrides tell."""
        overrides = self.selecting_stage(method).overrides
        told = dict(zip(overrides[::2], overrides[1::2]))
        by_preset = told.get("ADAPRUNER.PRESET", "") != "paper"
        return told.get("ADAPRUNER.SOLVE_AT_END", str(by_preset)).lower() != "false"

    def selecting_stage(self, method: str = "") -> Stage:
        """How `method` selects; without a name, what the proxy trains by."""
        own = {key: value for key, value in self.variants.get(method, {}).items() if key != "method"}
        return Stage(self.prune_config, pairs_of(self.opts, self.prune_opts, own))

    def training_stage(self, model: str) -> Stage:
        """How a model is trained."""
        return Stage(self.models()[model], pairs_of(self.opts, self.train_opts))

    def last_stage(self, model: str) -> Stage:
        """The stage whose result is compared: the training, or what comes after it."""
        if not self.finetune:
            return self.training_stage(model)
        return Stage(self.finetune[model], pairs_of(self.opts, self.finetune_opts))


def selection_run(method: str, keep_ratio: float, seed: int) -> str:
    """Name of the run that selects; its selection lies in `selection` below it."""
    return f"select/{_folder_name(method)}_{ratio_label(keep_ratio)}_seed{seed}"


def proxy_run(seed: int) -> str:
    """Name of the run that trains the proxy of a seed, for all methods that look at one."""
    return f"select/proxy_seed{seed}"


def training_run(cell: Cell) -> str:
    """Name of the run that trains a model on a selection or on everything, and evaluates it."""
    budget = "" if cell.budget in (ITERATIONS, ANY_BUDGET) else f"_{cell.budget}"
    selected = f"{_folder_name(cell.method)}_{ratio_label(cell.keep_ratio)}"
    return f"train/{_folder_name(cell.model)}/{selected}{budget}_seed{cell.seed}"


def finetuning_run(cell: Cell) -> str:
    """Name of the run that goes on from a training on other data."""
    return training_run(cell).replace("train/", "finetune/", 1)


def pairs_of(*settings: Settings) -> tuple[str, ...]:
    """KEY VALUE pairs as Detectron2 reads them, which takes a list for a tuple."""
    pairs = [pair for own in settings for pair in own.items()]
    return tuple(str(tuple(part) if isinstance(part, list) else part) for pair in pairs for part in pair)


def nearest(name: str, known: Iterable[str]) -> str:
    """The end of a message about an unknown name."""
    near = difflib.get_close_matches(name, known, n=1)
    return f"; did you mean {near[0]}?" if near else ""


def _folder_name(name: str) -> str:
    return re.sub(r"[^\w.+-]+", "_", name)


def _check_choice(name: str, given: Sequence[str], known: Iterable[str]) -> None:
    for value in given:
        if value not in known:
            raise ValueError(f"{name}: {current_name(value)!r} is none of {', '.join(known)}{nearest(value, known)}")


def _check_once(name: str, values: Collection) -> None:
    if not values or len(set(values)) < len(values):
        raise ValueError(f"{name}: needs at least one value and none twice, not {list(values)}")


def _check_folders(name: str, names: Collection[str]) -> None:
    if len({_folder_name(one) for one in names}) < len(names):
        raise ValueError(f"{name}: needs names that are different folders, not {', '.join(names)}")


def _check_settings(name: str, settings: Settings) -> None:
    for key, value in settings.items():
        if not re.fullmatch(r"[A-Za-z_]\w*(\.\w+)*", key):
            raise ValueError(f"{name}: {key!r} is no config key")
        if value is None or isinstance(value, dict):
            raise ValueError(f"{name}: {key} needs a value; the parts of a key are joined by dots")


def _once(values: Iterable) -> list:
    """Without repetitions, in the order of their first."""
    return list(dict.fromkeys(values))
