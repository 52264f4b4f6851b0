"""What a detector says of the images it was trained on.

N images, F features, B images of a batch, D detections and M labelled boxes of all images, K classes.

Images come at test-time resolution, not augmented. A batch holds images of one size only, so that nothing is padded
because of its neighbours and what is said of an image depends on no other image.
"""

from array import array
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import replace
from typing import Any
from unittest import mock

import numpy as np
import torch
from detectron2.config import CfgNode
from detectron2.data import DatasetFromList, MapDataset, MetadataCatalog
from detectron2.data.build import trivial_batch_collator
from detectron2.layers import ShapeSpec
from detectron2.modeling import Backbone, GeneralizedRCNN
from detectron2.modeling.meta_arch.dense_detector import DenseDetector
from detectron2.structures import Instances
from detectron2.utils import comm
from detectron2.utils.events import EventStorage
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.dropout import _DropoutNd
from torch.utils.data import DataLoader

from ..data.mapper import QuickMapper
from ..data.pruned_datasets import corners
from ..data.serialized_records import SerializedRecords
from ..data.small_copies import copies_of
from ..modeling.per_image import runs_one_at_a_time
from ..pruning.matching import Detections, Labels, agreement, confirmed_ones
from ..pruning.statistics import Statistics
from .console import counted
from .distributed import unwrapped
from .precision import autocast

FAINTEST, MOST = 0.01, 100  # detections score above it; at most so many of an image
# Detections that find a box score above it. Those of a YOLOv3-Tiny after 200 iterations on the demo set that do are
# about as many as there are boxes; above 0.5 there is a 7th.
SCORE = 0.2


def labelled(records: Sequence[dict]) -> Statistics:
    """What is known of N images before a model has seen them."""
    return Statistics.of_labels(
        [record["dataset_name"] for record in records],
        [str(record["image_id"]) for record in records],
        boxes_of_records(records),
        list(MetadataCatalog.get(records[0]["dataset_name"]).thing_classes),
    )


def statistics_of(cfg: CfgNode, model: nn.Module, records: Sequence[dict]) -> Statistics:
    """What a trained detector says of N images.

    Args:
        model: returns per-image losses (`per_image.return_per_image_losses`); left as it was.

    Raises:
        ValueError: it has not Detectron2's backbone and preprocessing, or no threshold that could be lowered.
    """
    losses, features = losses_and_features_of(cfg, model, records)
    found = detections_of(cfg, model, records)
    return replace(labelled(records), losses=losses, features=features, found=found)


@torch.no_grad()
def losses_and_features_of(
    cfg: CfgNode, model: nn.Module, records: Sequence[dict]
) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """The training loss of each image, term by term, and the mean of the backbone's coarsest map over it.

    The coarsest map is res5 for YOLOv3-Tiny (512 features on ResNet-18, 2,048 on ResNet-50), res4 for R-CNNs of the C4
    kind, p6 of the feature pyramid for others, p7 for RetinaNet and FCOS. Cells that see padding only do not count.

    Normalisation layers use their running statistics, which stay as they are, and dropout is off. Losses that are
    divided by a running number of positives (RetinaNet, FCOS) are divided by the model's: in one that was loaded, as a
    proxy is, the one it was built with, since checkpoints do not hold it. R-CNNs see one image at a time, whose proposals
    are drawn from SEED.

    Returns:
        Losses (N,) float32 by the name of the term, and features (N, F) float32, in the order of `records`.

    Raises:
        ValueError: the model has not Detectron2's backbone and preprocessing.
    """
    model = unwrapped(model)
    check_backbone(model)
    losses: dict[str, np.ndarray] = {}
    features = np.empty((len(records), _coarsest(model)[1].channels), np.float32)
    maps: list[dict[str, Tensor]] = []
    watch = _backbone_of(model).register_forward_hook(lambda module, inputs, output: maps.append(output))
    # What R-CNNs draw of an image's proposals, and divide by, depends on those in its batch.
    size = 1 if isinstance(model, GeneralizedRCNN) else None
    try:
        with left_as_it_was(model):
            set_modes_for_losses(model)
            for indices, batch in batches_of(cfg, records, "Losses and features", size):
                maps.clear()
                for name, values in losses_of(cfg, model, batch).items():
                    losses.setdefault(name, np.zeros(len(records), np.float32))[indices] = values.float().cpu()
                features[indices] = _pooled(model, maps, batch)
    finally:
        watch.remove()
    return losses, features


@torch.no_grad()
def detections_of(
    cfg: CfgNode, model: nn.Module, records: Sequence[dict], score: float = FAINTEST, per_image: int = MOST
) -> Detections:
    """All that the detector sees in each image above a score, the faint as well, whatever the model's own threshold is.

    Overlapping boxes of one class are suppressed as the model always does; masks and keypoints are left out.

    Args:
        model: a detector of Detectron2, or one whose modules call their limits `test_score_thresh` and
            `max_detections_per_image` as well; left as it was.

    Returns:
        D detections in the order of `records`, in an image by falling score; boxes in pixels of the original image.

    Raises:
        ValueError: no part of the model has a threshold that could be lowered.
    """
    model = unwrapped(model)
    found: list[Instances] = [None] * len(records)
    with left_as_it_was(model), _limits_of_tests(model, score, per_image):
        model.eval()
        for indices, batch in batches_of(cfg, records, "Detections"):
            with _autocast(cfg, model):
                outputs = model(batch)
            for index, output in zip(indices, outputs):
                own = output["instances"].to("cpu")
                own = own[own.scores > score]  # models may have limits of their own, and another order
                found[index] = own[own.scores.argsort(descending=True, stable=True)[:per_image]]
    return Detections(
        np.concatenate([np.zeros((0, 4), np.float32), *(own.pred_boxes.tensor.numpy() for own in found)]),
        np.concatenate([np.zeros(0, np.float32), *(own.scores.float().numpy() for own in found)]),
        np.concatenate([np.zeros(0, np.int64), *(own.pred_classes.numpy() for own in found)]),
        np.repeat(np.arange(len(records)), [len(own) for own in found]),
    )


def found_boxes(cfg: CfgNode, model: nn.Module, records: Sequence[dict]) -> tuple[np.ndarray, np.ndarray]:
    """The share of each image's boxes that the detector finds, and how well it finds each box.

    Returns:
        (N,) float32 in [0, 1], see `shares_found`; (M,) float32, see `matching.agreement`.
    """
    labels, detections = boxes_of_records(records), detections_of(cfg, model, records)
    confident = detections.scores > SCORE
    shares = shares_found(labels, Detections(*(values[confident] for values in detections)), len(records))
    return shares, agreement(labels, detections)


def shares_found(labels: Labels, detections: Detections, num: int) -> np.ndarray:
    """The share of the boxes of each of N images that are found (`matching.confirmed_ones`), (N,) float32.

    Crowds count as if they were not annotated. An image without boxes has 1 if nothing is detected in it, else 0.
    """
    assert labels.crowds is not None
    labels = Labels(*(values[~labels.crowds] for values in labels[:3]))
    images = labels.images, detections.images, detections.images[confirmed_ones(labels, detections)]
    boxes, seen, found = (np.bincount(own, minlength=num) for own in images)
    return np.where(boxes > 0, found / np.maximum(boxes, 1), seen == 0).astype(np.float32)


def boxes_of_records(records: Sequence[dict]) -> Labels:
    """The annotated boxes of N dataset dicts, crowds as well, in pixels of the original images."""
    numbers = array("d")  # left, top, right, bottom, class, crowd and image of one box behind the other
    for image, record in enumerate(records):
        for own in record.get("annotations", []):
            numbers.extend((*corners(own), own["category_id"], bool(own.get("iscrowd", 0)), image))
    table = np.frombuffer(numbers, np.float64).reshape(-1, 7)
    classes, crowds, images = table[:, 4:].T
    return Labels(table[:, :4].copy(), classes.astype(np.int64), images.astype(np.int64), crowds.astype(bool))


def batches_of(
    cfg: CfgNode, records: Sequence[dict], what: str, size: int | None = None
) -> Iterator[tuple[list[int], Sequence[dict]]]:
    """All images, with their places in `records`, in batches of images of one size; with progress.

    As many at a time as a process is given in training, or `size`.
    """
    places = _places_by_size(records, size or _images_of_a_process(cfg))
    if isinstance(records, SerializedRecords):
        annotated: Any = records
    else:
        annotated = DatasetFromList([{"annotations": [], **record} for record in records], copy=False)
    # Detectron2's mapper for testing, but that it keeps the annotations.
    mapper = QuickMapper(**{**QuickMapper.from_config(cfg, is_train=False), "is_train": True}).reading(copies_of(cfg))
    loader = DataLoader(
        MapDataset(annotated, mapper),
        batch_sampler=places,
        collate_fn=trivial_batch_collator,
        num_workers=cfg.DATALOADER.NUM_WORKERS,
        generator=torch.Generator(),  # else it draws from torch's own
    )
    with counted(len(records), what, "image") as progress:
        for indices, batch in zip(places, loader):
            yield indices, batch
            progress.update(len(batch))


def _places_by_size(records: Sequence[dict], batch_size: int) -> list[list[int]]:
    """Places of at most `batch_size` records of one height and width each."""
    places_of: dict[tuple[int, int], list[int]] = {}
    for i, record in enumerate(records):
        if not {"height", "width"} <= record.keys():
            raise ValueError(
                f"{record['file_name']} has no height and width in its record: add them to the data set's dicts"
            )
        places_of.setdefault((record["height"], record["width"]), []).append(i)
    return [
        places[start : start + batch_size]
        for places in places_of.values()
        for start in range(0, len(places), batch_size)
    ]


def _images_of_a_process(cfg: CfgNode) -> int:
    """In a training step."""
    return max(1, cfg.SOLVER.IMS_PER_BATCH // comm.get_world_size())


def losses_of(cfg: CfgNode, model: nn.Module, batch: Sequence[dict]) -> dict[str, Tensor]:
    """What the model returns in training, the same for the same batch at any time."""
    torch.manual_seed(max(cfg.SEED, 0))
    # Step 1: models that draw pictures every few steps do so at step 0.
    with _normalizer_held(cfg, model, len(batch)), EventStorage(1), _autocast(cfg, model):
        return model(batch)


def set_modes_for_losses(model: nn.Module) -> None:
    """Training mode for what computes losses, evaluation mode for what depends on chance or batch."""
    model.train()
    _backbone_of(model).eval()
    for module in model.modules():
        if isinstance(module, (_NormBase, _DropoutNd)):
            module.eval()


def _backbone_of(model: nn.Module) -> Backbone:
    return model.backbone


def _coarsest(model: nn.Module) -> tuple[str, ShapeSpec]:
    """The backbone's map of the largest stride, of these the one with the most channels."""
    shapes = _backbone_of(model).output_shape()
    return max(shapes.items(), key=lambda item: (item[1].stride, item[1].channels))


def _pooled(model: nn.Module, maps: list[dict[str, Tensor]], batch: Sequence[dict]) -> np.ndarray:
    """Mean of the coarsest map over images of one size, whose cells see more than padding, (B, F) float32.

    Args:
        maps: what the backbone gave: of the batch, or of each image, where the model takes its images one at a time.
    """
    name, shape = _coarsest(model)
    height, width = (-(-side // shape.stride) for side in batch[0]["image"].shape[-2:])
    pooled = [own[name][:, :, :height, :width].float().mean((2, 3)).cpu().numpy() for own in maps]
    if sum(map(len, pooled)) != len(batch):
        raise ValueError(
            f"{type(model).__name__}.backbone was called {len(pooled)} times for {len(batch)} images; "
            "their features are there only if it is called once for a batch, or once for each image"
        )
    return np.concatenate(pooled)


@contextmanager
def left_as_it_was(model: nn.Module) -> Iterator[None]:
    """Gives the modules of the model their modes back, and torch its random numbers."""
    before = {module: module.training for module in model.modules()}
    device = next(model.parameters()).device
    try:
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            yield
    finally:
        for module, training in before.items():
            module.training = training


@contextmanager
def _limits_of_tests(model: nn.Module, score: float, number: int) -> Iterator[None]:
    """Lets the model return boxes alone, those that score above `score`, at most `number` an image."""
    wanted = {
        "test_score_thresh": score,
        "max_detections_per_image": number,
        "test_topk_per_image": number,
        "mask_on": False,  # R-CNNs would compute them for every box
        "keypoint_on": False,
    }
    own = [(module, name) for module in model.modules() for name in wanted if name in vars(module)]
    if not any(name == "test_score_thresh" for _, name in own):
        raise ValueError(
            f"no part of {type(model).__name__} has an attribute test_score_thresh, so its faint detections cannot "
            "be had: let the module that drops boxes by their score keep its threshold under that name"
        )
    with ExitStack() as stack:
        for module, name in own:
            stack.enter_context(mock.patch.object(module, name, wanted[name]))
        yield


@contextmanager
def _normalizer_held(cfg: CfgNode, model: nn.Module, num_images: int) -> Iterator[None]:
    """Keeps a dense detector's running number of positives where it is, but for so many images.

    It is that of a process's images in training, or of a single one where the model takes them one at a time.
    """
    share = 1.0 if runs_one_at_a_time(model) else num_images / _images_of_a_process(cfg)

    def share_of_images(name: str, value: float, initial_value: float, momentum: float = 0.9):
        return getattr(model, name, initial_value) * share

    if isinstance(model, DenseDetector):
        with mock.patch.object(model, "_ema_update", share_of_images):
            yield
    else:
        yield


def _autocast(cfg: CfgNode, model: nn.Module) -> AbstractContextManager[object]:
    return autocast(next(model.parameters()).device, cfg.SOLVER.AMP.ENABLED)


def check_backbone(model: nn.Module) -> None:
    """
    Raises:
        ValueError: the model has not Detectron2's backbone and preprocessing.
    """
    lacking = [name for name in ("backbone", "preprocess_image") if not hasattr(model, name)]
    if not lacking and not hasattr(model.backbone, "output_shape"):
        lacking = ["backbone.output_shape"]
    if lacking:
        raise ValueError(
            f"{type(model).__name__} has no {' and no '.join(lacking)}, as Detectron2's detectors have: "
            "what looks at features, gradients or final losses cannot be used with it"
        )
