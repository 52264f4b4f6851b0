"""A picture of a feature space in the plane: all points, and those that were kept.

Yang et al., "Not All Data Matters" (2023), Fig. 3. For looking at: the measures of
`adapruner_det.report.embedding` are of the features themselves, since t-SNE keeps no distances.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patheffects import withStroke
from sklearn.decomposition import PCA
from sklearn.manifold import TSNE

from .pictures import CLASS_COLOURS, save_png

MARKERS = "o^sDvX"
MAX_NAMED = 40  # classes: more than there are colours with markers, and names would hide the points


def tsne(features: np.ndarray, max_dims: int = 50, perplexity: float = 30.0, seed: int = 0) -> np.ndarray:
    """t-SNE (van der Maaten and Hinton, 2008) to the plane, by scikit-learn.

    Args:
        features: (N, D) finite numbers, at least four points.
        max_dims: more features than these are first reduced by PCA.
        perplexity: about how many neighbours each point looks at; lowered to (N - 1) / 3 on few points.
        seed: the same seed gives the same picture on the same machine.

    Returns:
        (N, 2) positions.

    Raises:
        ValueError: fewer than four points, or not finite.
    """
    features = np.asarray(features, np.float64)
    if len(features) < 4:
        raise ValueError(f"t-SNE needs four points at least, got {len(features)}")
    if min(features.shape) > max_dims:
        features = PCA(max_dims, random_state=seed).fit_transform(features)
    return TSNE(
        perplexity=min(perplexity, (len(features) - 1) / 3),
        init="pca" if features.shape[1] > 1 else "random",
        random_state=seed,
    ).fit_transform(features)


def draw_sample(num_points: int, max_points: int, seed: int = 0) -> np.ndarray:
    """Which points to draw where there are too many: sorted indices, uniformly at random."""
    if num_points <= max_points:
        return np.arange(num_points)
    return np.sort(np.random.default_rng(seed).choice(num_points, max_points, replace=False))


def save_embedding_picture(
    path: str,
    positions: np.ndarray,
    labels: Sequence[Any],
    kept: Sequence[bool],
    num_points: "int | None" = None,
) -> None:
    """Writes a PNG of two panels: all points on the left, on the right the kept ones where they were.

    A class has a colour and a marker of its own, and its name at the median of its points.

    Args:
        path: of the PNG; written atomically.
        positions: (N, 2), as `tsne` makes them.
        labels: (N,) class of each point.
        kept: (N,) whether it was kept.
        num_points: how many there are, if those drawn are a sample; the titles say so.

    Raises:
        ValueError: no points, lengths differ, or a position is not finite.
    """
    positions, labels = np.asarray(positions, np.float64), np.asarray(labels)
    kept = np.asarray(kept, bool)
    fits = positions.shape == (len(labels), 2) and kept.shape == labels.shape == positions.shape[:1]
    if not fits or len(labels) == 0:
        raise ValueError(
            f"{path}: needs a position, a label and a kept flag a point, "
            f"got shapes {positions.shape}, {labels.shape} and {kept.shape}"
        )
    if not np.isfinite(positions).all():
        raise ValueError(f"{path}: positions are not finite")

    classes = np.unique(labels)
    figure = Figure(figsize=(11, 6), facecolor="white", layout="constrained")
    full, own = figure.subplots(1, 2)
    everything = np.ones(len(labels), bool)
    for ax, drawn, name in ((full, everything, "full"), (own, kept, "kept")):
        _draw_points(ax, positions, labels, classes, drawn)
        ax.set_title(f"{name}: {drawn.sum():,} points", loc="left", fontsize=11)
    share = f"{kept.mean():.1%} kept"
    if num_points is not None and num_points > len(labels):
        share = f"a random {len(labels):,} of {num_points:,} points, {kept.mean():.1%} of these kept"
    figure.suptitle(f"t-SNE, {len(classes)} classes, {share}", x=0.01, ha="left", fontsize=12)
    if len(classes) <= MAX_NAMED:
        _add_legend(figure, classes)
    save_png(figure, path)


def _style(index: int) -> dict:
    colours = len(CLASS_COLOURS)
    marker = MARKERS[index // colours % len(MARKERS)]
    return {"color": CLASS_COLOURS[index % colours], "marker": marker}


def _draw_points(ax: Axes, positions: np.ndarray, labels: np.ndarray, classes: np.ndarray, drawn: np.ndarray) -> None:
    size = float(np.clip(20_000 / len(labels), 3, 30))  # square points
    for index, name in enumerate(classes):
        here = positions[drawn & (labels == name)]
        if len(here) == 0:
            continue
        ax.scatter(*here.T, s=size, linewidths=0, alpha=0.8, rasterized=True, **_style(index))
    if len(classes) <= MAX_NAMED:
        for name in classes:
            # From all points in both panels, so that a name stands at the same place
            middle = np.median(positions[labels == name], axis=0)
            ax.annotate(
                str(name), middle, ha="center", va="center", fontsize=9, fontweight="bold",
                parse_math=False, path_effects=[withStroke(linewidth=2.5, foreground="white")],
            )  # fmt: skip
    low, high = positions.min(axis=0), positions.max(axis=0)
    half = 0.53 * max(high - low)  # a square with a margin: distances count alike in both directions
    (left, right), (bottom, top) = zip((low + high) / 2 - half, (low + high) / 2 + half)
    ax.set(xlim=(left, right), ylim=(bottom, top), aspect="equal", xticks=[], yticks=[])


def _add_legend(figure: Figure, classes: np.ndarray) -> None:
    handles = [Line2D([], [], ls="", ms=6, label=str(name), **_style(index)) for index, name in enumerate(classes)]
    figure.legend(
        handles=handles,
        loc="outside lower center",
        ncols=min(len(handles), 10),
        frameon=False,
        fontsize=9,
    )
