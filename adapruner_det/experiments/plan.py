"""Which runs a comparison needs: select by each method, train each model on each selection."""

import hashlib
from collections.abc import Callable, Collection
from pathlib import Path

from detectron2.config import CfgNode

from ..baselines import registry
from ..data.selection_record import fingerprint
from ..engine import load_config
from ..engine.config import without_preset
from ..engine.proxy import proxy_settings, task_name
from ..engine.select import variant_of
from ..engine.tasks import task_of
from ..engine.trainer import check_pruning, with_max_iter
from .budgets import length
from .comparison import (
    FULL,
    Cell,
    Comparison,
    finetuning_run,
    proxy_run,
    selection_run,
    training_run,
    training_seed,
)
from .methods import ADAPRUNER, METHODS, RANDOM, Method, SelectionRequest, Stage, cut, proxy_command, training_command
from .runs import Run


def plan(comparison: Comparison, output: Path) -> list[Run]:
    """All runs, each after those it needs; selections come first, as others wait for them.

    Reads the configs and the data they name.

    Raises:
        ValueError: as `check`; and what loading the data raises.
    """
    check(comparison)
    planner = _Planner(comparison, output)
    trainings = [
        (model, cell, seed)
        for seed in comparison.all_seeds()
        for model in comparison.models()
        for cell in comparison.cells(model)
        if seed in comparison.seeds_of(model, cell)
    ]
    finetunings = trainings if comparison.finetune else []
    return [
        *planner.selections(),
        *(planner.training(*training) for training in trainings),
        *(planner.finetuning(*training) for training in finetunings),
    ]


def check(comparison: Comparison) -> None:
    """Reads every config once, and no images.

    Raises:
        ValueError: a config whose result is compared does not evaluate on exactly one data set, a training
            prunes or has no data set of the pruning run, AdaPruner or a variant has settings that cannot
            work, a variant would need a proxy of its own, or methods do not apply to the task of the pruning
            run (says why); and what loading the configs raises.
    """
    for model in comparison.models():
        _check_training(comparison, model)
        test_set(comparison, model)
    for method in comparison.selecting_methods():
        if comparison.base_method(method) == ADAPRUNER:
            _check_pruning(comparison, method)
    task = task_name(load_stage(comparison.selecting_stage()))
    known = dict.fromkeys(map(comparison.base_method, comparison.selecting_methods()))
    reasons = [reason for method in known if method in registry.METHODS and (reason := registry.refusal(method, task))]
    if reasons:
        raise ValueError(f"methods: {'; '.join(reasons)}")
    for name, variant in comparison.variants.items():
        _check_form(comparison, name, variant.method, task)
        if METHODS[variant.method].needs_proxy:
            _check_same_proxy(comparison, name)


def _check_training(comparison: Comparison, model: str) -> None:
    stage = comparison.training_stage(model)
    cfg = load_stage(stage)
    if cfg.ADAPRUNER.ENABLED:
        raise ValueError(
            f"{stage.config}: ADAPRUNER.ENABLED is True, so that this training would prune; set it in --prune-opts"
        )
    pruned = load_stage(comparison.selecting_stage()).DATASETS.TRAIN
    if not set(pruned) & set(cfg.DATASETS.TRAIN):
        raise ValueError(
            f"{stage.config}: DATASETS.TRAIN {tuple(cfg.DATASETS.TRAIN)} has none of the data sets that "
            f"{comparison.prune_config} prunes, {tuple(pruned)}"
        )


def _check_pruning(comparison: Comparison, method: str) -> None:
    stage = comparison.selecting_stage(method)
    try:
        cfg = load_stage(stage)
        check_pruning(cfg)
    except ValueError as error:
        raise ValueError(f"{method}: {error}") from error
    if not cfg.ADAPRUNER.ENABLED:
        raise ValueError(
            f"{method}: ADAPRUNER.ENABLED is False in {stage.config}, so that it would prune nothing; put "
            '"ADAPRUNER.ENABLED True" into --prune-opts'
        )


def _check_form(comparison: Comparison, name: str, method: str, task: str) -> None:
    form = variant_of(method, load_stage(comparison.selecting_stage(name)))
    reason = registry.refusal(method, task, form)
    if form and form == registry.METHODS[method].sets_ratio:
        reason = f"{method} ({form}) sets the ratio itself; score.py {method} makes its selection"
    if reason:
        raise ValueError(f"variants: {name}: {reason}")


def _check_same_proxy(comparison: Comparison, variant: str) -> None:
    shared = proxy_settings(load_stage(comparison.selecting_stage()))
    own = proxy_settings(load_stage(comparison.selecting_stage(variant)))
    differing = [key for key in own if own[key] != shared.get(key)]
    if differing:
        raise ValueError(
            f"variants: {variant}: {', '.join(differing)} cannot differ, as the proxy that all methods look at "
            "depends on it; make a comparison of its own, with this in --prune-opts"
        )


def test_set(comparison: Comparison, model: str) -> str:
    """The one data set that the result of a model is measured on.

    Raises:
        ValueError: the config of its last stage names none or several.
    """
    stage = comparison.last_stage(model)
    names = load_stage(stage).DATASETS.TEST
    if len(names) != 1:
        raise ValueError(f"{stage.config}: DATASETS.TEST has to name one data set to compare on, not {names}")
    return names[0]


def load_stage(stage: Stage) -> CfgNode:
    """The config of a stage with its overrides; registers its data sets.

    Raises:
        ValueError: an override names no key or has a value of another kind; and as `load_config`.
    """
    try:
        return load_config(stage.config, opts=stage.overrides)
    except AssertionError as error:  # what yacs raises for a key that does not exist
        raise ValueError(f"{stage.config}: {error}") from error


class _Data:
    """The records that configs name; each data set is read once."""

    def __init__(self):
        self._training: dict[tuple, list[dict]] = {}
        self._fingerprints: dict[tuple, str] = {}

    def training(self, cfg: CfgNode) -> list[dict]:
        """The records of DATASETS.TRAIN."""
        key = self._key(cfg)
        if key not in self._training:
            self._training[key] = task_of(cfg).load_records(cfg)
        return self._training[key]

    def fingerprints(self, cfg: CfgNode) -> str:
        """Of what is trained on and of every data set that is evaluated on."""
        key = self._key(cfg)
        if key not in self._fingerprints:
            self._fingerprints[key] = fingerprint(self.training(cfg))
        return self._fingerprints[key] + "".join(self._of_test(cfg, name) for name in cfg.DATASETS.TEST)

    def _of_test(self, cfg: CfgNode, name: str) -> str:
        key = name, cfg.DATASETS.ON_INVALID
        if key not in self._fingerprints:
            self._fingerprints[key] = fingerprint(task_of(cfg).load_dataset(cfg, name))
        return self._fingerprints[key]

    @staticmethod
    def _key(cfg: CfgNode) -> tuple:
        """What the training records depend on; a name means one data set in a process."""
        data = cfg.DATASETS
        task = cfg.MODEL.META_ARCHITECTURE, cfg.CLASSIFICATION.dump()
        return (*task, tuple(data.TRAIN), data.ON_INVALID, data.SELECTION)


class _Planner:
    """Makes the runs; reads each config once."""

    def __init__(self, comparison: Comparison, output: Path):
        self.comparison = comparison
        self.output = output
        self._data = _Data()
        self._configs: dict[Stage, CfgNode] = {}

    def selections(self) -> list[Run]:
        """The runs that select, those first whose scores others cut."""
        methods, seeds = self.comparison.selecting_methods(), self.comparison.all_seeds()
        look_at_proxy = any(self._how(method).needs_proxy for method in methods)
        proxies = [self.proxy(seed) for seed in seeds] if look_at_proxy else []
        return proxies + [
            self.selecting(method, ratio, seed)
            for seed in seeds
            for method in methods
            for ratio in self._ratios(method, seed)
        ]

    def _ratios(self, method: str, seed: int) -> list[float]:
        """Those a method selects at, the one that others are cut from first."""
        asked, source = self.comparison.ratios_of(seed), self.comparison.source_ratio(method)
        return asked if source is None else [source, *(ratio for ratio in asked if ratio != source)]

    def proxy(self, seed: int) -> Run:
        """The run that trains what the methods of a seed look at, whatever the ratio."""
        stage = self.comparison.selecting_stage()
        name = proxy_run(seed)
        command = proxy_command(self.comparison.tools, stage, seed, self.output / name)
        iterations = self._iterations(stage, len(self._competing(stage)[0]))
        return Run(name, command, self._fingerprint(stage, _of_proxy), iterations)

    def selecting(self, method: str, ratio: float, seed: int) -> Run:
        """The run that makes a selection, of its own or by cutting another."""
        source = self.comparison.source_ratio(method)
        if source not in (None, ratio):
            return self._cutting(method, ratio, seed, source)
        name = selection_run(method, ratio, seed)
        how = self._how(method)
        stage = self.comparison.selecting_stage(method)
        proxy = proxy_run(seed)
        request = SelectionRequest(self.comparison.tools, stage, ratio, seed, self.output / name, self.output / proxy)
        iterations = self._iterations(stage, len(self._competing(stage)[0])) if how.trains else 0
        after = (proxy,) if how.needs_proxy else ()
        identity = self._fingerprint(stage, self._what_counts(method))
        return Run(name, how.command(request), identity, iterations, after)

    def _what_counts(self, method: str) -> Callable[[CfgNode], CfgNode]:
        """Which settings a selection depends on."""
        base = self.comparison.base_method(method)
        if base == RANDOM:
            return _of_random
        if base == ADAPRUNER:
            return _of_adapruner
        return _of_scoring if self._how(method).needs_proxy else _of_scoring_without_proxy

    def _how(self, method: str) -> Method:
        return METHODS[self.comparison.base_method(method)]

    def _cutting(self, method: str, ratio: float, seed: int, source_ratio: float) -> Run:
        source = self.selecting(method, source_ratio, seed)
        name = selection_run(method, ratio, seed)
        command = cut(self.comparison.tools, self.output / source.name, ratio, self.output / name)
        # What is trained on it depends on where it was cut from, which its name does not say.
        identity = f"{source.fingerprint} cut from {source_ratio}"
        return Run(name, command, identity, after=(source.name,))

    def training(self, model: str, cell: Cell, seed: int) -> Run:
        """The run that trains a model on everything or on a selection, and evaluates it."""
        name = training_run(model, cell, seed)
        stage = self.comparison.training_stage(model)
        whole = self._on_everything(stage)
        everything = self._trained_on(whole)
        if cell.method == FULL:
            return self._train_net(name, whole, seed, everything)
        kept = self._kept(stage, cell)
        stage = stage.plus(*length(self._config(stage), cell.budget, everything, kept))
        selecting = self.selecting(cell.method, cell.keep_ratio, seed)
        selection = ("DATASETS.SELECTION", str(self.output / selecting.name / "selection"))
        return self._train_net(name, stage, seed, kept, selecting, selection)

    def finetuning(self, model: str, cell: Cell, seed: int) -> Run:
        """The run that goes on from a finished training, on other data."""
        name = finetuning_run(model, cell, seed)
        stage = self.comparison.last_stage(model)
        training = self.training(model, cell, seed)
        weights = ("MODEL.WEIGHTS", str(self.output / training.name / "model_final.pth"))
        return self._train_net(name, stage, seed, self._trained_on(stage), training, weights)

    def _train_net(
        self,
        name: str,
        stage: Stage,
        seed: int,
        images: int,
        before: Run | None = None,
        made_before: tuple[str, ...] = (),
    ) -> Run:
        """A training on so many images; `made_before` are KEY VALUE pairs with what `before` made."""
        command = training_command(
            self.comparison.tools, stage.plus(*made_before), training_seed(seed), self.output / name
        )
        identity = self._fingerprint(stage, _of_training) + (before.fingerprint if before else "")
        after = (before.name,) if before else ()
        return Run(name, command, identity, self._iterations(stage, images), after)

    def _iterations(self, stage: Stage, images: int) -> int:
        return with_max_iter(self._config(stage), images).SOLVER.MAX_ITER

    def _config(self, stage: Stage) -> CfgNode:
        if stage not in self._configs:
            self._configs[stage] = load_stage(stage)
        return self._configs[stage]

    def _on_everything(self, stage: Stage) -> Stage:
        """A training on all that selections are made of: images without boxes too, unless none can stay."""
        cfg = self._config(stage)
        left_out = task_of(cfg).split_trainable(cfg, self._data.training(cfg))[1]
        if not left_out or self._config(self.comparison.selecting_stage()).ADAPRUNER.EMPTY_IMAGES == "drop":
            return stage
        return stage.plus("DATALOADER.FILTER_EMPTY_ANNOTATIONS", "False")

    def _trained_on(self, stage: Stage) -> int:
        """How many images a training without a selection trains on."""
        cfg = self._config(stage)
        return len(task_of(cfg).split_trainable(cfg, self._data.training(cfg))[0])

    def _competing(self, selecting: Stage) -> tuple[list[dict], list[dict]]:
        """(the records a method chooses among, the others)."""
        cfg = self._config(selecting)
        return task_of(cfg).split_competing(cfg, self._data.training(cfg))

    def _kept(self, stage: Stage, cell: Cell) -> int:
        """How many images a training on a selection trains on, known before the selection is made.

        AdaPruner with RATIO_CONTROL penalty may come out up to TOLERANCE beside the ratio it prunes at.
        """
        selecting = self.comparison.selecting_stage(cell.method)
        competing, others = self._competing(selecting)
        cfg = self._config(selecting)
        kept = round(cell.keep_ratio * len(competing))
        kept += len(others) if cfg.ADAPRUNER.EMPTY_IMAGES == "keep" else 0
        records = self._data.training(self._config(stage))
        not_covered = sum(record["dataset_name"] not in cfg.DATASETS.TRAIN for record in records)
        return kept + not_covered

    def _fingerprint(self, stage: Stage, what_counts: Callable[[CfgNode], CfgNode]) -> str:
        """Of those settings of the config that count, and of the data sets it names."""
        cfg = self._config(stage)
        content = what_counts(without_preset(cfg)).dump() + self._data.fingerprints(cfg)
        return hashlib.sha256(content.encode()).hexdigest()[:16]


# What a run depends on, of a config that these may change: a comparison goes on with what is finished when
# settings have changed that only other runs look at.


def _of_training(settings: CfgNode) -> CfgNode:
    return _without(settings, ADAPRUNER=(), SCORING=())


def _of_adapruner(settings: CfgNode) -> CfgNode:
    return _without(settings, SCORING=())


def _of_scoring(settings: CfgNode) -> CfgNode:
    return _without(settings, ADAPRUNER=("EMPTY_IMAGES",))


def _of_proxy(settings: CfgNode) -> CfgNode:
    return _without(settings, ADAPRUNER=("EMPTY_IMAGES",), SCORING=set(settings.SCORING) - {"CLASS_BALANCE"})


def _of_scoring_without_proxy(settings: CfgNode) -> CfgNode:
    return _without(settings, ADAPRUNER=("EMPTY_IMAGES",), SCORING=("CLASS_BALANCE",))


def _of_random(settings: CfgNode) -> CfgNode:
    """The data come besides."""
    settings = _of_scoring_without_proxy(settings)
    return CfgNode({name: settings[name] for name in ("ADAPRUNER", "SCORING")})


def _without(settings: CfgNode, **but_for: Collection[str]) -> CfgNode:
    """Takes all keys from nodes, but for those named."""
    for node, kept in but_for.items():
        for key in set(settings[node]) - set(kept):
            del settings[node][key]
    return settings
