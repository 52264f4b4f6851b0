"""What pruning methods may know of the images, by a proxy. Each part is kept in its folder once it is computed."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from time import perf_counter
from typing import Any

import numpy as np

from ..baselines.grand import last_layer_gradient_norms
from ..baselines.registry import CLASSIFICATION
from ..data.images import read_images
from ..modeling.per_image import return_per_image_losses
from ..pruning.statistics import LastLayer, Statistics
from . import classification_statistics, detection_gradients
from .proxy import Arrays, Proxy

# Parameters of a network up to which GraNd takes the gradient of all of them, with SCORING.GRAND auto.
SMALL_NETWORK = 5_000_000

Part = tuple[dict[str, Any], float]  # fields of Statistics, and the seconds of computing them


def statistics_by(proxy: Proxy, needs: Sequence[str]) -> tuple[Statistics, dict[str, float]]:
    """The statistics of the proxy's images with the parts asked for, and the seconds that each of them took.

    Args:
        proxy: trained as far as the parts need it.
        needs: keys of `registry.TRAINING`.

    Raises:
        FileNotFoundError: the proxy is not trained so far.
        ValueError, FloatingPointError: something is no finite number, because the proxy has diverged.
    """
    rate = proxy.cfg.SOLVER.BASE_LR / proxy.cfg.SOLVER.IMS_PER_BATCH
    statistics = replace(proxy.adapter.labelled(proxy.records), image_learning_rate=rate)
    seconds = {}
    for part in needs:
        fields, seconds[part] = _PARTS[part](proxy, statistics)
        statistics = replace(statistics, **fields)
    return statistics, seconds


def gradients_of(proxy: Proxy) -> str:
    """Which gradients SCORING.GRAND means: "full" or "last_layer"."""
    asked = proxy.cfg.SCORING.GRAND
    if asked != "auto":
        return asked
    if proxy.task != CLASSIFICATION:
        return "last_layer"
    parameters = proxy.early_network(0).parameters()
    return "full" if sum(p.numel() for p in parameters) <= SMALL_NETWORK else "last_layer"


def _finished_model(proxy: Proxy, known: Statistics) -> Part:
    def compute() -> Arrays:
        model = proxy.trained_network()
        return_per_image_losses(model)
        return proxy.adapter.statistics(proxy.cfg, model, proxy.records).arrays()

    arrays, seconds = proxy.cached("finished_model", compute)
    found = Statistics.of_arrays(arrays).finite()
    return {"losses": found.losses, "features": found.features, "found": found.found}, seconds


def _objects(proxy: Proxy, known: Statistics) -> Part:
    def compute() -> Arrays:
        return {"objects": proxy.adapter.object_features(proxy.cfg, proxy.trained_network(), proxy.records)}

    arrays, seconds = proxy.cached("objects", compute)
    return {"objects": replace(known, objects=arrays["objects"]).finite().objects}, seconds


def _last_layer(proxy: Proxy, known: Statistics) -> Part:
    layer, seconds = _layer_of(proxy, "last_layer", proxy.trained_network)
    return {"last_layer": layer}, seconds


def _dynamics(proxy: Proxy, known: Statistics) -> Part:
    dynamics, seconds = proxy.dynamics()
    return {"dynamics": dynamics}, seconds


def _early(proxy: Proxy, known: Statistics) -> Part:
    layers, seconds = zip(*(_early_layer(proxy, network) for network in range(proxy.cfg.SCORING.NETWORKS)))
    return {"early": layers}, sum(seconds)


def _gradient_norms(proxy: Proxy, known: Statistics) -> Part:
    how = gradients_of(proxy)
    norms, seconds = zip(*(_norms_of(proxy, known, how, network) for network in range(proxy.cfg.SCORING.NETWORKS)))
    return {"gradient_norms": np.stack(norms)}, sum(seconds)


def _pixels(proxy: Proxy, known: Statistics) -> Part:
    start = perf_counter()
    return {"pixels": read_images(proxy.records, proxy.cfg.INPUT.IMAGE_SIZE)}, perf_counter() - start


_PARTS: dict[str, Callable[[Proxy, Statistics], Part]] = {
    "features": _finished_model,
    "finished_model": _finished_model,
    "objects": _objects,
    "last_layer": _last_layer,
    "dynamics": _dynamics,
    "early": _early,
    "gradient_norms": _gradient_norms,
    "pixels": _pixels,
}


def _early_layer(proxy: Proxy, network: int) -> tuple[LastLayer, float]:
    return _layer_of(proxy, f"early_{network}", lambda: proxy.early_network(network))


def _layer_of(proxy: Proxy, name: str, build: Callable) -> tuple[LastLayer, float]:
    def compute() -> Arrays:
        return classification_statistics.last_layer_of(proxy.cfg, build(), proxy.records)._asdict()

    arrays, seconds = _finite(proxy, name, compute)
    return LastLayer(**arrays), seconds


def _norms_of(proxy: Proxy, known: Statistics, how: str, network: int) -> tuple[np.ndarray, float]:
    """Norms (N,) by one of the networks."""
    if how == "last_layer" and proxy.task == CLASSIFICATION:
        layer, seconds = _early_layer(proxy, network)
        return last_layer_gradient_norms(layer, known.classes), seconds
    task = classification_statistics if proxy.task == CLASSIFICATION else detection_gradients

    def compute() -> Arrays:
        return {"norms": task.gradient_norms_of(proxy.cfg, proxy.early_network(network), proxy.records)}

    arrays, seconds = _finite(proxy, f"gradient_norms_{how}_{network}", compute)
    return arrays["norms"], seconds


def _finite(proxy: Proxy, name: str, compute: Callable[[], Arrays]) -> tuple[Arrays, float]:
    """`Proxy.cached`, of arrays (N, ...) that have to be finite."""
    arrays, seconds = proxy.cached(name, compute)
    rows = np.hstack([array.reshape(len(proxy.records), -1) for array in arrays.values()])
    bad = np.flatnonzero(~np.isfinite(rows).all(axis=1))
    if len(bad):
        ids = [proxy.records[i]["image_id"] for i in bad[:5]]
        raise ValueError(
            f"{name} of {len(bad)} of {len(proxy.records)} images are no finite numbers (images {ids}): the proxy "
            f"in {proxy.folder} has diverged; lower SOLVER.BASE_LR and name another folder"
        )
    return arrays, seconds
