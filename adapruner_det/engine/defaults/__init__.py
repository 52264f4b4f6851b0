"""Settings for data that comes without a config: what is not written out is chosen from the images and the device."""

import math
import os
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from detectron2.config import CfgNode

from ...data.images import read_sizes
from ...data.pruned_datasets import corners
from ...data.validation import Record

DETECTION, CLASSIFICATION = (Path(__file__).with_name(f"{task}.yaml") for task in ("detection", "classification"))

# Detection. The smallest tenth of the boxes is to be so many pixels wide: a cell of stride 8.
_SMALL_BOX, _STRIDE_4_BELOW = 8, 5
_SHORTEST, _LONGEST_CPU, _LONGEST_GPU = 96, 224, 416  # of the short side, while pruning
_NUM_ANCHORS = 6
# Passes over the images, and iterations that a CPU is given at most, and any device at least.
_EPOCHS, _MOST_ON_CPU, _FEWEST_EPOCHS, _FEWEST = 20, 4000, 6, 300


class Chosen(NamedTuple):
    pairs: dict[str, Any]  # key -> value
    lines: list[tuple[str, str]]  # what to say of it: (of what, text)

    def words(self) -> list[str]:
        return [part for key, value in self.pairs.items() for part in (key, str(value))]


def choose(cfg: CfgNode, records: Sequence[Record], given: Collection[str]) -> Chosen:
    """What suits N images.

    Args:
        cfg: of DETECTION or CLASSIFICATION, with all that was written out.
        records: what is trained on.
        given: keys that were written out; those that depend on them follow.
    """
    classifies = cfg.MODEL.META_ARCHITECTURE == "ImageClassifier"
    pairs, lines = (_classifier if classifies else _detector)(cfg, records, given)
    pairs |= _length(cfg, len(records), classifies, given)
    pairs["DATALOADER.NUM_WORKERS"] = 0 if _on_cpu(cfg) else min(4, os.cpu_count() or 1)
    epochs, batch = pairs.get("SOLVER.MAX_EPOCHS"), pairs["SOLVER.IMS_PER_BATCH"]
    lines += (
        [("length", f"{epochs:g} epoch{'' if epochs == 1 else 's'} (--epochs), {batch} images at a time")]
        if epochs
        else []
    )
    return Chosen({key: value for key, value in pairs.items() if key not in given}, lines)


def _on_cpu(cfg: CfgNode) -> bool:
    return cfg.MODEL.DEVICE == "cpu"


def _length(cfg: CfgNode, num: int, classifies: bool, given: Collection[str]) -> dict[str, Any]:
    """Small data is seen more often, and large data on a CPU less."""
    batch = (32 if num < 8000 else 128) if classifies else 8 if num < 2000 else 16 if num < 8000 else 32
    batch = cfg.SOLVER.IMS_PER_BATCH if "SOLVER.IMS_PER_BATCH" in given else min(batch, num)
    epochs = float(_EPOCHS * (1 if cfg.ADAPRUNER.ENABLED else 2))
    if _on_cpu(cfg):
        epochs = max(_FEWEST_EPOCHS, min(epochs, _MOST_ON_CPU * batch / num))
    epochs = cfg.SOLVER.MAX_EPOCHS or float(math.ceil(max(epochs, _FEWEST * batch / num)))
    iterations = cfg.SOLVER.MAX_ITER if "SOLVER.MAX_ITER" in given else round(epochs * num / batch)
    pairs = {"SOLVER.IMS_PER_BATCH": batch, "SOLVER.WARMUP_ITERS": min(100, iterations // 10)}
    return pairs if "SOLVER.MAX_ITER" in given else {**pairs, "SOLVER.MAX_EPOCHS": epochs}


def _detector(cfg: CfgNode, records: Sequence[Record], given: Collection[str]) -> tuple[dict[str, Any], list]:
    sizes = np.array([[record["width"], record["height"]] for record in records], float)
    boxes = [_box_sizes(record) for record in records]
    short = np.repeat(sizes.min(axis=1), list(map(len, boxes)))[:, None]
    shares = np.concatenate(boxes) / short  # (M, 2) widths and heights over the image's short side
    smallest = float(np.quantile(np.sqrt(shares.prod(axis=1)), 0.1)) if len(shares) else 1.0
    side = _short_side(cfg, float(np.median(sizes.min(axis=1))), smallest, given)
    small = side * smallest * (1 if cfg.ADAPRUNER.ENABLED else 0.5)
    finest = (3 if small >= _STRIDE_4_BELOW else 2) + (0 if cfg.ADAPRUNER.ENABLED else 1)
    features = [f"res{finest}", f"res{finest + 1}"]
    pairs = {
        "INPUT.MIN_SIZE_TRAIN": (side,), "INPUT.MIN_SIZE_TEST": side,
        "INPUT.MAX_SIZE_TRAIN": 2 * side, "INPUT.MAX_SIZE_TEST": 2 * side,
        "MODEL.RESNETS.OUT_FEATURES": features, "MODEL.YOLO.IN_FEATURES": features,
        "MODEL.YOLO.ANCHORS": anchors(shares * side),
    }  # fmt: skip
    size = f"short side {side} pixels, where a tenth of the boxes is below {smallest * side:.0f}"
    fitted = f"anchors by k-means of {len(shares):,} boxes"
    return pairs, [("model", f"YOLOv3-Tiny on ResNet-18 up to {features[1]}, {fitted}; {size}")]


def _short_side(cfg: CfgNode, there: float, smallest: float, given: Collection[str]) -> int:
    if "INPUT.MIN_SIZE_TRAIN" in given:
        return int(np.median(cfg.INPUT.MIN_SIZE_TRAIN))
    wanted = np.clip(_SMALL_BOX / smallest, _SHORTEST, _LONGEST_CPU if _on_cpu(cfg) else _LONGEST_GPU)
    wanted *= 1 if cfg.ADAPRUNER.ENABLED else 2  # the selecting detector sees images of half the size
    return int(max(64, 32 * math.ceil(min(wanted, there) / 32 - 0.25)))


def _box_sizes(record: Record) -> np.ndarray:
    """(M, 2) widths and heights in pixels, without crowds."""
    found = [corners(a) for a in record.get("annotations", []) if not a.get("iscrowd", 0)]
    boxes = np.array(found, float).reshape(-1, 4)
    return np.maximum(boxes[:, 2:] - boxes[:, :2], 1.0)


def anchors(boxes: np.ndarray) -> list[list[int]]:
    """Widths and heights of anchors for boxes (M, 2): k-means of their logarithms, the smallest first.

    Where boxes have fewer sizes than there are anchors, darknet's for that size of image fill up.
    """
    from sklearn.cluster import KMeans  # here: it takes a second

    boxes = boxes[:: max(1, len(boxes) // 50_000)]
    if len(np.unique(boxes.round(), axis=0)) < _NUM_ANCHORS:
        scale = float(boxes.max()) if len(boxes) else 100.0
        boxes = np.array([[10, 14], [23, 27], [37, 58], [81, 82], [135, 169], [344, 319]]) * scale / 169
    means = KMeans(_NUM_ANCHORS, n_init=3, random_state=0).fit(np.log(boxes)).cluster_centers_
    found = np.maximum(np.exp(means).round().astype(int), 1)
    return found[np.argsort(found.prod(axis=1), kind="stable")].tolist()


def _classifier(cfg: CfgNode, records: Sequence[Record], given: Collection[str]) -> tuple[dict[str, Any], list]:
    there = float(np.median(np.array(read_sizes(records[:: max(1, len(records) // 200)])).min(axis=1)))
    largest = 64 if _on_cpu(cfg) else 128
    side = cfg.INPUT.IMAGE_SIZE if "INPUT.IMAGE_SIZE" in given else int(np.clip(8 * math.ceil(there / 8), 24, largest))
    name, stem = ("small_resnet", "cifar") if _on_cpu(cfg) else ("resnet18", "cifar" if side <= 64 else "imagenet")
    pairs = {
        "INPUT.IMAGE_SIZE": side, "INPUT.CROP_PADDING": side // 8,
        "MODEL.CLASSIFIER.NAME": name, "MODEL.CLASSIFIER.STEM": stem,
    }  # fmt: skip
    return pairs, [("model", f"{name}; images of {side} x {side} pixels (median of the shorter sides: {there:.0f})")]
