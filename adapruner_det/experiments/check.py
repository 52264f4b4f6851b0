"""Whether the configs of an experiment go together."""

from collections.abc import Collection

from detectron2.config import CfgNode

from ..engine import load_config
from ..engine.proxy import proxy_settings, task_name
from ..engine.select import variant_of
from ..engine.tasks import task_of
from ..engine.trainer import check_pruning
from ..pruning.statistics import Statistics
from .experiment import Experiment, Stage
from .methods import ADAPRUNER, needs_proxy, refusal_of_form, refusals


def check(experiment: Experiment) -> None:
    """Reads every config once, and no images.

    Raises:
        ValueError: configs, variants or methods do not go together, or one of them cannot work (says why); and
            what loading the configs raises.
    """
    selecting = load_stage(experiment.selecting_stage())
    for model in experiment.models():
        _check_training(experiment.training_stage(model), selecting.DATASETS.TRAIN)
        test_set(experiment, model)
    bases = {method: experiment.base_method(method) for method in experiment.selecting_methods()}
    for method, base in bases.items():
        if base == ADAPRUNER:
            _check_pruning(experiment.selecting_stage(method), method)
    reasons = refusals(dict.fromkeys(bases.values()), task_name(selecting))
    if reasons:
        raise ValueError(f"methods: {'; '.join(reasons)}")
    for variant in experiment.variants:
        cfg = load_stage(experiment.selecting_stage(variant))
        if reason := refusal_of_form(bases[variant], variant_of(bases[variant], cfg), task_name(selecting)):
            raise ValueError(f"variants: {variant}: {reason}")
        own, shared = proxy_settings(cfg), proxy_settings(selecting)
        differing = [key for key in own if own[key] != shared.get(key)]
        if needs_proxy(bases[variant]) and differing:
            raise ValueError(
                f"variants: {variant}: {', '.join(differing)} cannot differ, as the proxy that all methods look at "
                "depends on it; make a comparison of its own, with this in --prune-opts"
            )


def _check_training(stage: Stage, pruned: Collection[str]) -> None:
    cfg = load_stage(stage)
    if cfg.ADAPRUNER.ENABLED:
        raise ValueError(
            f"{stage.config}: ADAPRUNER.ENABLED is True, so that this training would prune; set it in --prune-opts"
        )
    if not set(pruned) & set(cfg.DATASETS.TRAIN):
        raise ValueError(
            f"{stage.config}: DATASETS.TRAIN {tuple(cfg.DATASETS.TRAIN)} has none of the data sets that are "
            f"pruned, {tuple(pruned)}"
        )


def _check_pruning(stage: Stage, method: str) -> None:
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


def test_set(experiment: Experiment, model: str) -> str:
    """The one data set that the result of a model is measured on.

    Raises:
        ValueError: the config of its last stage names none or several.
    """
    stage = experiment.last_stage(model)
    names = load_stage(stage).DATASETS.TEST
    if len(names) != 1:
        raise ValueError(f"{stage.config}: DATASETS.TEST has to name one data set to compare on, not {names}")
    return names[0]


def labels_of(experiment: Experiment) -> Statistics:
    """What is labelled in the images that methods choose among."""
    cfg = load_stage(experiment.selecting_stage())
    task = task_of(cfg)
    return task.labelled(task.split_competing(cfg, task.load_records(cfg))[0])


def load_stage(stage: Stage) -> CfgNode:
    """The config of a stage with its overrides; registers its data sets.

    Raises:
        ValueError: an override names no key or has a value of another kind; and as `load_config`.
    """
    try:
        return load_config(stage.config, opts=stage.overrides)
    except AssertionError as error:  # what yacs raises for a key that does not exist
        raise ValueError(f"{stage.config}: {error}") from error
