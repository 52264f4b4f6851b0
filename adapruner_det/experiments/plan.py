"""Which runs an experiment needs: select by each method, train each model on each selection."""

import hashlib
import os
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from detectron2.config import CfgNode

from ..baselines.registry import ADAPRUNER, RANDOM
from ..data.selection_record import fingerprint
from ..engine.config import without_preset
from ..engine.tasks import task_of
from ..engine.trainer import with_max_iter
from ..pruning.adapruner import number_to_keep
from .check import check, load_stage, test_set
from .experiment import (
    FULL,
    ITERATIONS,
    Cell,
    Experiment,
    Stage,
    finetuning_run,
    proxy_run,
    selection_run,
    training_run,
)
from .processes import COMMANDS
from .runs import Run

# Added to a seed where models are trained, so that no model is judged that starts from the weights of the one that
# chose its images.
TRAINED_WITH = 1000
REPLACING = ("--overwrite",)  # a selection that was written before its comparison was killed


def plan(experiment: Experiment, output: Path) -> list[Run]:
    """All runs, each after those it needs; selections come first, as others wait for them.

    Reads the configs and the data they name.

    Raises:
        ValueError: as `check`; a ratio that keeps none of the images, or all; no box to test on; and what loading the data raises.
    """
    check(experiment)
    planner = _Planner(experiment, output)
    for model in experiment.models():
        planner.check_test(model)
    seeds, methods = experiment.all_seeds(), experiment.selecting_methods()
    if any(map(experiment.needs_proxy, methods)):
        for seed in seeds:
            planner.add_proxy(seed)
    for seed in seeds:
        for method in methods:
            planner.add_selections(method, seed)
    cells = sorted(experiment.cells(), key=lambda cell: seeds.index(cell.seed))
    for cell in cells:
        planner.add_training(cell)
    for cell in cells if experiment.finetune else ():
        planner.add_finetuning(cell)
    return list(planner.runs.values())


class _Planner:
    """Adds up the runs by name; reads each config and each data set once."""

    def __init__(self, experiment: Experiment, output: Path):
        self.experiment, self.output = experiment, output
        self.runs: dict[str, Run] = {}
        self._once: dict[Any, Any] = {}

    def add_proxy(self, seed: int) -> None:
        """What the methods of a seed look at, whatever the ratio."""
        name, stage = proxy_run(seed), self.experiment.selecting_stage()
        arguments = ("--config-file", stage.config, "--seed", seed, "--output", self.output / name, *stage.overrides)
        iterations = self._iterations(stage, self._competing(stage)[0])
        self._add(name, ("score.py", "proxy", *arguments), self._fingerprint(stage, "proxy"), iterations)

    def add_selections(self, method: str, seed: int) -> None:
        """A method's selections of a seed, the one that others are cut from first."""
        ratios, source = self.experiment.ratios_of(seed), self.experiment.source_ratio(method)
        competing, _ = self._competing(self.experiment.selecting_stage(method))
        for ratio in ratios:
            number_to_keep(competing, ratio)  # said before anything is trained
        for ratio in ratios if source is None else [source]:
            self._add_selection(method, ratio, seed)
        for ratio in ratios:
            if source not in (None, ratio):
                self._add_cut(method, source, ratio, seed)

    def _add_selection(self, method: str, ratio: float, seed: int) -> None:
        name, stage = selection_run(method, ratio, seed), self.experiment.selecting_stage(method)
        base, needs_proxy = self.experiment.base_method(method), self.experiment.needs_proxy(method)
        if base == ADAPRUNER:
            pairs = ("ADAPRUNER.KEEP_RATIO", ratio)
            self._add_train_net(name, stage, seed, self._competing(stage)[0], pairs, what=ADAPRUNER)
            return
        arguments = ("--keep-ratio", ratio, "--seed", seed, "--output", self.output / name / "selection")
        proxy = ("--proxy", self.output / proxy_run(seed)) if needs_proxy else ()
        tool = "selection.py" if base == RANDOM else "score.py"
        what = RANDOM if base == RANDOM else "looking at the proxy" if needs_proxy else "scoring"
        command = (tool, base, "--config-file", stage.config, *arguments, *proxy, *stage.overrides)
        after = (proxy_run(seed),) if needs_proxy else ()
        self._add(name, command, self._fingerprint(stage, what), after=after, anew=REPLACING)

    def _add_cut(self, method: str, source: float, ratio: float, seed: int) -> None:
        before, name = self.runs[selection_run(method, source, seed)], selection_run(method, ratio, seed)
        whole, part = (self.output / run / "selection" for run in (before.name, name))
        command = ("selection.py", "cut", whole, "--keep-ratio", ratio, "--no-page", "--output", part)
        # What is trained on it depends on where it was cut from, which its name does not say.
        self._add(name, command, f"{before.fingerprint} cut from {source}", after=(before.name,), anew=REPLACING)

    def add_training(self, cell: Cell) -> None:
        """A model trained on everything or on a selection, and evaluated."""
        stage, name = self.experiment.training_stage(cell.model), training_run(cell)
        whole = self._on_everything(stage)
        everything, _ = self._trainable(whole)
        if cell.method == FULL:
            self._add_train_net(name, whole, TRAINED_WITH + cell.seed, everything)
            return
        kept = self._kept(stage, cell)
        stage = _plus(stage, *length(self._config(stage), cell.budget, everything, kept))
        before = self.runs[selection_run(cell.method, cell.keep_ratio, cell.seed)]
        pairs = ("DATASETS.SELECTION", self.output / before.name / "selection")
        self._add_train_net(name, stage, TRAINED_WITH + cell.seed, kept, pairs, before)

    def add_finetuning(self, cell: Cell) -> None:
        """What goes on from a finished training, on other data."""
        stage, before = self.experiment.last_stage(cell.model), self.runs[training_run(cell)]
        pairs = ("MODEL.WEIGHTS", self.output / before.name / "model_final.pth")
        images, _ = self._trainable(stage)
        self._add_train_net(finetuning_run(cell), stage, TRAINED_WITH + cell.seed, images, pairs, before)

    def _add_train_net(
        self,
        name: str,
        stage: Stage,
        seed: int,
        images: int,
        pairs: tuple = (),
        before: Run | None = None,
        what: str = "training",
    ) -> None:
        """A run on so many images; `pairs` name what `before` made."""
        pairs = (*stage.overrides, *pairs, "SEED", seed, "OUTPUT_DIR", self.output / name)
        command = ("train_net.py", "--resume", "--config-file", stage.config, *pairs)
        identity = self._fingerprint(stage, what) + (before.fingerprint if before else "")
        self._add(name, command, identity, self._iterations(stage, images), (before.name,) if before else ())

    def _add(
        self,
        name: str,
        command: tuple,
        identity: str,
        iterations: int = 0,
        after: tuple[str, ...] = (),
        anew: tuple[str, ...] = (),
    ) -> None:
        """A run of one of the commands; each of them goes on where it stopped, or can start anew."""
        file, *arguments = command
        words = (sys.executable, str(COMMANDS / file), *map(str, arguments))
        self.runs[name] = Run(name, words, identity, iterations, after, anew)

    def _cached(self, key: Any, compute: Callable[[], Any]) -> Any:
        if key not in self._once:
            self._once[key] = compute()
        return self._once[key]

    def _config(self, stage: Stage) -> CfgNode:
        return self._cached(stage, lambda: load_stage(stage))

    def _load(self, cfg: CfgNode) -> list[dict]:
        """The records of DATASETS.TRAIN."""
        return self._cached(("records", *_data_key(cfg)), lambda: task_of(cfg).load_records(cfg))

    def _fingerprint(self, stage: Stage, what: str) -> str:
        """Of the settings that count for what is run, and of the data and the weights that its config names."""
        cfg = self._config(stage)
        content = _counting(cfg, what).dump()
        if what != RANDOM and os.path.isfile(cfg.MODEL.WEIGHTS):
            content += self._cached(("weights", cfg.MODEL.WEIGHTS), partial(_digest_of, cfg.MODEL.WEIGHTS))
        content += self._cached(("trained on", *_data_key(cfg)), lambda: fingerprint(self._load(cfg)))
        for name in cfg.DATASETS.TEST:
            key = name, cfg.DATASETS.ON_INVALID
            content += self._cached(("tested on", *key), lambda: fingerprint(self._tested_on(cfg, name)))  # noqa: B023
        return hashlib.sha256(content.encode()).hexdigest()[:16]

    def _tested_on(self, cfg: CfgNode, name: str) -> Sequence[dict]:
        return self._cached(
            ("test records", name, cfg.DATASETS.ON_INVALID), lambda: task_of(cfg).load_dataset(cfg, name)
        )

    def check_test(self, model: str) -> None:
        """Raises ValueError if there is nothing to measure a model on."""
        stage, name = self.experiment.last_stage(model), test_set(self.experiment, model)
        if not any(
            record.get("annotations", "an image's class") for record in self._tested_on(self._config(stage), name)
        ):
            raise ValueError(
                f"{stage.config}: no image of {name} has a box, so there is nothing to compare by: test on another"
            )

    def _iterations(self, stage: Stage, images: int) -> int:
        return with_max_iter(self._config(stage), images).SOLVER.MAX_ITER

    def _on_everything(self, stage: Stage) -> Stage:
        """A training on all that selections are made of: images without boxes too, unless none can stay."""
        _, left_out = self._trainable(stage)
        if not left_out or self._config(self.experiment.selecting_stage()).ADAPRUNER.EMPTY_IMAGES == "drop":
            return stage
        return _plus(stage, "DATALOADER.FILTER_EMPTY_ANNOTATIONS", "False")

    def _trainable(self, stage: Stage) -> tuple[int, int]:
        """How many images a training without a selection trains on, and leaves out."""
        cfg = self._config(stage)
        trained, left_out = task_of(cfg).split_trainable(cfg, self._load(cfg))
        return len(trained), len(left_out)

    def _competing(self, stage: Stage) -> tuple[int, int]:
        """How many images a method chooses among, and how many are not its choice."""
        cfg = self._config(stage)
        competing, others = task_of(cfg).split_competing(cfg, self._load(cfg))
        return len(competing), len(others)

    def _kept(self, stage: Stage, cell: Cell) -> int:
        """How many images a training on a selection trains on, known before the selection is made.

        AdaPruner with RATIO_CONTROL penalty may come out up to TOLERANCE beside the ratio it prunes at.
        """
        selecting = self.experiment.selecting_stage(cell.method)
        cfg, (competing, others) = self._config(selecting), self._competing(selecting)
        kept = round(cell.keep_ratio * competing) + (others if cfg.ADAPRUNER.EMPTY_IMAGES == "keep" else 0)
        records = self._load(self._config(stage))
        return kept + sum(record["dataset_name"] not in cfg.DATASETS.TRAIN for record in records)


def _digest_of(path: str) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _plus(stage: Stage, *overrides: str) -> Stage:
    return Stage(stage.config, (*stage.overrides, *overrides))


def _data_key(cfg: CfgNode) -> tuple:
    """What the training records depend on; a name means one data set in a process."""
    data = cfg.DATASETS
    return cfg.MODEL.META_ARCHITECTURE, tuple(data.TRAIN), data.ON_INVALID, data.SELECTION


def _counting(cfg: CfgNode, what: str) -> CfgNode:
    """The settings that a run depends on: it goes on, or stays finished, when others have changed."""
    settings = without_preset(cfg)
    if not settings.DYNAMIC.METHOD:
        del settings["DYNAMIC"]
    empty, balance = {"EMPTY_IMAGES"}, {"CLASS_BALANCE"}
    kept = {
        "training": {"ADAPRUNER": set(), "SCORING": set()},
        ADAPRUNER: {"SCORING": set()},
        "proxy": {"ADAPRUNER": empty, "SCORING": set(settings.SCORING) - balance},
        "looking at the proxy": {"ADAPRUNER": empty},
        "scoring": {"ADAPRUNER": empty, "SCORING": balance},
        RANDOM: {"ADAPRUNER": empty, "SCORING": balance},
    }
    for node, keys in kept[what].items():
        for key in set(settings[node]) - keys:
            del settings[node][key]
    return CfgNode({node: settings[node] for node in kept[RANDOM]}) if what == RANDOM else settings


def length(cfg: CfgNode, budget: str, everything: int, kept: int) -> tuple[str, ...]:
    """KEY VALUE pairs that give a training on a selection the length that `budget` grants it.

    With equal iterations it sees each of its fewer images more often. With equal epochs it sees each as
    often, in fewer iterations: the schedule is the same one in a shorter time.

    Args:
        cfg: of the full training; its length is SOLVER.MAX_ITER, or MAX_EPOCHS where that is set.
        everything: images the full training trains on.
        kept: images this training trains on.
    """
    solver, share = cfg.SOLVER, kept / everything
    pairs: dict[str, object] = {}
    if budget == ITERATIONS and solver.MAX_EPOCHS:
        pairs = {"MAX_EPOCHS": 0.0, "MAX_ITER": with_max_iter(cfg, everything).SOLVER.MAX_ITER}
    if budget != ITERATIONS:
        if not solver.MAX_EPOCHS:
            pairs["MAX_ITER"] = max(1, round(share * solver.MAX_ITER))
        if solver.WARMUP_ITERS:
            pairs["WARMUP_ITERS"] = round(share * solver.WARMUP_ITERS)
        if solver.LR_SCHEDULER_NAME == "WarmupMultiStepLR":  # the cosine follows MAX_ITER
            pairs["STEPS"] = tuple(round(share * step) for step in solver.STEPS)
    return tuple(part for key, value in pairs.items() for part in (f"SOLVER.{key}", str(value)))
