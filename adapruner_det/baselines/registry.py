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

# How far a proxy has to be trained: up to the early point, or to the end. A proxy is a network trained on all images,
# without pruning; no test image is ever looked at.
EARLY, TRAINED = "early", "trained"
# The parts of `Statistics` that a method may need beside the labels, and the training that each takes, if any.
FINISHED_MODEL, LAST_LAYER, DYNAMICS, EARLY_LAYERS, GRADIENT_NORMS, PIXELS = (
    "finished model",  # losses, features, found
    "last layer",
    "dynamics",
    "early layers",
    "gradient norms",
    "pixels",
)
TRAINING = {
    FINISHED_MODEL: TRAINED,
    LAST_LAYER: TRAINED,
    DYNAMICS: TRAINED,
    EARLY_LAYERS: EARLY,
    GRADIENT_NORMS: EARLY,
    PIXELS: "",
}


class Method(NamedTuple):
    """One way to score images.

    Attributes:
        score: the function; called with the name of the variant too, if there are some.
        summary: a line for people; which images stay.
        source: who proposed it and when.
        needs: keys of TRAINING, the parts of the statistics that it looks at beside the labels.
        not_for_detection: why it does not apply to detection, in one line; empty if it does.
        looks_at_ratio: whether its scores depend on the share that is to stay. Others serve every share.
        variants: values of SCORING.<METHOD>, the default first; the docstring of `score` explains them.
        classes_only: the one of them that does not apply to detection.
        sets_ratio: the one of them that says itself how many images stay: those with scores above 0.
    """

    score: Callable[..., "np.ndarray | Scores"]
    summary: str
    source: str
    needs: tuple[str, ...] = ()
    not_for_detection: str = ""
    looks_at_ratio: bool = False
    variants: tuple[str, ...] = ()
    classes_only: str = ""
    sets_ratio: str = ""

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
_PAUL, _CONTROL = "Paul et al. 2021", "none: a control"

METHODS: dict[str, Method] = {
    ADAPRUNER: Method(
        adapruner, "by what speaks against each image", "Yang et al. 2023", (FINISHED_MODEL,), looks_at_ratio=True
    ),
    RANDOM: Method(random, "drawn uniformly", ""),
    "random_class_weighted": Method(
        random_class_weighted, "drawn with weights by the rarity of their rarest class", _CONTROL
    ),
    "random_stratified": Method(
        random_stratified, "drawn with quotas by class and size of the objects", _CONTROL, looks_at_ratio=True
    ),
    "forgetting": Method(forgetting, "most often forgotten again while training", "Toneva et al. 2019", (DYNAMICS,)),
    "el2n": Method(el2n, "largest error of the probabilities, early", _PAUL, (EARLY_LAYERS,), _NO_SOFTMAX),
    "grand": Method(grand, "largest gradient of the loss, early", _PAUL, (GRADIENT_NORMS,)),
    "herding": Method(
        herding,
        "together nearest to the mean (of their class)",
        "Welling 2009; farthest: Guo et al. 2022",
        (FINISHED_MODEL,),
        variants=("nearest", "farthest"),
    ),
    "glister": Method(
        glister, "whose gradients raise the likelihood most", "Killamsetty et al. 2021", (LAST_LAYER,), _NO_SOFTMAX
    ),
    "bnsl": Method(
        bnsl,
        "nearest to a prototype, or farthest, by the number of images",
        "Sorscher et al. 2022",
        (FINISHED_MODEL,),
        looks_at_ratio=True,
        variants=("auto", "easy", "hard", "supervised"),
        classes_only="supervised",
    ),
    "cg_score": Method(cg_score, "largest complexity gap of the labels", "Ki et al. 2023", (PIXELS,), _NO_CLASS),
    "dataset_pruning": Method(
        dataset_pruning,
        "all but those that together move the parameters least",
        "Yang et al. 2023, influence",
        (LAST_LAYER,),
        _NO_SOFTMAX,
        looks_at_ratio=True,
        variants=("cardinality", "generalization"),
        sets_ratio="generalization",
    ),
    "mean_loss": Method(
        mean_loss, "highest mean loss while training, or lowest", _CONTROL, (DYNAMICS,), variants=("high", "low")
    ),
    "near_duplicates": Method(near_duplicates, "least like another image that stays", "", (FINISHED_MODEL,)),
}

# Names that are now variants: the method, and the value of SCORING.<METHOD>.
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
    """The name itself.

    Raises:
        ValueError: it is what former versions called a variant; says how to get it now.
    """
    if name in RENAMED:
        method, variant = RENAMED[name]
        raise ValueError(f"{name} is now {method} with SCORING.{method.upper()} {variant}")
    return name


def refusal(name: str, task: str, variant: str = "") -> str:
    """Why a method of METHODS, or a variant of it, does not apply to a task, naming it; empty if it does."""
    method = METHODS[name]
    if task != DETECTION:
        return ""
    if method.not_for_detection:
        return f"{name} does not apply to {task}: {method.not_for_detection}"
    if variant and variant == method.classes_only:
        return f"{name} ({variant}) does not apply to {task}: {_NO_CLASS}"
    return ""
