"""How each method makes its selection: AdaPruner, and those of `baselines.registry`."""

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from ..baselines import registry

RANDOM, ADAPRUNER = "random", "adapruner"
DRAWN = (RANDOM, "random_class_weighted", "random_stratified")  # by chance alone, which costs nothing
CONTROLS = (*DRAWN, "near_duplicates")  # the cheap rivals that a claim has to hold against


class Stage(NamedTuple):
    """One training: a config file, and KEY VALUE pairs on top of it."""

    config: str
    overrides: tuple[str, ...]

    def plus(self, *overrides: str) -> "Stage":
        """The same with further KEY VALUE pairs, which win over those before."""
        return Stage(self.config, (*self.overrides, *overrides))


@dataclass(frozen=True)
class SelectionRequest:
    """One selection to be made.

    Attributes:
        tools: the folder with train_net.py and selection.py.
        stage: the pruning run; it names the data.
        keep_ratio: the share of the images that stays.
        seed: of whatever is random.
        folder: of the run. The selection has to come to lie in `selection` below it.
        proxy: folder of the seed's proxy, for methods that look at one.
    """

    tools: Path
    stage: Stage
    keep_ratio: float
    seed: int
    folder: Path
    proxy: Path


@dataclass(frozen=True)
class Method:
    """How a method makes its selection.

    Attributes:
        command: what to execute for a request. Executed again, it has to go on where it stopped.
        trains: whether it trains by the config of the pruning run, for as long as that says.
        needs_proxy: whether it looks at a proxy, which has to be trained before.
        for_every_ratio: whether its scores do not depend on the ratio, so that once is enough for all.
    """

    command: Callable[[SelectionRequest], tuple[str, ...]]
    trains: bool = False
    needs_proxy: bool = False
    for_every_ratio: bool = False


def training_command(tools: Path, stage: Stage, seed: int, folder: Path) -> tuple[str, ...]:
    """train_net.py, able to go on where it stopped."""
    return (
        *(sys.executable, str(tools / "train_net.py"), "--resume", "--config-file", stage.config),
        *stage.overrides,
        *("SEED", str(seed), "OUTPUT_DIR", str(folder)),
    )


def pruning_run(request: SelectionRequest) -> tuple[str, ...]:
    """A pruning run; the variants of AdaPruner differ from it in their overrides."""
    stage = request.stage.plus("ADAPRUNER.KEEP_RATIO", str(request.keep_ratio))
    return training_command(request.tools, stage, request.seed, request.folder)


def scored_by(script: str, *arguments: str, needs_proxy: bool = False, for_every_ratio: bool = False) -> Method:
    """A method whose scores a tool computes, given as `selection.py random` is.

    The tool has to understand --config-file, --keep-ratio, --seed, --output and KEY VALUE pairs, and
    --proxy if the method needs one.
    """

    def command(request: SelectionRequest) -> tuple[str, ...]:
        return (
            *(sys.executable, str(request.tools / script), *arguments),
            *("--config-file", request.stage.config, "--keep-ratio", str(request.keep_ratio)),
            *("--seed", str(request.seed), "--output", str(request.folder / "selection")),
            *(("--proxy", str(request.proxy)) if needs_proxy else ()),
            *request.stage.overrides,
        )

    return Method(command, needs_proxy=needs_proxy, for_every_ratio=for_every_ratio)


def proxy_command(tools: Path, stage: Stage, seed: int, folder: Path) -> tuple[str, ...]:
    """score.py proxy, able to go on where it stopped."""
    return (
        *(sys.executable, str(tools / "score.py"), "proxy", "--config-file", stage.config),
        *("--seed", str(seed), "--output", str(folder), *stage.overrides),
    )


def cut(tools: Path, source: Path, keep_ratio: float, folder: Path) -> tuple[str, ...]:
    """The selection of run `source` cut at another ratio."""
    return (
        *(sys.executable, str(tools / "selection.py"), "cut", str(source / "selection")),
        *("--keep-ratio", str(keep_ratio), "--output", str(folder / "selection")),
    )


METHODS: dict[str, Method] = {
    RANDOM: scored_by("selection.py", "random"),
    ADAPRUNER: Method(pruning_run, trains=True),
    **{
        name: scored_by(
            "score.py",
            name,
            needs_proxy=bool(method.trainings),
            for_every_ratio=not method.looks_at_ratio,
        )
        for name, method in registry.METHODS.items()
        if name not in (RANDOM, ADAPRUNER)
    },
}
