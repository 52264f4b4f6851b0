"""What the baselines may ask about the images, answered by a proxy; see `baselines.evidence.Evidence`.

N images, C classes, F features, M networks.
"""

from collections.abc import Callable
from time import perf_counter
from typing import TypeVar

import numpy as np
from detectron2.data import MetadataCatalog

from ..baselines.evidence import CLASSIFICATION, Dynamics, LastLayer
from ..baselines.grand import last_layer_gradient_norms
from ..data.image_batches import labels_of
from . import classification_statistics as classification
from . import detection_statistics as detection
from .proxy import Arrays, Proxy

# Parameters of a network up to which GraNd takes the gradient of all of them, with SCORING.GRAND auto.
SMALL_NETWORK = 5_000_000

Answer = TypeVar("Answer")


class ProxyEvidence:
    """Answers from a proxy's folder, where each is kept once it is computed.

    Attributes:
        costs: seconds that each piece of evidence asked for took when it was computed, by name.
        waited: seconds this process spent on getting them.
        settings: what was used where the config leaves a choice.
    """

    def __init__(self, proxy: Proxy):
        self._proxy = proxy
        self._known: dict[str, Arrays] = {}
        self.task, self.records = proxy.task, proxy.records
        self.num_classes = len(MetadataCatalog.get(proxy.records[0]["dataset_name"]).thing_classes)
        self.labels = self._labels()
        self.image_learning_rate = proxy.cfg.SOLVER.BASE_LR / proxy.cfg.SOLVER.IMS_PER_BATCH
        self.costs: dict[str, float] = {}
        self.waited = 0.0
        self.settings: dict[str, str] = {}

    def objects(self) -> np.ndarray:
        if self.task == CLASSIFICATION:
            return np.eye(self.num_classes, dtype=np.int64)[self.labels][:, :, None]
        return detection.objects_of_records(self.records, self.num_classes)

    def pixels(self) -> np.ndarray:
        self._only_classification("pixels")
        return self._timed("pixels", self._read_pixels)

    def features(self) -> np.ndarray:
        if self.task == CLASSIFICATION:
            return self.last_layer().features
        return self._cached("features", self._detector_features)["features"]

    def last_layer(self) -> LastLayer:
        self._only_classification("last_layer")
        return self._last_layer("last_layer", self._proxy.trained_network)

    def dynamics(self) -> Dynamics:
        return self._timed("dynamics", self._proxy.dynamics)

    def early(self) -> list[LastLayer]:
        self._only_classification("early")
        return [self._early(network) for network in range(self._proxy.cfg.SCORING.NETWORKS)]

    def gradient_norms(self) -> np.ndarray:
        networks = range(self._proxy.cfg.SCORING.NETWORKS)
        return np.stack([self._gradient_norms(network) for network in networks])

    def _read_pixels(self) -> tuple[np.ndarray, float]:
        start = perf_counter()
        pixels = classification.pixels_of(self._proxy.cfg, self._proxy.records)
        return pixels, perf_counter() - start

    def _labels(self) -> np.ndarray:
        records = self._proxy.records
        if self.task == CLASSIFICATION:
            return labels_of(records).numpy()
        return detection.labels_of_records(records, self.num_classes)

    def _only_classification(self, what: str) -> None:
        if self.task != CLASSIFICATION:
            raise TypeError(f"{what} is known of classifiers only")

    def _early(self, network: int) -> LastLayer:
        return self._last_layer(f"early_{network}", lambda: self._proxy.early_network(network))

    def _last_layer(self, name: str, build: Callable) -> LastLayer:
        def compute():
            found = classification.last_layer_of(self._proxy.cfg, build(), self._proxy.records)
            return dict(zip(LastLayer._fields, found))

        return LastLayer(**self._cached(name, compute))

    def _detector_features(self) -> Arrays:
        network = self._proxy.trained_network()
        return {"features": detection.features_of(self._proxy.cfg, network, self._proxy.records)}

    def _gradient_norms(self, network: int) -> np.ndarray:
        """Norms (N,) by one of the networks; notes which gradients they are of."""
        how = self._gradients(network)
        self.settings["gradients"] = how
        if how == "last_layer" and self.task == CLASSIFICATION:
            return last_layer_gradient_norms(self._early(network), self.labels)
        task = classification if self.task == CLASSIFICATION else detection

        def compute():
            model = self._proxy.early_network(network)
            return {"norms": task.gradient_norms_of(self._proxy.cfg, model, self._proxy.records)}

        return self._cached(f"gradient_norms_{how}_{network}", compute)["norms"]

    def _gradients(self, network: int) -> str:
        """Which gradients SCORING.GRAND means: "full" or "last_layer"."""
        asked = self._proxy.cfg.SCORING.GRAND
        if asked != "auto":
            return asked
        if self.task != CLASSIFICATION:
            return "last_layer"
        parameters = self._proxy.early_network(network).parameters()
        return "full" if sum(p.numel() for p in parameters) <= SMALL_NETWORK else "last_layer"

    def _cached(self, name: str, compute: Callable[[], Arrays]) -> Arrays:
        if name not in self._known:
            arrays = self._timed(name, lambda: self._proxy.cached(name, compute))
            self._check_finite(name, arrays)
            self._known[name] = arrays
        return self._known[name]

    def _check_finite(self, name: str, arrays: Arrays) -> None:
        for array in arrays.values():
            bad = np.flatnonzero(~np.isfinite(array).reshape(len(self.labels), -1).all(axis=1))
            if len(bad):
                ids = [self._proxy.records[i]["image_id"] for i in bad[:5]]
                raise ValueError(
                    f"{name} of {len(bad)} of {len(self.labels)} images are no finite numbers (images "
                    f"{ids}): the proxy in {self._proxy.folder} has diverged; lower SOLVER.BASE_LR and name "
                    "another folder"
                )

    def _timed(self, name: str, get: Callable[[], tuple[Answer, float]]) -> Answer:
        """What `get` gives, noting what it cost when it was computed and what getting it took now."""
        start = perf_counter()
        answer, self.costs[name] = get()
        self.waited += perf_counter() - start
        return answer
