"""The methods there are. A new one is a file with a function `(statistics, keep_ratio, seed) -> scores`, and a line here."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from .adapruner import adapruner
from .bnsl import bnsl
from .cg_score import cg_score
from .dataset_pruning import dataset_pruning
from .el2n import el2n
from .forgetting import forgetting
from .glister import glister
from .grand import grand
from .herding import herding
from .mean_loss import mean_loss
from .near_duplicates import near_duplicates
from .random_draws import random, random_class_weighted, random_stratified
from .scores import Scores

CLASSIFICATION, DETECTION = "classification", "detection"
ADAPRUNER, RANDOM = "adapruner", "random"

# The parts of `Statistics` that a method may need beside the labels, and how far a proxy has to be trained for them:
# not at all, up to the early point, or to the end. A proxy is a network trained on all images, without pruning.
EARLY, TRAINED = "early", "trained"
TRAINING = {
    "finished_model": TRAINED,  # losses, features, found
    "last_layer": TRAINED,
    "dynamics": TRAINED,
    "early": EARLY,
    "gradient_norms": EARLY,
    "pixels": "",
}


class Method(NamedTuple):
    """One way to score images.

    Attributes:
        score: the function; called with the name of the variant too, if there are some.
        source: who proposed it and when.
        needs: keys of TRAINING, the parts of the statistics that it looks at beside the labels.
        not_for_detection: why it does not apply to detection, in one line; empty if it does.
        looks_at_ratio: whether its scores depend on the share that is to stay. Others serve every share.
        variants: values of SCORING.<METHOD>, the default first; the docstring of `score` explains them.
        classes_only: the one of them that does not apply to detection.
        sets_ratio: the one of them that says itself how many images stay: those with scores above 0.
    """

    score: Callable[..., "np.ndarray | Scores"]
    source: str = ""
    needs: tuple[str, ...] = ()
    not_for_detection: str = ""
    looks_at_ratio: bool = False
    variants: tuple[str, ...] = ()
    classes_only: str = ""
    sets_ratio: str = ""

    @property
    def summary(self) -> str:
        """A line for people: which images it keeps."""
        return (self.score.__doc__ or "").partition("\n")[0].rstrip(".").removeprefix("Keeps the images ")

    @property
    def tasks(self) -> list[str]:
        """The tasks it applies to."""
        return [CLASSIFICATION] if self.not_for_detection else [CLASSIFICATION, DETECTION]

    @property
    def trainings(self) -> list[str]:
        """What has to be trained of a proxy before: EARLY, TRAINED, both or nothing."""
        return sorted({TRAINING[part] for part in self.needs} - {""})


_NO_SOFTMAX = "an image with several boxes, or none, has no one vector of class probabilities"
_NO_CLASS = "it compares images of a class, and a detection image belongs to no single one"
_PAUL, _CONTROL, _MODEL = "Paul et al. 2021", "none: a control", ("finished_model",)

METHODS: dict[str, Method] = {
    ADAPRUNER: Method(adapruner, "Yang et al. 2023", _MODEL, looks_at_ratio=True),
    RANDOM: Method(random),
    "random_class_weighted": Method(random_class_weighted, _CONTROL),
    "random_stratified": Method(random_stratified, _CONTROL, looks_at_ratio=True),
    "near_duplicates": Method(near_duplicates, _CONTROL, _MODEL),
    "mean_loss": Method(mean_loss, _CONTROL, ("dynamics",), variants=("high", "low")),
    "forgetting": Method(forgetting, "Toneva et al. 2019", ("dynamics",)),
    "el2n": Method(el2n, _PAUL, ("early",), _NO_SOFTMAX),
    "grand": Method(grand, _PAUL, ("gradient_norms",)),
    "herding": Method(herding, "Welling 2009", _MODEL, variants=("nearest", "farthest")),
    "glister": Method(glister, "Killamsetty et al. 2021", ("last_layer",), _NO_SOFTMAX),
    "bnsl": Method(
        bnsl,
        "Sorscher et al. 2022",
        _MODEL,
        looks_at_ratio=True,
        variants=("auto", "easy", "hard", "supervised"),
        classes_only="supervised",
    ),
    "cg_score": Method(cg_score, "Ki et al. 2023", ("pixels",), _NO_CLASS),
    "dataset_pruning": Method(
        dataset_pruning,
        "Yang et al. 2023, influence",
        ("last_layer",),
        _NO_SOFTMAX,
        looks_at_ratio=True,
        variants=("cardinality", "generalization"),
        sets_ratio="generalization",
    ),
}

# What former versions called variants: the method, and the value of SCORING.<METHOD>.
RENAMED = {
    "herding_farthest": ("herding", "farthest"),
    "bnsl_easy": ("bnsl", "easy"),
    "bnsl_hard": ("bnsl", "hard"),
    "bnsl_supervised": ("bnsl", "supervised"),
    "dataset_pruning_guaranteed": ("dataset_pruning", "generalization"),
    "high_loss": ("mean_loss", "high"),
    "low_loss": ("mean_loss", "low"),
}


def current_name(name: str) -> str:
    """The name itself; ValueError with the way to get it now, if former versions called a variant so."""
    if name in RENAMED:
        method, variant = RENAMED[name]
        raise ValueError(f"{name} is now {method} with SCORING.{method.upper()} {variant}")
    return name


def refusal(name: str, task: str, variant: str = "") -> str:
    """Why a method of METHODS, or a variant of it, does not apply to a task, naming it; empty if it does."""
    method = METHODS[name]
    if task == DETECTION and method.not_for_detection:
        return f"{name} does not apply to {task}: {method.not_for_detection}"
    if task == DETECTION and variant and variant == method.classes_only:
        return f"{name} ({variant}) does not apply to {task}: {_NO_CLASS}"
    return ""
