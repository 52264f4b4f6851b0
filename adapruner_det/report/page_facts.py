"""What the page of a selection says in numbers: the selecting model, costs, what is left of each group, the run."""

import json
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from ..pruning.matching import confirmed_ones
from ..pruning.statistics import Statistics

# A model is too young to judge images where it agrees with the labels of those it was trained on by less than the first,
# or than the second after fewer than FEW_EPOCHS; or where it reaches less than the third on images it has not seen.
LEAST_AGREEMENT, LEAST_YOUNG, FEW_EPOCHS = 0.5, 0.7, 5
LEAST_HELD_OUT = 0.3
METRICS = ("AP50", "AP", "accuracy")
SIZES = (("small (below 32²)", 0, 32**2), ("medium", 32**2, 96**2), ("large (from 96²)", 96**2, np.inf))  # COCO's
COUNTS = (("none", 0, 0), ("1", 1, 1), ("2 to 4", 2, 4), ("5 to 9", 5, 9), ("10 and more", 10, np.inf))
CURVES = {  # by their keys in metrics.json
    "kept_ratio": "kept ratio",
    "alpha": "alpha",
    "classification_loss": "loss of the model, weighted",
    "compression_loss": "compression loss",
    "selection_loss": "selection loss",
}
MAX_SOURCES = 60  # rows of a table
_POINTS = 200  # of a curve
_TSNE_DIMS = 50  # of more, the main components


class HeldOut(NamedTuple):
    """How the selecting model does on a list of images that it was not trained on: AP50, or accuracy, from 0 to 1."""

    name: str
    images: int
    value: float


class Fitness(NamedTuple):
    """How well the selecting model knows images.

    Attributes:
        agreement: with the labels of its training images: the lower one of precision and recall; accuracy for
            classification.
        precision, recall: of detections from `score` on, where their harmonic mean is highest, at IoU 0.5; None for
            classification.
        held_out: on lists that it was evaluated on; none where there was no such list.
        young: why it is too young to judge images; empty if it is not.
    """

    agreement: float
    precision: float | None
    recall: float | None
    score: float
    held_out: Sequence[HeldOut]
    young: str


def fitness(statistics: Statistics, epochs: float, held_out: Sequence[HeldOut] = ()) -> Fitness:
    """
    Args:
        epochs: how often the model has seen each image; 0 if that is not known.
    """
    labels, found = statistics.labels, statistics.found
    if statistics.classifies:
        agreement, precision, recall, score = float((found.classes == labels.classes).mean()), None, None, 0.0
    else:
        assert labels.crowds is not None  # Statistics sees to it
        confirmed = confirmed_ones(labels, found)
        precision, recall, score = _best(confirmed, found.scores, max(1, int((~labels.crowds.astype(bool)).sum())))
        agreement = min(precision, recall)
    least = LEAST_YOUNG if 0 < epochs < FEW_EPOCHS else LEAST_AGREEMENT
    young = "It does not know well even the images it was trained on" if agreement < least else ""
    if not young and any(own.value < LEAST_HELD_OUT for own in held_out):
        young = "It finds little in images that it has not seen"
    return Fitness(agreement, precision, recall, score, held_out, young)


def held_out(run: Path, names: Sequence[str]) -> list[HeldOut]:
    """What a run's evaluations on these data sets have left in its folder."""
    found = []
    for name in names:
        path = run / "inference" / name / "evaluation.json"
        if path.is_file():
            result = json.loads(path.read_text("utf-8"))
            value = result.get("bbox", {}).get("AP50", result.get("classification", {}).get("accuracy"))
            found += [HeldOut(name, result["images"], value / 100)] if value is not None else []
    return found


def _best(confirmed: np.ndarray, scores: np.ndarray, num_labels: int) -> tuple[float, float, float]:
    """(precision, recall, score) where the harmonic mean of the first two is highest."""
    if not len(confirmed):
        return 0.0, 0.0, 0.0
    order = np.argsort(-scores, kind="stable")
    right, number = np.cumsum(confirmed[order]), np.arange(1, len(order) + 1)
    best = int((right / (number + num_labels)).argmax())
    return right[best] / number[best], right[best] / num_labels, float(scores[order[best]])


def costs(path: "str | Path") -> tuple[list[str], list[dict[str, Any]]]:
    """(metrics, rows with model, method, keep_ratio, budget, seeds and a text for each metric) of a results.csv.

    Raises:
        FileNotFoundError: no such file.
        ValueError: it is no results.csv.
    """
    keys = ["model", "method", "keep_ratio", "budget"]
    if not Path(path).is_file():
        raise FileNotFoundError(f"there is no {path}: `adapruner compare --output DIR` leaves DIR/results.csv")
    try:
        frame = pd.read_csv(path)
        metrics = [name for name in METRICS if name in frame]
        if not metrics:
            raise ValueError(f"it has none of {', '.join(METRICS)}")
        rows = []
        for key, group in frame.groupby(keys, sort=False):
            spread = [f" ± {group[name].std():.1f}" if len(group) > 1 else "" for name in metrics]
            texts = [f"{group[name].mean():.1f}{after}" for name, after in zip(metrics, spread)]
            rows.append({**dict(zip(keys, key)), "seeds": len(group), "texts": texts})
    except (ValueError, KeyError) as error:  # pandas' own errors are ValueErrors
        raise ValueError(f"{path} is no results.csv of `adapruner compare`: {error}") from error
    return metrics, rows


def balance(
    kept: np.ndarray,
    class_names: Sequence[str],
    classes: Sequence[Sequence[int] | np.ndarray],
    boxes: "Sequence[np.ndarray] | None",
    sources: Sequence[str],
) -> list[dict[str, Any]]:
    """What is left of each class, box size, number of boxes and source; of sources nothing where they are the classes.

    Args:
        kept: (N,) bool.
        classes: of the objects of each image.
        boxes: (M, 4) XYXY corners in each image; None for classification.
        sources: of each image.

    Returns:
        {"title", "unit", "share" of all images, or of all boxes, that is left, "rows": [{"name", "before", "after", "warning"}]} for each table.
    """
    having = np.array([np.isin(np.arange(len(class_names)), own) for own in classes]).T
    share = float(kept.mean()) if len(kept) else 1.0
    tables = [_table("Classes", "images", share, [(name, kept[own]) for name, own in zip(class_names, having)])]
    if boxes is not None:
        counts, corners = np.array([len(own) for own in boxes]), np.concatenate(boxes)
        stays, areas = np.repeat(kept, counts), (corners[:, 2:] - corners[:, :2]).prod(axis=1)
        sizes = [(name, stays[(low <= areas) & (areas < high)]) for name, low, high in SIZES]
        numbers = [(name, kept[(low <= counts) & (counts <= high)]) for name, low, high in COUNTS]
        of_boxes = float(stays.mean()) if len(stays) else 1.0
        tables.append(_table("Box sizes", "boxes", of_boxes, sizes))
        tables.append(_table("Boxes in an image", "images", share, numbers))
    names, which = np.unique(sources, return_inverse=True)
    if 1 < len(names) <= MAX_SOURCES and not _are_the_classes(sources, classes):
        tables.append(_table("Sources", "images", share, [(name, kept[which == i]) for i, name in enumerate(names)]))
    return tables


def _are_the_classes(sources: Sequence[str], classes: Sequence[Sequence[int] | np.ndarray]) -> bool:
    """Whether each image has one class, and each class one source that is of no other."""
    if any(len(own) != 1 for own in classes):
        return False
    of_each = [own[0] for own in classes]
    return len(set(zip(sources, of_each))) == len(set(sources)) == len(set(of_each))


def _table(title: str, unit: str, share: float, groups: "list[tuple[str, np.ndarray]]") -> dict[str, Any]:
    """Of groups by name: whether each of their members stays; and the share of all units that does."""
    rows = [
        {"name": name, "before": len(stays), "after": int(stays.sum()), "warning": _warning(stays, share, unit)}
        for name, stays in groups
        if len(stays)
    ]
    return {"title": title, "unit": unit, "share": share, "rows": rows}


def _warning(stays: np.ndarray, share: float, unit: str) -> str:
    """Whether a group loses half as much again as others, and more than chance would do (three deviations)."""
    lost, expected = len(stays) - stays.sum(), len(stays) * (1 - share)
    if not stays.any():
        return "none left"
    far = lost - expected > 3 * np.sqrt(expected * share) and lost > 1.5 * expected
    return f"loses {lost / len(stays):.0%}, all {unit} lose {1 - share:.0%}" if far else ""


def in_the_plane(features: np.ndarray) -> np.ndarray:
    """(N, 2) positions from 0 to 1 of (N, F) features, N at least 4: t-SNE (van der Maaten and Hinton, 2008)."""
    from sklearn.decomposition import PCA  # here: they take a second
    from sklearn.manifold import TSNE

    if min(features.shape) > _TSNE_DIMS:
        features = PCA(_TSNE_DIMS, random_state=0).fit_transform(features)
    start = "pca" if features.shape[1] > 1 else "random"
    plane = TSNE(perplexity=min(30, (len(features) - 1) / 3), init=start, random_state=0).fit_transform(features)
    plane = (plane - plane.min(axis=0)) / np.maximum(np.ptp(plane, axis=0), 1e-9)
    return np.round(plane.astype(float), 4)


def sources(ids: Sequence[str], files: Sequence[str]) -> list[str]:
    """The folder of each image below what all have in common; where all lie in one, its id without the last number."""
    folders = [os.path.dirname(file) for file in files]
    if len(set(folders)) > 1 and all(folders):
        root = os.path.commonpath(folders)
        return [os.path.relpath(folder, root) for folder in folders]
    return [re.sub(r"[\W_]*\d+$", "", os.path.splitext(os.path.basename(name))[0]) for name in ids]


def curves(path: Path) -> list[dict[str, Any]]:
    """Kept ratio, alpha and terms over a run, from its metrics.json; none if that is not there.

    Returns:
        {"name", "points": SVG's in a box of 100 by 40, "low", "high", "last", "iterations"} for each.
    """
    lines = [json.loads(line) for line in path.read_text("utf-8").splitlines() if line] if path.is_file() else []
    found = []
    for name, title in CURVES.items():
        own = [(line["iteration"], line[name]) for line in lines if name in line]
        if len(own) < 2:
            continue
        x, y = np.array(own[:: len(own) // _POINTS + 1], float).T
        low, high = y.min(), y.max()
        up = 40 - 40 * (y - low) / (high - low) if high > low else np.full(len(y), 20.0)
        points = " ".join(f"{a:.1f},{b:.1f}" for a, b in zip(100 * x / x.max(), up))
        facts = {"low": low, "high": high, "last": y[-1], "iterations": int(x.max()) + 1}
        found.append({"name": title, "points": points, **facts})
    return found
