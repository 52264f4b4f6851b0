"""What a comparison asks of the registry of methods."""

from collections.abc import Iterable

from ..baselines import registry

RANDOM, ADAPRUNER = "random", "adapruner"
DRAWN = (RANDOM, "random_class_weighted", "random_stratified")  # by chance alone, which costs nothing
CONTROLS = (*DRAWN, "near_duplicates")  # the cheap rivals that a claim has to hold against
_OTHERS = {name: method for name, method in registry.METHODS.items() if name not in (RANDOM, ADAPRUNER)}
METHODS = (RANDOM, ADAPRUNER, *(name for name, method in _OTHERS.items() if not method.sets_ratio))


def needs_proxy(method: str) -> bool:
    """Whether it looks at a proxy, which has to be trained before."""
    return method in _OTHERS and _OTHERS[method].needs != registry.NOTHING


def looks_at_ratio(method: str) -> bool:
    """Whether its scores depend on the share that is to stay; others score once for all."""
    return method not in _OTHERS or _OTHERS[method].looks_at_ratio


def refusals(methods: Iterable[str], task: str) -> list[str]:
    """Why some of them do not apply to a task."""
    reasons = [registry.refusal(method, task) for method in methods if method in _OTHERS]
    return [reason for reason in reasons if reason]
