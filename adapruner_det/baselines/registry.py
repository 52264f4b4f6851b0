"""The methods there are: what each is, what it applies to and what of the proxy it needs."""

from collections.abc import Callable
from importlib import import_module
from typing import NamedTuple

import numpy as np

from .evidence import CLASSIFICATION, DETECTION, Evidence
from .random_selection import random_scores

# What a method needs of the proxy: no training, one up to the early point, one to the end.
NOTHING, EARLY, TRAINED = "nothing", "early", "trained"

ScoringFunction = Callable[[Evidence, float, int], np.ndarray]


class Method(NamedTuple):
    """One way to score images.

    Attributes:
        summary: a line for people; which images stay.
        source: who proposed it and when.
        module: of this package; it holds the function, which is called as the method is.
        needs: NOTHING, EARLY or TRAINED.
        not_for_detection: why it does not apply to detection, in one line; empty if it does.
        looks_at_ratio: whether its scores depend on the share that is to stay. Others serve every share.
        sets_ratio: it says itself how many images stay: those with scores above 0.
    """

    summary: str
    source: str
    module: str
    needs: str
    not_for_detection: str = ""
    looks_at_ratio: bool = False
    sets_ratio: bool = False

    @property
    def tasks(self) -> list[str]:
        """The tasks it applies to."""
        return [CLASSIFICATION] if self.not_for_detection else [CLASSIFICATION, DETECTION]


_NO_SOFTMAX = "an image with several boxes, or none, has no one vector of class probabilities"
_NO_CLASS = "it compares images of a class, and a detection image belongs to no single one"
_CONTROL = "none: a control"
_SORSCHER, _PAUL, _YANG = "Sorscher et al. 2022", "Paul et al. 2021", "Yang et al. 2023, influence"

METHODS: dict[str, Method] = {
    "random": Method("drawn uniformly", "", "registry", NOTHING),
    "random_class_weighted": Method(
        "drawn with weights by the rarity of their rarest class", _CONTROL, "random_class_weighted", NOTHING
    ),
    "random_stratified": Method(
        "drawn with quotas by class and size of the objects",
        _CONTROL,
        "random_stratified",
        NOTHING,
        looks_at_ratio=True,
    ),
    "forgetting": Method("most often forgotten again while training", "Toneva et al. 2019", "forgetting", TRAINED),
    "el2n": Method("largest error of the probabilities, early", _PAUL, "el2n", EARLY, _NO_SOFTMAX),
    "grand": Method("largest gradient of the loss, early", _PAUL, "grand", EARLY),
    "herding": Method("together nearest to the mean (of their class)", "Welling 2009", "herding", TRAINED),
    "herding_farthest": Method("farthest from the mean (of their class)", "Guo et al. 2022", "herding", TRAINED),
    "glister": Method(
        "whose gradients raise the likelihood most",
        "Killamsetty et al. 2021",
        "glister",
        TRAINED,
        _NO_SOFTMAX,
    ),
    "bnsl": Method(
        "hard or easy of the two below, by the number of images",
        _SORSCHER,
        "bnsl",
        TRAINED,
        looks_at_ratio=True,
    ),
    "bnsl_easy": Method("nearest to a k-means centre", _SORSCHER, "bnsl", TRAINED, looks_at_ratio=True),
    "bnsl_hard": Method("farthest from a k-means centre", _SORSCHER, "bnsl", TRAINED, looks_at_ratio=True),
    "bnsl_supervised": Method(
        "by the distance to the mean of their class",
        _SORSCHER,
        "bnsl",
        TRAINED,
        _NO_CLASS,
        looks_at_ratio=True,
    ),
    "cg_score": Method("largest complexity gap of the labels", "Ki et al. 2023", "cg_score", NOTHING, _NO_CLASS),
    "dataset_pruning": Method(
        "all but those that together move the parameters least",
        _YANG,
        "dataset_pruning",
        TRAINED,
        _NO_SOFTMAX,
        looks_at_ratio=True,
    ),
    "dataset_pruning_guaranteed": Method(
        "the fewest such that the parameters move no farther than without a random share",
        _YANG,
        "dataset_pruning",
        TRAINED,
        _NO_SOFTMAX,
        looks_at_ratio=True,
        sets_ratio=True,
    ),
    "high_loss": Method("highest mean loss while training", "", "mean_loss", TRAINED),
    "low_loss": Method("lowest mean loss while training", "", "mean_loss", TRAINED),
    "near_duplicates": Method("least like another image that stays", "", "near_duplicates", TRAINED),
}


def random(evidence: Evidence, keep_ratio: float, seed: int) -> np.ndarray:
    """A uniform score for each image: the baseline every other has to beat."""
    return random_scores(len(evidence.labels), seed)


def scoring_function(name: str) -> ScoringFunction:
    """The function of a method of METHODS; its module is read only now."""
    return getattr(import_module(f".{METHODS[name].module}", __package__), name)


def refusal(name: str, task: str) -> str:
    """Why a method of METHODS does not apply to a task, naming the method; empty if it does."""
    if task in METHODS[name].tasks:
        return ""
    return f"{name} does not apply to {task}: {METHODS[name].not_for_detection}"
