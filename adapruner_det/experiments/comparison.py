"""What is compared, and what the folders of its runs are called."""

import re
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import NamedTuple

from ..baselines.registry import current_name
from ..pruning.selection import ratio_label
from .budgets import BUDGETS, ITERATIONS
from .methods import ADAPRUNER, DRAWN, METHODS, RANDOM, Stage

FULL = "full"
VALUES = ("keep_ratios", "seeds", "budgets")  # what each model is trained at
GRID = ("train_configs", *VALUES)
ANY_BUDGET = "any"  # of the training on everything, which all budgets measure the others by
PRUNED_AT = 0.8  # the ratio of AdaPruner's one run a seed, whichever are compared
TRAINED_WITH = 1000  # added to a seed where models are trained


class Cell(NamedTuple):
    """What a model is trained on, and for how long."""

    method: str
    keep_ratio: float
    budget: str


class Variant(NamedTuple):
    """A method with KEY VALUE pairs of its own."""

    opts: tuple[str, ...] = ()
    method: str = ADAPRUNER


@dataclass(frozen=True)
class Comparison:
    """What to compare.

    KEY VALUE pairs go in the order config file, `opts`, those of the stage, those of the variant:
    later ones win.

    Attributes:
        tools: the folder with train_net.py, selection.py and score.py.
        prune_config: config of the pruning run, which that of the proxy is too.
        train_configs: configs of the models to train, by the name to print; if there is none, selections
            alone are compared.
        methods: "full" and those of METHODS.
        keep_ratios: shares of the images that stay; see `source_ratio` for what is made for each.
        seeds: each seed prunes, selects at random and trains; see `training_seed`.
        budgets: of BUDGETS; what is equal between a training on everything and one on a selection.
        variants: further methods, by the name to print: those of METHODS with other settings.
        opts: KEY VALUE pairs for every run.
        prune_opts: KEY VALUE pairs for what selects.
        train_opts: KEY VALUE pairs for the trainings.
        finetune: configs of a second stage by model name: its weights are the training's, and its
            result is what is compared.
        finetune_opts: KEY VALUE pairs for the second stage.
        cut_from: if given, AdaPruner prunes at this ratio in place of PRUNED_AT, and methods that look at the
            ratio score for this one only.
        more: further grids of train_configs, keep_ratios, seeds and budgets (`GRID`), such as more seeds at
            one ratio, or another model at a few; what one leaves out is that of the comparison.

    Raises:
        ValueError: what is asked for cannot be compared; the message opens with the field's name.
    """

    tools: Path
    prune_config: str
    train_configs: dict[str, str] = field(default_factory=dict)
    methods: tuple[str, ...] = (FULL, RANDOM, ADAPRUNER)
    keep_ratios: tuple[float, ...] = (0.8,)
    seeds: tuple[int, ...] = (0,)
    budgets: tuple[str, ...] = (ITERATIONS,)
    variants: dict[str, Variant] = field(default_factory=dict)
    opts: tuple[str, ...] = ()
    prune_opts: tuple[str, ...] = ()
    train_opts: tuple[str, ...] = ()
    finetune: dict[str, str] = field(default_factory=dict)
    finetune_opts: tuple[str, ...] = ()
    cut_from: float | None = None
    more: tuple[dict[str, Collection], ...] = ()

    def __post_init__(self):
        _check_choice("methods", self.methods, (FULL, *METHODS))
        _check_once("methods", self.methods)
        _check_grid("", {name: getattr(self, name) for name in VALUES})
        for grid in self.more:
            _check_grid("more: ", grid)
        if self.cut_from is not None:
            _check_ratios("cut_from", (self.cut_from,))
        _check_same_configs(self._grids())
        if self.models():
            _check_folders("train_configs", self.models())
        elif not self.selecting_methods():
            raise ValueError("train_configs, methods: neither a model nor a method to compare")
        _check_folders("variants", (FULL, *METHODS, *self.variants))
        for name in ("opts", "prune_opts", "train_opts", "finetune_opts"):
            _check_pairs(name, getattr(self, name))
        for name, variant in self.variants.items():
            _check_choice(f"variants: {name}", [variant.method], METHODS)
            _check_pairs(f"variants: {name}", variant.opts)
        if self.finetune and self.finetune.keys() != self.models().keys():
            raise ValueError(
                f"finetune: names the models {sorted(self.finetune)}, but those trained are "
                f"{sorted(self.models())}; give each of them a config of its second stage, or none"
            )

    def models(self) -> dict[str, str]:
        """The config of each model that any grid trains."""
        return {model: config for grid in self._grids() for model, config in grid["train_configs"].items()}

    def cells(self, model: str) -> list[Cell]:
        """Every row of a model: everything once, then each method at each ratio, by budget."""
        full = [Cell(FULL, 1.0, ANY_BUDGET)] if FULL in self.methods else []
        return full + [
            Cell(method, ratio, budget)
            for budget, ratio in _once(
                key for grid in self._grids(model) for key in product(grid["budgets"], grid["keep_ratios"])
            )
            for method in self.selecting_methods()
        ]

    def seeds_of(self, model: str, cell: Cell) -> list[int]:
        """The seeds of a row; a model is trained on everything with each it has."""
        return _once(
            seed
            for grid in self._grids(model)
            if cell.method == FULL or (cell.budget in grid["budgets"] and cell.keep_ratio in grid["keep_ratios"])
            for seed in grid["seeds"]
        )

    def all_seeds(self) -> list[int]:
        """Each seed of any row once."""
        return _once(seed for grid in self._grids() for seed in grid["seeds"])

    def ratios_of(self, seed: int) -> list[float]:
        """The ratios that a seed selects at."""
        return _once(ratio for grid in self._grids() if seed in grid["seeds"] for ratio in grid["keep_ratios"])

    def _grids(self, model: str | None = None) -> list[dict[str, Collection]]:
        """What is the product of what: the comparison's own grid and those of `more`; if asked, a model's."""
        own = {name: getattr(self, name) for name in GRID}
        grids = [own, *({**own, **replaced} for replaced in self.more)]
        return [grid for grid in grids if model is None or model in grid["train_configs"]]

    def selecting_methods(self) -> list[str]:
        """The methods that make a selection: all but "full", the variants behind the others."""
        return [method for method in (*self.methods, *self.variants) if method != FULL]

    def base_method(self, method: str) -> str:
        """The entry of METHODS that `method` is, or is a variant of."""
        return self.variants[method].method if method in self.variants else method

    def source_ratio(self, method: str) -> float | None:
        """The ratio whose selection those at the others are cut from; None if each has a run of its own.

        It is no matter of which ratios are compared: one more of these must not change the runs there are.
        """
        base = self.base_method(method)
        if base in DRAWN:
            return None
        if METHODS[base].for_every_ratio:
            return 1.0
        if base == ADAPRUNER and not self._solves_at_end(method):
            return self.cut_from
        return self.cut_from or (PRUNED_AT if base == ADAPRUNER else None)

    def _solves_at_end(self, method: str) -> bool:
        """Whether a pruning run leaves statistics, from which other ratios are solved for, as far as overrides tell."""
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


def selection_run(method: str, keep_ratio: float, seed: int) -> str:
    """Name of the run that selects; its selection lies in `selection` below it."""
    return f"select/{_folder(method)}_{ratio_label(keep_ratio)}_seed{seed}"


def training_seed(seed: int) -> int:
    """SEED of the models that are trained on what `seed` selects, and on everything.

    Another than the pruning run's and the proxy's, so that no model is judged that starts from the weights of the
    one that chose its images.
    """
    return TRAINED_WITH + seed


def proxy_run(seed: int) -> str:
    """Name of the run that trains the proxy of a seed, for all methods that look at one."""
    return f"select/proxy_seed{seed}"


def training_run(model: str, cell: Cell, seed: int) -> str:
    """Name of the run that trains a model on a selection or on everything, and evaluates it."""
    budget = "" if cell.budget in (ITERATIONS, ANY_BUDGET) else f"_{cell.budget}"
    return f"train/{_folder(model)}/{_folder(cell.method)}_{ratio_label(cell.keep_ratio)}{budget}_seed{seed}"


def finetuning_run(model: str, cell: Cell, seed: int) -> str:
    """Name of the run that goes on from a training on other data."""
    return training_run(model, cell, seed).replace("train/", "finetune/", 1)


def _folder(name: str) -> str:
    return re.sub(r"[^\w.+-]+", "_", name)


def _check_choice(field_name: str, given: Sequence[str], known: Iterable[str]) -> None:
    for name in given:
        if name not in known:
            raise ValueError(f"{field_name}: {current_name(name)!r} is none of {', '.join(known)}")


def _check_same_configs(grids: Iterable[dict[str, Collection]]) -> None:
    configs: dict[str, str] = {}
    for model, config in (item for grid in grids for item in grid["train_configs"].items()):
        if configs.setdefault(model, config) != config:
            raise ValueError(f"more: train_configs: {model} is {config}, but {configs[model]} elsewhere")


def _check_grid(where: str, grid: dict[str, Collection]) -> None:
    unknown = [name for name in grid if name not in GRID]
    if unknown:
        raise ValueError(f"{where}{', '.join(unknown)} cannot differ between grids; {', '.join(GRID)} can")
    for name, values in grid.items():
        _check_once(f"{where}{name}", values)
    _check_choice(f"{where}budgets", grid.get("budgets", ()), BUDGETS)
    _check_ratios(f"{where}keep_ratios", grid.get("keep_ratios", ()))
    seeds = grid.get("seeds", ())
    if any(seed < 0 for seed in seeds):
        raise ValueError(f"{where}seeds: {list(seeds)}; a seed is at least 0, to get the same run again")


def _check_ratios(field_name: str, ratios: Sequence[float]) -> None:
    wrong = [ratio for ratio in ratios if not 0 < ratio < 1]
    if wrong:
        raise ValueError(f"{field_name}: {wrong} are no shares that stay, between 0 and 1")


def _once(values: Iterable) -> list:
    """Without repetitions, in the order of their first."""
    return list(dict.fromkeys(values))


def _check_once(field_name: str, values: Collection) -> None:
    if not values or len(set(values)) < len(values):
        raise ValueError(f"{field_name}: needs at least one value and none twice, not {list(values)}")


def _check_folders(field_name: str, names: Collection[str]) -> None:
    """Every name needs a folder of its own."""
    folders = [_folder(name) for name in names]
    if not folders or len(set(folders)) < len(folders):
        raise ValueError(
            f"{field_name}: needs at least one name, and names that are different folders, "
            f"not {', '.join(names) or 'none'}"
        )


def _check_pairs(field_name: str, pairs: Sequence[str]) -> None:
    for key in pairs[::2]:
        if not re.fullmatch(r"[A-Za-z_]\w*(\.\w+)*", key):
            raise ValueError(f"{field_name}: {key!r} is no config key; KEY VALUE pairs are needed")
    if len(pairs) % 2:
        raise ValueError(f"{field_name}: {pairs[-1]} has no value; KEY VALUE pairs are needed")
