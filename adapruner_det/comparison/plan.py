"""Which runs a comparison needs: select by each method, train each detector on each selection."""
import functools
import hashlib
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Dict, List, Tuple

from detectron2.config import CfgNode

from ..detection.selection_record import fingerprint
from ..detection.training_data import load_dataset
from ..engine import load_config
from ..pruning.selection import ratio_label
from .runs import Run

FULL, RANDOM, ADAPRUNER = "full", "random", "adapruner"
METHODS = (FULL, RANDOM, ADAPRUNER)


@dataclass(frozen=True)
class Comparison:
    """What to compare.

    Attributes:
        tools: the folder with train_net.py and selection.py.
        prune_config: config of the pruning run.
        train_configs: configs of the detectors to retrain, by the name to print.
        methods: of METHODS.
        keep_ratios: at which the scores are cut. One pruning run is made for each.
        seeds: each seed prunes, selects at random and trains.
        overrides: KEY VALUE pairs for every run.
    """

    tools: Path
    prune_config: str
    train_configs: Dict[str, str]
    methods: Tuple[str, ...] = METHODS
    keep_ratios: Tuple[float, ...] = (0.8,)
    seeds: Tuple[int, ...] = (0,)
    overrides: Tuple[str, ...] = ()

    def cells(self) -> "List[Tuple[str, float]]":
        """(method, keep ratio) of every row: everything once, then each method at each ratio."""
        full = [(FULL, 1.0)] if FULL in self.methods else []
        others = [m for m in self.methods if m != FULL]
        return full + [(method, ratio) for ratio in self.keep_ratios for method in others]


def selection_run(method: str, keep_ratio: float, seed: int) -> str:
    """Name of the run that selects; its selection lies in `selection` below it."""
    return f"select/{method}_{ratio_label(keep_ratio)}_seed{seed}"


def training_run(detector: str, method: str, keep_ratio: float, seed: int) -> str:
    """Name of the run that trains a detector and evaluates it."""
    return f"train/{detector.replace(' ', '_')}/{method}_{ratio_label(keep_ratio)}_seed{seed}"


def plan(comparison: Comparison, output: Path) -> List[Run]:
    """All runs, each after those it needs; selections come first, as others wait for them.

    Raises:
        ValueError: a training config that does not evaluate on exactly one data set.
    """
    for name in comparison.train_configs:
        test_set(comparison, name)
    selecting = [
        _selecting(comparison, method, ratio, seed, output)
        for seed in comparison.seeds
        for method, ratio in comparison.cells()
        if method != FULL
    ]
    training = [
        _training(comparison, detector, method, ratio, seed, output)
        for seed in comparison.seeds
        for method, ratio in comparison.cells()
        for detector in comparison.train_configs
    ]
    return selecting + training


def test_set(comparison: Comparison, detector: str) -> str:
    """The one data set a detector is evaluated on.

    Raises:
        ValueError: its config names none or several.
    """
    path = comparison.train_configs[detector]
    names = load_config(path, opts=comparison.overrides).DATASETS.TEST
    if len(names) != 1:
        raise ValueError(f"{path}: DATASETS.TEST has to name one data set to compare on, not {names}")
    return names[0]


def _selecting(comparison: Comparison, method: str, ratio: float, seed: int, output: Path) -> Run:
    name = selection_run(method, ratio, seed)
    cfg = load_config(comparison.prune_config, opts=comparison.overrides)
    if method == RANDOM:
        tool = (str(comparison.tools / "selection.py"), "random", "--config-file", comparison.prune_config)
        folder = str(output / name / "selection")
        options = ("--keep-ratio", str(ratio), "--seed", str(seed), "--output", folder)
        command = (sys.executable, *tool, *options, *comparison.overrides)
        return Run(name, command, _fingerprint(cfg))
    command = _train_net(
        comparison, comparison.prune_config, output / name, seed, "ADAPRUNER.KEEP_RATIO", str(ratio)
    )
    return Run(name, command, _fingerprint(cfg), cfg.SOLVER.MAX_ITER)


def _training(
    comparison: Comparison, detector: str, method: str, ratio: float, seed: int, output: Path
) -> Run:
    name = training_run(detector, method, ratio, seed)
    config = comparison.train_configs[detector]
    cfg = load_config(config, opts=comparison.overrides)
    after, selection, made_by = (), (), ""
    if method != FULL:
        selecting = _selecting(comparison, method, ratio, seed, output)
        after, made_by = (selecting.name,), selecting.fingerprint
        selection = ("DATASETS.SELECTION", str(output / selecting.name / "selection"))
    command = _train_net(comparison, config, output / name, seed, *selection)
    return Run(name, command, _fingerprint(cfg) + made_by, cfg.SOLVER.MAX_ITER, after)


def _train_net(comparison: Comparison, config: str, folder: Path, seed: int, *options: str):
    return (
        *(sys.executable, str(comparison.tools / "train_net.py"), "--resume", "--config-file", config),
        *comparison.overrides,
        *options,
        *("SEED", str(seed), "OUTPUT_DIR", str(folder)),
    )


def _fingerprint(cfg: CfgNode) -> str:
    """Of the config and of the data sets it names."""
    names = (*cfg.DATASETS.TRAIN, *cfg.DATASETS.TEST)
    data = "".join(_data_fingerprint(name, cfg.DATASETS.ON_INVALID) for name in names)
    return hashlib.sha256((cfg.dump() + data).encode()).hexdigest()[:16]


@functools.lru_cache(maxsize=None)
def _data_fingerprint(name: str, on_invalid: str) -> str:
    return fingerprint(load_dataset(name, on_invalid))
