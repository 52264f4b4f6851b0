"""Whether the configs of an experiment go together."""

import functools
from collections.abc import Collection

from detectron2.config import CfgNode

from ..baselines.registry import ADAPRUNER, DETECTION, METHODS, refusal
from ..engine import load_config
from ..engine.proxy import proxy_settings, task_name
from ..engine.select import variant_of
from ..engine.tasks import task_of
from ..engine.trainer import check_pruning
from ..pruning.statistics import Statistics
from ..report.injected import InjectedErrors, InjectedMismatchError
from .experiment import Experiment, Stage


def check(experiment: Experiment) -> None:
    """Reads every config once, and no images.

    Raises:
        ValueError: configs, variants or methods do not go together, or one of them cannot work (says why); and
            what loading the configs raises.
    """
    selecting = load_stage(experiment.selecting_stage())
    _check_whole(experiment.selecting_stage(), selecting)
    task = task_name(selecting)
    for model in experiment.models():
        _check_training(experiment.training_stage(model), selecting.DATASETS.TRAIN)
        test_set(experiment, model)
    bases = {method: experiment.base_method(method) for method in experiment.selecting_methods()}
    for method, base in bases.items():
        if base == ADAPRUNER:
            _check_pruning(experiment, method)
    reasons = [reason for base in dict.fromkeys(bases.values()) if (reason := refusal(base, task))]
    if reasons:
        raise ValueError(f"methods: {'; '.join(reasons)}")
    for variant in experiment.variants:
        _check_variant(experiment, variant, selecting)


def _check_variant(experiment: Experiment, variant: str, selecting: CfgNode) -> None:
    base, cfg = experiment.base_method(variant), load_stage(experiment.selecting_stage(variant))
    form = variant_of(base, cfg)
    if form and form == METHODS[base].sets_ratio:
        raise ValueError(
            f"variants: {variant}: {base} ({form}) sets the ratio itself; score.py {base} makes its selection"
        )
    if reason := refusal(base, task_name(selecting), form):
        raise ValueError(f"variants: {variant}: {reason}")
    if ignored := [key for key in experiment.variants[variant] if _is_ignored(base, key)]:
        raise ValueError(f"variants: {variant}: {base} does not look at {', '.join(ignored)}: leave it out")
    if set(cfg.DATASETS.TRAIN) != set(selecting.DATASETS.TRAIN):
        raise ValueError(
            f"variants: {variant}: DATASETS.TRAIN {tuple(cfg.DATASETS.TRAIN)} is not what the other methods choose among, "
            f"{tuple(selecting.DATASETS.TRAIN)}: make a comparison of its own, with this in --prune-opts"
        )
    shared = proxy_settings(selecting)
    differing = [key for key, value in proxy_settings(cfg).items() if value != shared.get(key)]
    if experiment.needs_proxy(variant) and differing:
        raise ValueError(
            f"variants: {variant}: {', '.join(differing)} cannot differ, as the proxy that all methods look at "
            "depends on it; make a comparison of its own, with this in --prune-opts"
        )


def _is_ignored(method: str, key: str) -> bool:
    """Whether it is a setting of another method."""
    node, _, name = key.partition(".")
    if node == "SCORING":
        return method == ADAPRUNER or (name.lower() in METHODS and name.lower() != method)
    return node == "ADAPRUNER" and method != ADAPRUNER and name != "EMPTY_IMAGES"


def _check_training(stage: Stage, pruned: Collection[str]) -> None:
    cfg = load_stage(stage)
    _check_whole(stage, cfg)
    if cfg.ADAPRUNER.ENABLED:
        raise ValueError(
            f"{stage.config}: ADAPRUNER.ENABLED is True, so that this training would prune; set it in --prune-opts"
        )
    if missing := set(pruned) - set(cfg.DATASETS.TRAIN):
        raise ValueError(
            f"{stage.config}: DATASETS.TRAIN {tuple(cfg.DATASETS.TRAIN)} lacks {', '.join(sorted(missing))}, which is "
            "pruned: a training has to see all that is selected among"
        )


def _check_whole(stage: Stage, cfg: CfgNode) -> None:
    if cfg.DATASETS.SELECTION:
        raise ValueError(
            f"{stage.config}: DATASETS.SELECTION is set, but a comparison selects from the whole data: leave it out"
        )


def _check_pruning(experiment: Experiment, method: str) -> None:
    stage = experiment.selecting_stage(method)
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
    if cfg.ADAPRUNER.AUTO_KEEP_RATIO:
        raise ValueError(
            f"{method}: ADAPRUNER.AUTO_KEEP_RATIO sets the ratio itself, and a comparison is made at those of --keep-ratios: "
            "leave it out"
        )
    if cfg.ADAPRUNER.SOLVE_AT_END != experiment.solves_at_end(method):
        raise ValueError(
            f"{method}: {stage.config} sets ADAPRUNER.SOLVE_AT_END {cfg.ADAPRUNER.SOLVE_AT_END}, itself or by "
            "ADAPRUNER.PRESET: put that into --prune-opts, or into the variant, which says how many runs there are"
        )


def test_set(experiment: Experiment, model: str) -> str:
    """The one data set that the result of a model is measured on; ValueError if its config names none or several."""
    stage = experiment.last_stage(model)
    names = load_stage(stage).DATASETS.TEST
    if len(names) != 1:
        raise ValueError(f"{stage.config}: DATASETS.TEST has to name one data set to compare on, not {names}")
    return names[0]


@functools.cache
def images_beside(stage: Stage, pruned: tuple[str, ...]) -> int:
    """How many images a training on a selection sees of data sets that are not pruned."""
    cfg = load_stage(stage)
    return sum(len(task_of(cfg).load_dataset(cfg, name)) for name in cfg.DATASETS.TRAIN if name not in pruned)


def labels_of(experiment: Experiment) -> Statistics:
    """What is labelled in the images that methods choose among."""
    cfg = load_stage(experiment.selecting_stage())
    task = task_of(cfg)
    return task.labelled(task.split_competing(cfg, task.load_records(cfg))[0])


def check_injected(experiment: Experiment, injected: InjectedErrors) -> None:
    """Whether the defects are in the images that are pruned, whose annotations it reads.

    Raises:
        InjectedMismatchError: some are not, several data sets are pruned, or images for classification.
    """
    cfg = load_stage(experiment.selecting_stage())
    if task_name(cfg) != DETECTION:
        raise InjectedMismatchError("defects are of detection images, and these are for classification")
    names = tuple(cfg.DATASETS.TRAIN)
    if len(names) > 1:
        raise InjectedMismatchError(f"{', '.join(names)} are pruned: defects can be looked for in one data set alone")
    injected.check_among((str(record["image_id"]) for record in task_of(cfg).load_records(cfg)), names[0])


def load_stage(stage: Stage) -> CfgNode:
    """The config of a stage with its overrides, whose data sets it registers; ValueError as `load_config`."""
    try:
        return load_config(stage.config, opts=stage.overrides)
    except (AssertionError, KeyError) as error:  # for a key that does not exist
        raise ValueError(f"{stage.config}: {error.args[0]}") from error
