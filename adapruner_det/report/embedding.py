"""How well the classes lie apart in a feature space, on the full set and on what was kept.

Yang et al., "Not All Data Matters" (2023), Fig. 3 and Eq. 8. N points of D features in K classes;
a cluster is the points of one class. Everything is exact, without sampling, and no N x N matrix is
ever held. Distances are Euclidean, in the unit of the features.

Taking points away never brings two clusters nearer to each other: single linkage rises, if anything, on
a random subset as well. What a method achieves is its difference from a random selection of the same size.
"""

import os
import zipfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from scipy.spatial.distance import pdist
from sklearn.metrics import pairwise_distances_argmin_min, pairwise_distances_chunked
from tqdm import tqdm

from ..pruning import Selection

WORKING_MEMORY = 256  # MiB for one chunk of distances


@dataclass(frozen=True)
class ClusterMeasures:
    """Separation and size of K clusters of N points.

    Attributes:
        num_points: N.
        classes: the K labels, sorted.
        dunn_index: Eq. 8: the smallest single-linkage distance over all pairs of clusters, divided by
            the largest diameter over all clusters. Higher is better separated. It has no unit.
        centre_distance: distance between two clusters' centroids, mean over pairs of clusters.
        single_linkage: smallest distance between a point of one cluster and a point of another, mean
            over pairs of clusters.
        radius: mean distance of a cluster's points to their centroid, mean over clusters.
        max_diameter: the largest, over clusters, of the mean distance between two different points of a
            cluster; not the distance of its two farthest points, as in Dunn's own index.
    """

    num_points: int
    classes: Sequence[Any]
    dunn_index: float
    centre_distance: float
    single_linkage: float
    radius: float
    max_diameter: float


MEASURES = ("dunn_index", "centre_distance", "single_linkage", "radius", "max_diameter")


class FeatureTable(NamedTuple):
    """What a features file holds, N rows each.

    Attributes:
        features: (N, D) floating point.
        labels: (N,) class of each sample.
        ids: (N,) str, the samples' ids; never positions.
        kept: (N,) bool, or None where the file does not say.
    """

    features: np.ndarray
    labels: np.ndarray
    ids: np.ndarray
    kept: np.ndarray | None = None


def measure(features: np.ndarray, labels: Sequence[Any]) -> ClusterMeasures:
    """The measures of Yang et al. (2023), Eq. 8 and the text beside Fig. 3; see `ClusterMeasures`.

    Takes time in N^2 D and memory in N D.

    Args:
        features: (N, D) numbers; computed on in float64.
        labels: (N,) class of each point.

    Raises:
        ValueError: the shapes do not fit, a feature is not finite, fewer than two classes, a class
            with a single point, or every class is one point repeated.
    """
    clusters = _clusters(np.asarray(features), np.asarray(labels))
    points = list(clusters.values())
    diameters = [_mean_pairwise_distance(cluster) for cluster in points]
    if not max(diameters) > 0:
        raise ValueError("every class is one point repeated, so no cluster has a size: wrong features?")
    centroids = np.stack([cluster.mean(axis=0) for cluster in points])
    radii = [np.linalg.norm(own - centre, axis=1).mean() for own, centre in zip(points, centroids)]
    pairs = tqdm(
        list(combinations(points, 2)), desc="pairs of classes", leave=False, disable=None
    )  # disable=None: no bar where nobody watches
    linkages = [_single_linkage(a, b) for a, b in pairs]
    return ClusterMeasures(
        num_points=len(labels),
        classes=list(clusters),
        dunn_index=float(min(linkages) / max(diameters)),
        centre_distance=float(pdist(centroids).mean()),
        single_linkage=float(np.mean(linkages)),
        radius=float(np.mean(radii)),
        max_diameter=float(max(diameters)),
    )


def compare(full: ClusterMeasures, kept: ClusterMeasures) -> dict[str, float | None]:
    """Relative change of every measure from the full to the kept set: 0.044 is +4.4%.

    None where the full set's measure is 0, as the single linkage is of two equal points with different
    labels.

    Raises:
        ValueError: the two do not have the same classes, so the means are over different clusters.
    """
    if list(full.classes) != list(kept.classes):
        differing = sorted(set(full.classes) ^ set(kept.classes), key=str)
        raise ValueError(
            f"classes that are not in both the full and the kept set: {differing[:10]}; measure "
            "both on the classes they share"
        )
    changes = {}
    for name in MEASURES:
        before, after = getattr(full, name), getattr(kept, name)
        changes[name] = after / before - 1 if before else None
    return changes


def report(table: FeatureTable, kept: np.ndarray) -> dict[str, Any]:
    """Measures of all points and of the kept ones, and the relative change: plain values for JSON.

    Args:
        table: N samples.
        kept: (N,) bool.

    Raises:
        ValueError: as `measure` and `compare`, naming which of the two sets it is.
    """
    measured = {}
    for name, rows in (("full", slice(None)), ("kept", np.asarray(kept, bool))):
        try:
            measured[name] = measure(table.features[rows], table.labels[rows])
        except ValueError as error:
            raise ValueError(f"the {name} set cannot be measured: {error}") from error
    changes = compare(measured["full"], measured["kept"])
    return {**{name: asdict(m) for name, m in measured.items()}, "relative_change": changes}


def save_features(
    path: "str | Path",
    features: np.ndarray,
    labels: Sequence[Any],
    ids: Sequence[str],
    kept: Sequence[bool] | None = None,
) -> None:
    """Writes the features of N samples to a .npz file, whole or not at all.

    Args:
        path: of the file, written under this very name.
        features: (N, D) numbers.
        labels: (N,) class of each sample, numbers or strings.
        ids: (N,) id of each sample, as in its selection.
        kept: (N,) whether it is kept, if that goes into the file.

    Raises:
        ValueError: the lengths differ, an id occurs twice, or features are not numbers in rows.
    """
    table = FeatureTable(
        np.asarray(features),
        np.asarray(labels),
        np.asarray([str(i) for i in ids]),
        None if kept is None else _flags(np.asarray(kept)),
    )
    _check(table, path)
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with open(beside, "wb") as file:  # by name, savez would append .npz
            np.savez(file, **{k: v for k, v in table._asdict().items() if v is not None})
        os.replace(beside, path)
    finally:
        beside.unlink(missing_ok=True)


def load_features(path: "str | Path") -> FeatureTable:
    """Reads what `save_features` wrote, or any .npz with the keys features, labels, ids[, kept].

    Raises:
        FileNotFoundError: no such file.
        ValueError: it is no .npz, a key is missing, lengths differ or an id occurs twice.
    """
    try:
        # Objects would have to be unpickled, and a pickle can run anything
        with np.load(path, allow_pickle=False) as file:
            missing = [key for key in ("features", "labels", "ids") if key not in file.files]
            if missing:
                raise ValueError(f"it has no {', '.join(missing)}, only {', '.join(file.files)}")
            kept = _flags(file["kept"]) if "kept" in file.files else None
            table = FeatureTable(file["features"], file["labels"], file["ids"].astype(str), kept)
    except (ValueError, TypeError, EOFError, zipfile.BadZipFile) as error:
        raise ValueError(f"{path} is no .npz file with the arrays features, labels and ids: {error}") from error
    _check(table, path)
    return table


def kept_by(selection: Selection, ids: Sequence[str], dataset: str | None = None) -> np.ndarray:
    """Whether a selection keeps each of N samples, by id: (N,) bool.

    Args:
        selection: of exactly these samples, in any order.
        ids: (N,) ids.
        dataset: the data set the ids belong to; may be left away if the selection covers only one.

    Raises:
        ValueError: the selection covers several data sets and none is named, or not this one, or its
            ids are not those given.
    """
    names = selection.dataset_names()
    if dataset is None and len(names) > 1:
        raise ValueError(f"the selection covers {', '.join(names)}: name the one the features are of")
    dataset = names[0] if dataset is None else dataset
    if dataset not in names:
        raise ValueError(f"the selection covers {', '.join(names)}, not {dataset}")
    known, given = selection.known_ids(dataset), {str(i) for i in ids}
    if known != given:
        raise ValueError(
            f"the selection is not of the samples that have features: {len(given - known)} ids are not "
            f"in the selection (such as {sorted(given - known)[:3]}), {len(known - given)} have no "
            f"features (such as {sorted(known - given)[:3]})"
        )
    kept = selection.kept_ids(dataset)
    return np.array([str(i) in kept for i in ids])


def _clusters(features: np.ndarray, labels: np.ndarray) -> dict[Any, np.ndarray]:
    """The points of each class, float64 and moved to the origin, where differences are most exact."""
    if features.ndim != 2 or features.shape[1] == 0 or labels.shape != features.shape[:1]:
        raise ValueError(
            f"needs features (N, D) and labels (N,), got shapes {tuple(features.shape)} and {tuple(labels.shape)}"
        )
    features = features.astype(np.float64)
    bad = np.flatnonzero(~np.isfinite(features).all(axis=1))
    if len(bad):
        raise ValueError(f"{len(bad)} points have features that are not finite, rows {bad[:5].tolist()}")
    classes, counts = np.unique(labels, return_counts=True)
    if len(classes) < 2:
        raise ValueError(f"needs points of two classes at least, got {classes.tolist()}")
    single = classes[counts < 2].tolist()
    if single:
        raise ValueError(f"{len(single)} classes have one point, so no size: {single[:10]}; leave them away")
    features -= features.mean(axis=0)
    return {name: features[labels == name] for name in classes.tolist()}


def _mean_pairwise_distance(points: np.ndarray) -> float:
    """Mean distance between two different rows of (n, D)."""
    rows = pairwise_distances_chunked(
        points - points[0],  # equal points are then exactly zero
        reduce_func=lambda distances, start: distances.sum(axis=1),
        working_memory=WORKING_MEMORY,
    )
    return float(sum(row.sum() for row in rows) / (len(points) * (len(points) - 1)))


def _single_linkage(a: np.ndarray, b: np.ndarray) -> float:
    """Smallest distance between a row of (n, D) and a row of (m, D)."""
    nearest, distances = pairwise_distances_argmin_min(a, b)
    row = distances.argmin()
    # Once more by subtraction: |a|^2 + |b|^2 - 2ab leaves rounding errors in small distances
    return float(np.linalg.norm(a[row] - b[nearest[row]]))


def _flags(kept: np.ndarray) -> np.ndarray:
    if kept.dtype != bool and not np.isin(kept, (0, 1)).all():
        raise ValueError("kept is one flag a sample, true or false; this looks like indices")
    return kept.astype(bool)


def _check(table: FeatureTable, path: "str | Path") -> None:
    lengths = {name: len(v) for name, v in table._asdict().items() if v is not None and v.ndim}
    if table.features.ndim != 2 or not np.issubdtype(table.features.dtype, np.number):
        raise ValueError(
            f"{path}: features are one row of numbers a sample, (N, D); got shape "
            f"{table.features.shape} of {table.features.dtype}"
        )
    if len(set(lengths.values())) != 1 or any(v is not None and v.ndim != 1 for v in table[1:]):
        raise ValueError(f"{path}: needs one label, id and kept flag a row of features, got {lengths}")
    if table.labels.dtype == object:
        raise ValueError(f"{path}: labels are numbers or strings, not a mixture or objects")
    repeated = _repeated(table.ids)
    if repeated:
        raise ValueError(f"{path}: ids that occur more than once: {repeated[:5]}")


def _repeated(ids: np.ndarray) -> list[str]:
    names, counts = np.unique(ids, return_counts=True)
    return names[counts > 1].tolist()
