"""What a comparison asks of the registry of methods."""

from collections.abc import Iterable

from ..baselines import registry
from ..baselines.registry import ADAPRUNER, RANDOM

DRAWN = (RANDOM, "random_class_weighted", "random_stratified")  # by chance alone, which costs nothing
CONTROLS = (*DRAWN, "near_duplicates")  # the cheap rivals that a claim has to hold against
METHODS = (RANDOM, ADAPRUNER, *(name for name in registry.METHODS if name not in (RANDOM, ADAPRUNER)))


def needs_proxy(method: str) -> bool:
    """Whether it looks at a proxy, which has to be trained before; AdaPruner trains its own network."""
    return method != ADAPRUNER and bool(registry.METHODS[method].trainings)


def looks_at_ratio(method: str) -> bool:
    """Whether its scores depend on the share that is to stay; others score once for all."""
    return registry.METHODS[method].looks_at_ratio


def refusals(methods: Iterable[str], task: str) -> list[str]:
    """Why some of them do not apply to a task."""
    reasons = [registry.refusal(method, task) for method in methods]
    return [reason for reason in reasons if reason]


def refusal_of_form(method: str, form: str, task: str) -> str:
    """Why a form of a method, which SCORING.<METHOD> names, cannot be compared; empty if it can."""
    if form and form == registry.METHODS[method].sets_ratio:
        return f"{method} ({form}) sets the ratio itself; score.py {method} makes its selection"
    return registry.refusal(method, task, form)
