"""An experiment: what is compared with what, and whether it can be."""

import difflib
import re
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field, fields
from itertools import product
from typing import NamedTuple

from ..baselines.registry import current_name
from .methods import ADAPRUNER, DRAWN, METHODS, RANDOM, looks_at_ratio

FULL = "full"
ITERATIONS, EPOCHS = BUDGETS = ("iterations", "epochs")
ANY_BUDGET = "any"  # of the training on everything, which all budgets measure the others by
PRUNED_AT = 0.8  # the ratio of AdaPruner's one run a seed, whichever are compared
PAIRS = ("opts", "prune_opts", "train_opts", "finetune_opts")


class Stage(NamedTuple):
    """One training: a config file, and KEY VALUE pairs on top of it."""

    config: str
    overrides: tuple[str, ...]

    def plus(self, *overrides: str) -> "Stage":
        """The same with further KEY VALUE pairs, which win over those before."""
        return Stage(self.config, (*self.overrides, *overrides))


class Cell(NamedTuple):
    """One training that is compared."""

    model: str
    method: str
    keep_ratio: float
    budget: str
    seed: int


@dataclass
class Variant:
    """A method with KEY VALUE pairs of its own."""

    opts: list[str] = field(default_factory=list)
    method: str = ADAPRUNER


@dataclass
class Grid:
    """The product of its fields is compared; None is what the experiment itself has."""

    train_configs: dict[str, str] | None = None
    keep_ratios: list[float] | None = None
    seeds: list[int] | None = None
    budgets: list[str] | None = None


@dataclass
class WholeGrid:
    """A grid with nothing left open."""

    train_configs: dict[str, str]
    keep_ratios: list[float]
    seeds: list[int]
    budgets: list[str]


@dataclass
class Experiment:
    """What to compare: the schema of an experiment file.

    KEY VALUE pairs go in the order config file, `opts`, those of the stage, those of the variant:
    later ones win.

    Attributes:
        prune_config: of the pruning run, and of the proxy.
        train_configs: of the models to train, by the name to print; without any, selections alone are compared.
        methods: "full" and those of METHODS.
        keep_ratios: shares of the images that stay; see `source_ratio` for what is made for each.
        seeds: each prunes, selects at random and trains.
        budgets: of BUDGETS; what is equal between a training on everything and one on a selection.
        variants: methods with other settings, by the name to print.
        opts, prune_opts, train_opts, finetune_opts: KEY VALUE pairs for every run, what selects, trainings, finetune.
        finetune: configs of a second stage by model: it goes on from the training, and its result is compared.
        cut_from: AdaPruner prunes at this ratio in place of PRUNED_AT; what looks at the ratio scores for it alone.
        more: further grids, such as more seeds at one ratio, or another model at a few.

    Raises:
        ValueError: what is asked for cannot be compared; the message opens with the field's name.
    """

    prune_config: str = ""
    train_configs: dict[str, str] = field(default_factory=dict)
    methods: list[str] = field(default_factory=lambda: [FULL, RANDOM, ADAPRUNER])
    keep_ratios: list[float] = field(default_factory=lambda: [0.8])
    seeds: list[int] = field(default_factory=lambda: [0])
    budgets: list[str] = field(default_factory=lambda: [ITERATIONS])
    variants: dict[str, Variant] = field(default_factory=dict)
    opts: list[str] = field(default_factory=list)
    prune_opts: list[str] = field(default_factory=list)
    train_opts: list[str] = field(default_factory=list)
    finetune: dict[str, str] = field(default_factory=dict)
    finetune_opts: list[str] = field(default_factory=list)
    cut_from: float | None = None
    more: list[Grid] = field(default_factory=list)

    def __post_init__(self) -> None:
        if not self.prune_config:
            raise ValueError("prune_config: needed, on the command line or in an --experiment file")
        _check_once("methods", self.methods)
        _check_choice("methods", self.methods, (FULL, *METHODS))
        _check_grid("", Grid(self.train_configs or None, self.keep_ratios, self.seeds, self.budgets))
        for grid in self.more:
            _check_grid("more: ", grid)
        _check_ratios("cut_from", [self.cut_from] if self.cut_from is not None else [])
        if self.models():
            _check_folders("train_configs", self.models())
        elif not self.selecting_methods():
            raise ValueError("train_configs, methods: neither a model nor a method to compare")
        _check_folders("variants", (FULL, *METHODS, *self.variants))
        for name in PAIRS:
            _check_pairs(name, getattr(self, name))
        for name, variant in self.variants.items():
            _check_choice(f"variants: {name}", [variant.method], METHODS)
            _check_pairs(f"variants: {name}", variant.opts)
        if self.finetune and self.finetune.keys() != self.models().keys():
            raise ValueError(
                f"finetune: names the models {sorted(self.finetune)}, but those trained are "
                f"{sorted(self.models())}; give each of them a config of its second stage, or none"
            )

    def grids(self, model: str | None = None) -> list[WholeGrid]:
        """The experiment's own grid and those of `more`, with nothing left open; if asked, a model's."""
        own = {one.name: getattr(self, one.name) for one in fields(Grid)}
        further = [{name: own[name] if value is None else value for name, value in vars(g).items()} for g in self.more]
        grids = [WholeGrid(**grid) for grid in (own, *further)]
        return [grid for grid in grids if model is None or model in grid.train_configs]

    def models(self) -> dict[str, str]:
        """The config of each model that any grid trains.

        Raises:
            ValueError: two grids have different ones for a model.
        """
        configs: dict[str, str] = {}
        for model, config in (item for grid in self.grids() for item in grid.train_configs.items()):
            if configs.setdefault(model, config) != config:
                raise ValueError(f"more: train_configs: {model} is {config}, but {configs[model]} elsewhere")
        return configs

    def cells(self) -> list[Cell]:
        """Every training: by model, everything first, then each method at each budget and ratio."""
        cells: list[Cell] = []
        for model in self.models():
            grids = self.grids(model)
            if FULL in self.methods:
                seeds = _once(seed for grid in grids for seed in grid.seeds)
                cells += [Cell(model, FULL, 1.0, ANY_BUDGET, seed) for seed in seeds]
            for budget, ratio in _once(key for grid in grids for key in product(grid.budgets, grid.keep_ratios)):
                fitting = [grid for grid in grids if budget in grid.budgets and ratio in grid.keep_ratios]
                seeds = _once(seed for grid in fitting for seed in grid.seeds)
                methods = self.selecting_methods()
                cells += [Cell(model, method, ratio, budget, seed) for method, seed in product(methods, seeds)]
        return cells

    def all_seeds(self) -> list[int]:
        """Each seed of any grid once."""
        return _once(seed for grid in self.grids() for seed in grid.seeds)

    def ratios_of(self, seed: int) -> list[float]:
        """The ratios that a seed selects at."""
        return _once(ratio for grid in self.grids() if seed in grid.seeds for ratio in grid.keep_ratios)

    def selecting_methods(self) -> list[str]:
        """The methods that make a selection: all but "full", the variants behind the others."""
        return [method for method in (*self.methods, *self.variants) if method != FULL]

    def base_method(self, method: str) -> str:
        """The entry of METHODS that `method` is, or is a variant of."""
        return self.variants[method].method if method in self.variants else method

    def source_ratio(self, method: str) -> float | None:
        """The ratio whose selection those at the others are cut from; None if each has a run of its own.

        It does not depend on which ratios are compared: one more of these must not change the runs there are.
        """
        base = self.base_method(method)
        if base in DRAWN:
            return None
        if base == ADAPRUNER and self._solves_at_end(method):
            return self.cut_from or PRUNED_AT
        return self.cut_from if looks_at_ratio(base) else 1.0

    def _solves_at_end(self, method: str) -> bool:
        """Whether a pruning run leaves statistics to solve other ratios from, as far as overrides tell."""
        overrides = self.selecting_stage(method).overrides
        told = dict(zip(overrides[::2], overrides[1::2]))
        by_preset = told.get("ADAPRUNER.PRESET", "") != "paper"
        return told.get("ADAPRUNER.SOLVE_AT_END", str(by_preset)).lower() != "false"

    def selecting_stage(self, method: str = "") -> Stage:
        """How `method` selects; without a name, what the proxy trains by."""
        variant = self.variants.get(method, Variant())
        return Stage(self.prune_config, (*self.opts, *self.prune_opts, *variant.opts))

    def training_stage(self, model: str) -> Stage:
        """How a model is trained."""
        return Stage(self.models()[model], (*self.opts, *self.train_opts))

    def last_stage(self, model: str) -> Stage:
        """The stage whose result is compared: the training, or what comes after it."""
        if not self.finetune:
            return self.training_stage(model)
        return Stage(self.finetune[model], (*self.opts, *self.finetune_opts))


def folder_name(name: str) -> str:
    """A name as part of a path."""
    return re.sub(r"[^\w.+-]+", "_", name)


def _check_grid(where: str, grid: Grid) -> None:
    for name, values in vars(grid).items():
        if values is not None:
            _check_once(f"{where}{name}", values)
    _check_choice(f"{where}budgets", grid.budgets or (), BUDGETS)
    _check_ratios(f"{where}keep_ratios", grid.keep_ratios or ())
    if any(seed < 0 for seed in grid.seeds or ()):
        raise ValueError(f"{where}seeds: {list(grid.seeds or ())}; a seed is at least 0, to get the same run again")


def _check_ratios(name: str, ratios: Sequence[float]) -> None:
    wrong = [ratio for ratio in ratios if not 0 < ratio < 1]
    if wrong:
        raise ValueError(f"{name}: {wrong} are no shares that stay, between 0 and 1")


def _check_choice(name: str, given: Sequence[str], known: Sequence[str]) -> None:
    for value in given:
        if value not in known:
            raise ValueError(f"{name}: {current_name(value)!r} is none of {', '.join(known)}{nearest(value, known)}")


def _check_once(name: str, values: Collection) -> None:
    if not values or len(set(values)) < len(values):
        raise ValueError(f"{name}: needs at least one value and none twice, not {list(values)}")


def _check_folders(name: str, names: Collection[str]) -> None:
    if len({folder_name(one) for one in names}) < len(names):
        raise ValueError(f"{name}: needs names that are different folders, not {', '.join(names)}")


def _check_pairs(name: str, pairs: Sequence[str]) -> None:
    for key in pairs[::2]:
        if not re.fullmatch(r"[A-Za-z_]\w*(\.\w+)*", key):
            raise ValueError(f"{name}: {key!r} is no config key; KEY VALUE pairs are needed")
    if len(pairs) % 2:
        raise ValueError(f"{name}: {pairs[-1]} has no value; KEY VALUE pairs are needed")


def nearest(name: str, known: Iterable[str]) -> str:
    """The end of a message about an unknown name."""
    near = difflib.get_close_matches(name, known, n=1)
    return f"; did you mean {near[0]}?" if near else ""


def _once(values: Iterable) -> list:
    """Without repetitions, in the order of their first."""
    return list(dict.fromkeys(values))
