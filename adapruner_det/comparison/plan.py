"""Which runs a comparison needs: select by each method, train each model on each selection."""
import hashlib
from pathlib import Path
from typing import Dict, List, Tuple

from detectron2.config import CfgNode

from ..data.selection_record import fingerprint
from ..engine import load_config
from ..engine.tasks import task_of
from ..engine.trainer import with_max_iter
from .budgets import length
from .comparison import FULL, Cell, Comparison, finetuning_run, selection_run, training_run
from .methods import METHODS, SelectionRequest, cut, training_command
from .runs import Run


def plan(comparison: Comparison, output: Path) -> List[Run]:
    """All runs, each after those it needs; selections come first, as others wait for them.

    Reads the configs and the data they name.

    Raises:
        ValueError: a config whose result is compared does not evaluate on exactly one data set; and
            what loading the configs and the data raises.
    """
    for model in comparison.train_configs:
        test_set(comparison, model)
    planner = _Planner(comparison, output)
    cells = [(cell, seed) for seed in comparison.seeds for cell in comparison.cells()]
    models = list(comparison.train_configs)
    runs = planner.selecting_runs()
    runs += [planner.training(model, cell, seed) for cell, seed in cells for model in models]
    if comparison.finetune:
        runs += [planner.finetuning(model, cell, seed) for cell, seed in cells for model in models]
    return runs


def test_set(comparison: Comparison, model: str) -> str:
    """The one data set that the result of a model is measured on.

    Raises:
        ValueError: the config of its last stage names none or several.
    """
    path, overrides = comparison.last_stage(model)
    names = load_config(path, opts=overrides).DATASETS.TEST
    if len(names) != 1:
        raise ValueError(f"{path}: DATASETS.TEST has to name one data set to compare on, not {names}")
    return names[0]


class _Planner:
    """Makes the runs; reads each config and each data set once."""

    def __init__(self, comparison: Comparison, output: Path):
        self.comparison = comparison
        self.output = output
        self._configs: Dict[tuple, CfgNode] = {}
        self._sizes: Dict[tuple, Tuple[int, int]] = {}
        self._fingerprints: Dict[tuple, str] = {}

    def selecting_runs(self) -> List[Run]:
        asked = self.comparison.keep_ratios
        source = self.comparison.cut_from
        ratios = asked if source is None else (source, *(ratio for ratio in asked if ratio != source))
        return [
            self.selecting(method, ratio, seed)
            for seed in self.comparison.seeds
            for ratio in ratios
            for method in self.comparison.selecting_methods()
        ]

    def selecting(self, method: str, ratio: float, seed: int) -> Run:
        """The run that makes a selection, of its own or by cutting another."""
        source = self.comparison.cut_from
        if source is not None and ratio != source:
            return self._cutting(method, ratio, seed)
        comparison = self.comparison
        name = selection_run(method, ratio, seed)
        overrides = comparison.overrides_of(method)
        cfg = self._config(comparison.prune_config, overrides)
        request = SelectionRequest(
            comparison.tools, comparison.prune_config, overrides, ratio, seed, self.output / name
        )
        how = METHODS[comparison.base_method(method)]
        iterations = self._pruning_iterations(cfg, overrides) if how.trains else 0
        return Run(name, how.command(request), self._fingerprint(cfg), iterations)

    def training(self, model: str, cell: Cell, seed: int) -> Run:
        """The run that trains a model on a selection, or on everything, and evaluates it."""
        comparison = self.comparison
        name = training_run(model, cell, seed)
        config, base = comparison.train_configs[model], comparison.train_overrides_of()
        after, made_by, overrides = (), "", base
        if cell.method != FULL:
            selecting = self.selecting(cell.method, cell.keep_ratio, seed)
            after, made_by = (selecting.name,), selecting.fingerprint
            selection = ("DATASETS.SELECTION", str(self.output / selecting.name / "selection"))
            overrides = (*base, *self._length(config, base, cell), *selection)
        command = training_command(comparison.tools, config, overrides, seed, self.output / name)
        identity = self._fingerprint(self._config(config, base)) + made_by
        return Run(name, command, identity, self._training_iterations(config, overrides, cell), after)

    def finetuning(self, model: str, cell: Cell, seed: int) -> Run:
        """The run that goes on from a finished training, on other data."""
        comparison = self.comparison
        before = self.training(model, cell, seed)
        name = finetuning_run(model, cell, seed)
        config, base = comparison.last_stage(model)
        overrides = (*base, "MODEL.WEIGHTS", str(self.output / before.name / "model_final.pth"))
        command = training_command(comparison.tools, config, overrides, seed, self.output / name)
        cfg = self._config(config, base)
        identity = self._fingerprint(cfg) + before.fingerprint
        iterations = with_max_iter(cfg, self._size(config, base)[0]).SOLVER.MAX_ITER
        return Run(name, command, identity, iterations, (before.name,))

    def _cutting(self, method: str, ratio: float, seed: int) -> Run:
        source = self.selecting(method, self.comparison.cut_from, seed)
        name = selection_run(method, ratio, seed)
        command = cut(self.comparison.tools, self.output / source.name, ratio, self.output / name)
        return Run(name, command, source.fingerprint, after=(source.name,))

    def _length(self, config: str, overrides: Tuple[str, ...], cell: Cell) -> Tuple[str, ...]:
        cfg = self._config(config, overrides)
        everything = self._size(config, overrides)[0]
        return length(cfg, cell.budget, everything, self._kept(config, overrides, cell))

    def _kept(self, config: str, overrides: Tuple[str, ...], cell: Cell) -> int:
        """Images a training on a selection will see: known before the selection is made.

        (AdaPruner with RATIO_CONTROL penalty may come out up to TOLERANCE beside it.)
        """
        prune = self._config(self.comparison.prune_config, self.comparison.overrides_of(cell.method))
        task = task_of(prune)
        competing, others = task.split_competing(prune, task.load_records(prune))
        stay = round(cell.keep_ratio * len(competing))
        stay += len(others) if prune.ADAPRUNER.EMPTY_IMAGES == "keep" else 0
        covered = len(competing) + len(others)
        return stay + self._size(config, overrides)[1] - covered
