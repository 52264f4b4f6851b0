#!/usr/bin/env python
"""Measures how far apart the classes lie in a feature space, on the full set and on what was kept.

Yang et al., "Not All Data Matters" (2023), Fig. 3 and Eq. 8: the Dunn index, the distances between classes and
their radii, and a t-SNE picture. The features are a .npz file with the arrays features (N, D), labels (N,) and
ids (N,), such as extract_features.py writes; the selection says by id which samples are kept:

    python projects/embedding/embedding.py --features output/mine/features.npz \\
        --selection output/mine/selection --output output/mine/embedding

Leaves embedding.json and embedding.png. No subset has a smaller single linkage than the whole: measure a random
selection of the same size as well (`tools/selection.py random`) before a difference is put down to a method.
"""

import argparse
import io
import json
from itertools import combinations
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from scipy.spatial.distance import pdist
from sklearn.decomposition import PCA
from sklearn.manifold import TSNE
from sklearn.metrics import pairwise_distances_argmin_min, pairwise_distances_chunked
from tabulate import tabulate

from adapruner_det.files import write_bytes, write_text
from adapruner_det.pruning import Selection

COLOURS = "#56B4E9 #E69F00 #009E73 #F0E442 #D55E00 #CC79A7 #0072B2".split()
MARKERS = "o^sDvX"


def measure(features: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """Separation and size of the K clusters that the classes of N points (N, D) are; distances are Euclidean.

    Returns:
        dunn_index: Eq. 8, the smallest single linkage over pairs of clusters by the largest diameter.
        centre_distance: between two clusters' centroids, mean over pairs.
        single_linkage: smallest distance between points of two clusters, mean over pairs.
        radius: mean distance of a cluster's points to their centroid, mean over clusters.
        max_diameter: the largest, over clusters, mean distance between two different points of a cluster.

    Raises:
        ValueError: features are not finite, fewer than two classes, a class of one point, or no class has a size.
    """
    features = features.astype(np.float64)
    if not np.isfinite(features).all():
        raise ValueError("there are features that are not finite")
    classes, counts = np.unique(labels, return_counts=True)
    if len(classes) < 2 or counts.min() < 2:
        raise ValueError(
            f"needs two classes of two points at least, got {dict(zip(classes.tolist(), counts.tolist()))}"
        )
    features -= features.mean(axis=0)  # differences are most exact near the origin
    clusters = [features[labels == name] for name in classes]
    diameters = [mean_distance(points) for points in clusters]
    if not max(diameters) > 0:
        raise ValueError("every class is one point repeated, so no cluster has a size: wrong features?")
    centres = [points.mean(axis=0) for points in clusters]
    linkages = [single_linkage(a, b) for a, b in combinations(clusters, 2)]
    radii = [np.linalg.norm(points - centre, axis=1).mean() for points, centre in zip(clusters, centres)]
    return {
        "dunn_index": float(min(linkages) / max(diameters)),
        "centre_distance": float(pdist(centres).mean()),
        "single_linkage": float(np.mean(linkages)),
        "radius": float(np.mean(radii)),
        "max_diameter": float(max(diameters)),
    }


def mean_distance(points: np.ndarray) -> float:
    """Between two different rows; no N x N matrix is held."""
    rows = pairwise_distances_chunked(points - points[0], reduce_func=lambda part, start: part.sum(axis=1))
    return float(sum(row.sum() for row in rows) / (len(points) * (len(points) - 1)))


def single_linkage(a: np.ndarray, b: np.ndarray) -> float:
    nearest, distances = pairwise_distances_argmin_min(a, b)
    row = distances.argmin()
    return float(np.linalg.norm(a[row] - b[nearest[row]]))  # by subtraction: small distances are then exact


def report(features: np.ndarray, labels: np.ndarray, kept: np.ndarray) -> dict[str, dict]:
    """The measures of all points and of the kept ones, and their relative change (0.044 is +4.4%; None of nothing)."""
    gone = sorted(set(labels.tolist()) - set(labels[kept].tolist()))
    if gone:
        raise ValueError(f"nothing is kept of the classes {gone}, so the means are over different clusters")
    full, own = measure(features, labels), measure(features[kept], labels[kept])
    change = {name: own[name] / full[name] - 1 if full[name] else None for name in full}
    return {
        "points": {"full": len(labels), "kept": int(kept.sum())},
        "full": full,
        "kept": own,
        "relative_change": change,
    }


def kept_by(selection: Selection, ids: np.ndarray, dataset: str | None) -> np.ndarray:
    """Whether each of N ids of one data set is kept, (N,) bool; ValueError if the selection is of other samples."""
    names = selection.dataset_names()
    if dataset is None and len(names) > 1 or dataset not in (None, *names):
        raise ValueError(f"--dataset: the selection covers {', '.join(names)}; name the one the features are of")
    dataset = dataset or names[0]
    differing = sorted(set(ids.tolist()) ^ selection.known_ids(dataset))
    if differing:
        raise ValueError(f"features and selection differ in {len(differing)} ids, such as {differing[:3]}")
    return np.isin(ids, list(selection.kept_ids(dataset)))


def tsne(features: np.ndarray, seed: int, perplexity: float) -> np.ndarray:
    """(N, 2) positions by t-SNE (van der Maaten and Hinton, 2008), of at most 50 principal components."""
    if min(features.shape) > 50:
        features = PCA(50, random_state=seed).fit_transform(features)
    return TSNE(perplexity=min(perplexity, (len(features) - 1) / 3), random_state=seed).fit_transform(features)


def draw(positions: np.ndarray, labels: np.ndarray, kept: np.ndarray) -> bytes:
    """A PNG of two panels: all points on the left, on the right the kept ones where they were."""
    figure = Figure(figsize=(11, 6), layout="constrained")
    low, high = positions.min(axis=0) - 2, positions.max(axis=0) + 2
    for ax, drawn, name in zip(figure.subplots(1, 2), (np.ones(len(labels), bool), kept), ("full", "kept")):
        for number, label in enumerate(np.unique(labels)):
            style = {"color": COLOURS[number % len(COLOURS)], "marker": MARKERS[number // len(COLOURS) % len(MARKERS)]}
            points = positions[drawn & (labels == label)]
            ax.scatter(*points.T, s=6, linewidths=0, label=None if name == "kept" else str(label), **style)
        ax.set_title(f"{name}: {drawn.sum():,} points", loc="left")
        ax.set(xlim=(low[0], high[0]), ylim=(low[1], high[1]), xticks=[], yticks=[])
    figure.legend(loc="outside lower center", ncols=10, frameon=False)
    content = io.BytesIO()
    figure.savefig(content, format="png", dpi=120)
    return content.getvalue()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--features", required=True, metavar="FILE.npz")
    parser.add_argument("--selection", required=True, metavar="DIR", help="the `selection` folder of a pruning run")
    parser.add_argument("--dataset", help="the selection's data set the features are of, if it covers several")
    parser.add_argument("--output", required=True, type=Path, metavar="DIR")
    parser.add_argument("--max-points", type=int, default=5000, help="points to draw; all are measured")
    parser.add_argument("--perplexity", type=float, default=30.0, help="of t-SNE")
    parser.add_argument("--seed", type=int, default=0, help="of the points drawn and of t-SNE")
    args = parser.parse_args()
    try:
        with np.load(args.features) as file:
            features, labels, ids = file["features"], file["labels"], file["ids"].astype(str)
        kept = kept_by(Selection.load(args.selection), ids, args.dataset)
        result = report(features, labels, kept)
    except (KeyError, OSError, ValueError) as error:
        raise SystemExit(f"embedding.py: error: {args.features}: {error}") from error
    order = np.random.default_rng(args.seed).permutation(len(labels))[: args.max_points]
    positions = tsne(features[order], args.seed, args.perplexity)
    write_bytes(args.output / "embedding.png", draw(positions, labels[order], kept[order]))
    sources = {"features": args.features, "selection": args.selection, "dataset": args.dataset}
    write_text(args.output / "embedding.json", json.dumps({"sources": sources, **result}, indent=1) + "\n")
    points = result["points"]
    rows = [["points", points["full"], points["kept"], points["kept"] / points["full"] - 1]]
    rows += [[n, result["full"][n], result["kept"][n], result["relative_change"][n]] for n in result["full"]]
    print(tabulate(rows, ["measure", "full", "kept", "change"], "github", floatfmt=("", ".4g", ".4g", "+.1%")))
    print(f"\n{args.output / 'embedding.json'}\n{args.output / 'embedding.png'}")


if __name__ == "__main__":
    main()
