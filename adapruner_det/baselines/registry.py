"""The methods there are. A new one is a file with a function `(statistics, keep_ratio, seed) -> scores`, and a line here."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from .adadedup import adadedup
from .adapruner import adapruner
from .afss import afss
from .bnsl import bnsl
from .ccs import ccs
from .cg_score import cg_score
from .csod import csod
from .d2_pruning import d2_pruning
from .dataset_pruning import dataset_pruning
from .detgain import detgain
from .drop import drop
from .dyn_unc import dyn_unc
from .el2n import el2n
from .forgetting import forgetting
from .geometric_median import geometric_median
from .glister import glister
from .grand import grand
from .herding import herding
from .mean_loss import mean_loss
from .moderate import moderate
from .moso import moso
from .near_duplicates import near_duplicates
from .ofds import ofds
from .random_draws import random, random_class_weighted, random_stratified
from .scores import Scores
from .semdedup import semdedup
from .tfdp import tfdp
from .vps import vps
from .zcore import zcore

CLASSIFICATION, DETECTION = "classification", "detection"
ADAPRUNER, RANDOM = "adapruner", "random"

# The parts of `Statistics` that a method may need beside the labels, and how far a proxy has to be trained for them:
# not at all, up to the early point, or to the end. A proxy is a network trained on all images, without pruning.
EARLY, TRAINED = "early", "trained"
TRAINING = {
    "features": TRAINED,
    "finished_model": TRAINED,  # losses, features, found
    "objects": TRAINED,
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
        not_for_detection, not_for_classification: why it does not apply to a task, in one line; empty if it does.
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
    not_for_classification: str = ""

    @property
    def summary(self) -> str:
        """A line for people: which images it keeps."""
        return (self.score.__doc__ or "").partition("\n")[0].rstrip(".").removeprefix("Keeps the images ")

    @property
    def tasks(self) -> list[str]:
        """The tasks it applies to."""
        why_not = {CLASSIFICATION: self.not_for_classification, DETECTION: self.not_for_detection}
        return [task for task, reason in why_not.items() if not reason]

    @property
    def group(self) -> str:
        """What it needs, of GROUPS."""
        return GROUPS[max((_GROUP_OF.get(part, 2) for part in self.needs), default=0)]

    @property
    def trainings(self) -> list[str]:
        """What has to be trained of a proxy before: EARLY, TRAINED, both or nothing."""
        return sorted({TRAINING[part] for part in self.needs} - {""})


# What methods need, from the cheapest on. Features can be those of any network; here they are the proxy's.
GROUPS = ("labels only", "features or pixels", "a trained model", "a recorded training")
_GROUP_OF = {"features": 1, "pixels": 1, "dynamics": 3}  # others: 2

_NO_SOFTMAX = "an image with several boxes, or none, has no one vector of class probabilities"
_NO_CLASS = "it compares images of a class, and a detection image belongs to no single one"
_NO_PROBABILITY = "an image with several boxes has no one probability; vps asks the same of its boxes"
_NO_AP = "AP ranks detections, which it has none of"
_NO_LABEL_SHAPE = "all its images are one box of one shape"
_PAUL, _CONTROL, _MODEL, _FEATURES = "Paul et al. 2021", "none: a control", ("finished_model",), ("features",)

METHODS: dict[str, Method] = {
    ADAPRUNER: Method(adapruner, "Yang et al. 2023", _MODEL, looks_at_ratio=True),
    RANDOM: Method(random),
    "random_class_weighted": Method(random_class_weighted, _CONTROL),
    "random_stratified": Method(random_stratified, _CONTROL, looks_at_ratio=True),
    "near_duplicates": Method(near_duplicates, _CONTROL, _FEATURES),
    "mean_loss": Method(mean_loss, _CONTROL, ("dynamics",), variants=("high", "low")),
    "forgetting": Method(forgetting, "Toneva et al. 2019", ("dynamics",)),
    "el2n": Method(el2n, _PAUL, ("early",), _NO_SOFTMAX),
    "grand": Method(grand, _PAUL, ("gradient_norms",)),
    "herding": Method(herding, "Welling 2009", _FEATURES, variants=("nearest", "farthest")),
    "glister": Method(glister, "Killamsetty et al. 2021", ("last_layer",), _NO_SOFTMAX),
    "bnsl": Method(
        bnsl,
        "Sorscher et al. 2022",
        _FEATURES,
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
    "moderate": Method(moderate, "Xia et al. 2023", _FEATURES),
    "geometric_median": Method(geometric_median, "Acharya et al. 2024", _FEATURES),
    "semdedup": Method(semdedup, "Abbas et al. 2023", _FEATURES),
    "zcore": Method(zcore, "Griffin et al. 2024", _FEATURES),
    "ccs": Method(ccs, "Zheng et al. 2023", ("dynamics",), looks_at_ratio=True),
    "d2_pruning": Method(d2_pruning, "Maharana et al. 2024", ("features", "dynamics")),
    "dyn_unc": Method(dyn_unc, "He et al. 2023", ("dynamics",), _NO_PROBABILITY),
    "moso": Method(moso, "Tan et al. 2023", ("early",), _NO_SOFTMAX),
    "drop": Method(drop, "Vysogorets et al. 2025", ("dynamics",), looks_at_ratio=True),
    "tfdp": Method(tfdp, "Dai et al. 2025", not_for_classification=_NO_LABEL_SHAPE),
    "afss": Method(afss, "Xie et al. 2026", _MODEL),
    "vps": Method(vps, "Yagi 2025", ("dynamics",)),
    "detgain": Method(detgain, "Sun et al. 2025", _MODEL, not_for_classification=_NO_AP),
    "adadedup": Method(adadedup, "Kang et al. 2025", _MODEL, looks_at_ratio=True),
    "csod": Method(csod, "Lee et al. 2024", ("objects",)),
    "ofds": Method(ofds, "Popp et al. 2024", ("objects",), looks_at_ratio=True),
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
    reason = method.not_for_detection if task == DETECTION else method.not_for_classification
    if reason:
        return f"{name} does not apply to {task}: {reason}"
    if task == DETECTION and variant and variant == method.classes_only:
        return f"{name} ({variant}) does not apply to {task}: {_NO_CLASS}"
    return ""
