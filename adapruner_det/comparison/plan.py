"""Which runs a comparison needs: select by each method, train each detector on each selection."""
import hashlib
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Dict, List, Sequence, Tuple

from detectron2.config import CfgNode, get_cfg

from ..engine import add_adapruner_config
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
    return f"select/{method}_{keep_ratio:.2f}_seed{seed}"


def training_run(detector: str, method: str, keep_ratio: float, seed: int) -> str:
    """Name of the run that trains a detector and evaluates it."""
    return f"train/{detector.replace(' ', '_')}/{method}_{keep_ratio:.2f}_seed{seed}"


def plan(comparison: Comparison, output: Path) -> List[Run]:
    """All runs, each after those it needs; selections come first, as others wait for them."""
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


def load_config(path: str, overrides: Sequence[str] = ()) -> CfgNode:
    """A config file with its bases and overrides."""
    cfg = get_cfg()
    add_adapruner_config(cfg)
    cfg.merge_from_file(path)
    cfg.merge_from_list(list(overrides))
    return cfg


def _selecting(comparison: Comparison, method: str, ratio: float, seed: int, output: Path) -> Run:
    name = selection_run(method, ratio, seed)
    cfg = load_config(comparison.prune_config, comparison.overrides)
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
    cfg = load_config(config, comparison.overrides)
    after, selection = (), ()
    if method != FULL:
        after = (selection_run(method, ratio, seed),)
        selection = ("DATASETS.SELECTION", str(output / after[0] / "selection"))
    command = _train_net(comparison, config, output / name, seed, *selection)
    return Run(name, command, _fingerprint(cfg), cfg.SOLVER.MAX_ITER, after)


def _train_net(comparison: Comparison, config: str, folder: Path, seed: int, *options: str):
    return (
        *(sys.executable, str(comparison.tools / "train_net.py"), "--resume", "--config-file", config),
        *comparison.overrides,
        *options,
        *("SEED", str(seed), "OUTPUT_DIR", str(folder)),
    )


def _fingerprint(cfg: CfgNode) -> str:
    return hashlib.sha256(cfg.dump().encode()).hexdigest()[:16]
