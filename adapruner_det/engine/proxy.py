"""The proxy: networks trained on all images, in a folder, with what was found out about the images.

One goes to the end; SCORING.NETWORKS in all train up to the early point. What is computed with them is kept in the
folder, so that it is computed once for all methods and ratios.
"""

import argparse
import fcntl
import io
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import torch
from detectron2.config import CfgNode
from detectron2.engine import default_setup
from detectron2.modeling import build_model
from torch import nn

from ..baselines.registry import CLASSIFICATION, DETECTION, EARLY, METHODS, TRAINED
from ..data.selection_record import fingerprint
from ..files import sweep, write_bytes, write_text
from ..pruning.statistics import Dynamics
from . import console
from .checkpoint import RunCheckpointer
from .classification import ClassificationTask
from .detection_statistics import found_boxes
from .proxy_trainer import DYNAMICS, EARLY_WEIGHTS, LAST_WEIGHTS, ProxyTrainer
from .run_folder import NO_MATTER, PROXY, WRITTEN, settings_of
from .setup import set_num_classes
from .tasks import task_of
from .trainer import with_max_iter

STATISTICS, LOCK = "statistics", ".lock"
GRADIENTS = ("auto", "full", "last_layer")

# Keys (or the nodes they are in) that the networks do not depend on; EARLY and others say themselves what they are.
_WITHOUT_EFFECT = (
    *NO_MATTER,
    "ADAPRUNER",
    "DYNAMIC",
    "SCORING.NETWORKS",
    "SCORING.GRAND",
    "SCORING.CLASS_BALANCE",
    *(f"SCORING.{name.upper()}" for name, method in METHODS.items() if method.variants),
)

Arrays = dict[str, np.ndarray]


class ProxyMismatchError(ValueError):
    """A folder holds the proxy of other data or of another config."""


class Proxy:
    """A proxy in its folder, there already or to be trained.

    Attributes:
        task, adapter: CLASSIFICATION or DETECTION, and the `engine.tasks.Task` for it.
        cfg: what it trains by, frozen.
        records, others: the N images that compete, in the order of all that is known of them; those that do not.

    Args:
        cfg: of the run that would prune; it names the data.
        seed: of the network that goes to the end; those of the others follow from it.
        folder: where it is or is going to be.

    Raises:
        ProxyMismatchError: another proxy, or another training, lies there.
        ValueError: settings that cannot work.
    """

    def __init__(self, cfg: CfgNode, seed: int, folder: "str | Path"):
        self.folder = Path(folder)
        cfg = _proxy_config(cfg, seed, self.folder)
        self.adapter, self.task = task_of(cfg), task_name(cfg)
        self.records, self.others = self.adapter.split_competing(cfg, self.adapter.load_records(cfg))
        self.cfg = with_max_iter(cfg, len(self.records))
        self._check_settings()
        self._identity: dict[str, Any] = {"fingerprint": fingerprint(self.records), "config": proxy_settings(self.cfg)}
        self._check_identity()

    def train(self, need: str) -> None:
        """Trains what is not there yet, going on where an earlier attempt stopped.

        Args:
            need: EARLY, for all networks up to the early point, or TRAINED, for one to the end.

        Raises:
            ProxyMismatchError: meanwhile another process has filled the folder with a proxy of other data or settings.
        """
        networks = range(self.cfg.SCORING.NETWORKS) if need == EARLY else [0]
        self._check_identity()
        if all(self._done(network, need) for network in networks):
            return
        with self._locked():
            for network in networks:
                if not self._done(network, need):
                    write_text(self.folder / PROXY, json.dumps(self._identity, indent=1) + "\n")
                    self._train(network, to_the_end=need == TRAINED)

    def seconds(self, need: str) -> float:
        """What training it that far took: of one network to the end, or of all up to the early point."""
        if need == TRAINED:
            return self._dynamics()["seconds"].item()
        return sum(self._early(k)["seconds"] for k in range(self.cfg.SCORING.NETWORKS))

    def dynamics(self) -> tuple[Dynamics, float]:
        """What happened while it trained, and the seconds of measuring it besides training."""
        content = self._dynamics()
        rows = {name: content[name] for name in Dynamics._fields if name in content}  # former versions had two of them
        return Dynamics(**rows), content["measuring_seconds"].item()

    def trained_network(self) -> nn.Module:
        """The network at the end of its training, in evaluation mode."""
        self._dynamics()  # without them it did not get there
        return self._network(self.folder / LAST_WEIGHTS)

    def early_network(self, network: int) -> nn.Module:
        """One of the networks as it was at the early point, in evaluation mode."""
        self._early(network)
        return self._network(self._folder_of(network) / EARLY_WEIGHTS)

    def cached(self, name: str, compute: Callable[[], Arrays]) -> tuple[Arrays, float]:
        """What `compute` gives, kept in the folder under a name, and the seconds that it took then."""
        path = self.folder / STATISTICS / f"{name}.npz"
        if not path.is_file():
            with self._locked():
                if not path.is_file():
                    start = perf_counter()
                    arrays = compute()
                    content = io.BytesIO()
                    timed: dict[str, Any] = {**arrays, "seconds": np.array(perf_counter() - start)}
                    np.savez(content, **timed)
                    write_bytes(path, content.getvalue())
        arrays = _load(path)
        return arrays, arrays.pop("seconds").item()

    def _check_settings(self) -> None:
        options, cfg = self.cfg.SCORING, self.cfg
        if not 0 < options.EARLY <= 1:
            raise ValueError(f"SCORING.EARLY is {options.EARLY}; it is a share of the training, above 0")
        for key in ("NETWORKS", "SNAPSHOTS"):
            if options[key] < 1:
                raise ValueError(f"SCORING.{key} is {options[key]}; it has to be at least 1")
        if options.GRAND not in GRADIENTS:
            raise ValueError(f"SCORING.GRAND is {options.GRAND!r}; it can be {', '.join(GRADIENTS)}")
        if self.task == DETECTION and options.GRAND == "full":
            raise ValueError("SCORING.GRAND full is for classification; for detection use last_layer")
        if cfg.DATALOADER.SAMPLER_TRAIN != "TrainingSampler":
            raise ValueError(
                f"DATALOADER.SAMPLER_TRAIN is {cfg.DATALOADER.SAMPLER_TRAIN}: the proxy has to see every image "
                "equally often; use TrainingSampler"
            )
        needed = -(-len(self.records) // cfg.SOLVER.IMS_PER_BATCH)
        if cfg.SOLVER.MAX_ITER < needed:
            raise ValueError(
                f"the proxy would train {cfg.SOLVER.MAX_ITER} iterations, but seeing each of "
                f"{len(self.records)} images takes {needed}: raise SOLVER.MAX_ITER or MAX_EPOCHS"
            )

    def _check_identity(self) -> None:
        path = self.folder / PROXY
        if not path.is_file():
            if (self.folder / "last_checkpoint").is_file():
                raise ProxyMismatchError(
                    f"{self.folder} holds a training that is no proxy: name another folder, --proxy DIR"
                )
            return
        written, ours = json.loads(path.read_text(encoding="utf-8")), self._identity["config"]
        differing = [
            f"{key} {ours[key]!r}, there {value!r}"
            for key, value in written["config"].items()
            if key in ours and ours[key] != value
        ]
        if written["fingerprint"] != self._identity["fingerprint"]:
            differing.insert(0, "other images, or other annotations or classes of them")
        if differing:
            raise ProxyMismatchError(
                f"{self.folder} holds a proxy of other data or settings: {'; '.join(differing)}. Name "
                "another folder, --proxy DIR, or use the data and settings it was trained with"
            )

    def _folder_of(self, network: int) -> Path:
        return self.folder if network == 0 else self.folder / f"network_{network}"

    def _done(self, network: int, need: str) -> bool:
        return (self._folder_of(network) / (EARLY_WEIGHTS if need == EARLY else DYNAMICS)).is_file()

    def _train(self, network: int, to_the_end: bool) -> None:
        cfg = self.cfg.clone()
        cfg.defrost()
        cfg.OUTPUT_DIR = str(self._folder_of(network))
        if network:
            sequence = np.random.SeedSequence([cfg.SEED, network])
            cfg.SEED = int(sequence.generate_state(1)[0] % 2**31)
        cfg.freeze()
        default_setup(cfg, argparse.Namespace())
        console.set_up(cfg.OUTPUT_DIR, verbose=False)
        trainer = ProxyTrainer(cfg, found_boxes if self.task == DETECTION else None, to_the_end)
        trainer.resume_or_load(resume=True)
        trainer.train()

    def _dynamics(self) -> Arrays:
        path = self.folder / DYNAMICS
        if not path.is_file():
            raise FileNotFoundError(f"{self.folder} holds no proxy that was trained to the end")
        return _load(path)

    def _early(self, network: int) -> dict[str, Any]:
        path = self._folder_of(network) / EARLY_WEIGHTS
        if not path.is_file():
            raise FileNotFoundError(f"{path} is missing: the proxy has not been trained up to there")
        return torch.load(path, map_location="cpu", weights_only=True)

    def _network(self, weights: Path) -> nn.Module:
        model = build_model(self.cfg)
        RunCheckpointer(model).load(str(weights))
        return model.eval()

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Only one process at a time fills the folder; the others wait, and find it filled."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with open(self.folder / LOCK, "a") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                print(f"waiting for another process that fills {self.folder}", flush=True)
                fcntl.flock(file, fcntl.LOCK_EX)
            self._check_identity()  # another may have filled it meanwhile
            for part in (self.folder, *self.folder.glob("network_*"), self.folder / STATISTICS):
                sweep(part, (*WRITTEN, "*.npz"))
            try:
                yield
            finally:
                # Closing alone would leave it to data loader workers, who have the file open too.
                fcntl.flock(file, fcntl.LOCK_UN)


def proxy_settings(cfg: CfgNode) -> dict[str, Any]:
    """The settings that a proxy depends on, by their keys joined with dots."""
    nodes = tuple(f"{key}." for key in _WITHOUT_EFFECT)
    return {key: value for key, value in settings_of(cfg).items() if not f"{key}.".startswith(nodes)}


def task_name(cfg: CfgNode) -> str:
    """CLASSIFICATION or DETECTION."""
    return CLASSIFICATION if isinstance(task_of(cfg), ClassificationTask) else DETECTION


def _proxy_config(cfg: CfgNode, seed: int, folder: Path) -> CfgNode:
    """The config of a plain training on all images; test images are no business of it."""
    if cfg.DATASETS.SELECTION:
        raise ValueError("methods score the whole training set, but DATASETS.SELECTION is set: leave it away")
    cfg = cfg.clone()
    set_num_classes(cfg)
    cfg.DATASETS.TEST = ()
    cfg.TEST.EXPECTED_RESULTS = []
    cfg.ADAPRUNER.ENABLED = False
    cfg.DYNAMIC.METHOD = ""
    cfg.SEED = seed
    cfg.OUTPUT_DIR = str(folder)
    cfg.freeze()
    return cfg


def _load(path: Path) -> Arrays:
    with np.load(path) as file:
        return dict(file)
