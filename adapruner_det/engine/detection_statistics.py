"""What a detector tells other pruning methods of the images it was trained on.

N images, F features, B images of a batch, D detections and M boxes of an image, K classes.

Images come at test-time resolution, not augmented. A batch holds images of one size only, so that
nothing is padded because of its neighbours and what is said of an image depends on no other image:
sets of mixed sizes work, in smaller batches.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from fnmatch import fnmatchcase
from typing import Any

import numpy as np
import torch
from detectron2.config import CfgNode
from detectron2.data import DatasetFromList, DatasetMapper, MapDataset
from detectron2.data.build import trivial_batch_collator
from detectron2.layers import ShapeSpec
from detectron2.modeling import GeneralizedRCNN, RetinaNet
from detectron2.modeling.meta_arch.dense_detector import DenseDetector
from detectron2.modeling.meta_arch.fcos import FCOS
from detectron2.structures import BoxMode, Instances
from detectron2.utils import comm
from detectron2.utils.events import EventStorage
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.dropout import _DropoutNd
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader
from torchvision.ops import box_iou
from tqdm import tqdm

from ..data.mapper import quick
from ..modeling.yolov3_tiny import YOLOv3Tiny
from ..pruning.matching import Detections, Labels

# Patterns of the names of the parameters that make up the last layers; a model may lack some.
LAST_LAYERS = {
    YOLOv3Tiny: ("head.fine_output.*", "head.coarse_output.*"),
    RetinaNet: ("head.cls_score.*", "head.bbox_pred.*"),
    FCOS: ("head.cls_score.*", "head.bbox_pred.*", "head.ctrness.*"),
    GeneralizedRCNN: (
        "proposal_generator.rpn_head.objectness_logits.*",
        "proposal_generator.rpn_head.anchor_deltas.*",
        "roi_heads.box_predictor.*",  # of all stages, if it is a cascade
        "roi_heads.mask_head.predictor.*",
        "roi_heads.keypoint_head.score_lowres.*",
    ),
}
# What detectors of Detectron2 are limited by when they are tested, in the model or in its last layers.
_LIMITS = {"test_score_thresh": "score", "max_detections_per_image": "number", "test_topk_per_image": "number"}
_BESIDES_BOXES = ("mask_on", "keypoint_on")  # what R-CNNs would compute for every one of them
SIZES = (32**2, 96**2)  # pixels of the original image at which COCO's medium and large boxes begin
# Detections have to score above it, unless the caller says otherwise. Those of a YOLOv3-Tiny after 200
# iterations on the demo set that do are about as many as there are boxes; above 0.5 there is a 7th.
SCORE = 0.2


@torch.no_grad()
def features_of(cfg: CfgNode, model: nn.Module, records: list[dict]) -> np.ndarray:
    """The mean of the backbone's coarsest map over each image.

    That is res5 for YOLOv3-Tiny (512 features on ResNet-18, 2,048 on ResNet-50) and for R-CNNs of
    the DC5 kind, res4 for those of the C4 kind (1,024), p6 of the feature pyramid for Faster, Mask
    and Cascade R-CNN and p7 for RetinaNet and FCOS (as many as the pyramid has channels, 256).
    Cells that see padding only do not count.

    Args:
        model: a trained detector; left as it was.
        records: N dataset dicts.

    Returns:
        (N, F) float32, in the order of `records`.

    Raises:
        ValueError: the model has not Detectron2's backbone and preprocessing.
    """
    model = _unwrapped(model)
    _check_backbone(model)
    features = np.empty((len(records), _coarsest(model)[1].channels), np.float32)
    with _modes_restored(model):
        model.eval()
        for indices, batch in _batches(cfg, records, "Features"):
            with _autocast(cfg, model):
                maps = model.backbone(model.preprocess_image(batch).tensor)
            features[indices] = _pooled(model, maps, batch)
    return features


def gradient_norms_of(cfg: CfgNode, model: nn.Module, records: list[dict]) -> np.ndarray:
    """Norm of the gradient of each image's training loss with respect to the head's last layers.

    GraNd (Paul, Ganguli and Dziugaite, "Deep Learning on a Data Diet: Finding Important Examples
    Early in Training", 2021), restricted to the parameters of LAST_LAYERS. The backbone runs
    batch by batch without a graph. The head, whose cost does not depend on how its images are
    grouped, runs image by image on what the backbone gave, so that the loss is the native one of a
    batch of this image alone, and no gradient is ever computed for other images.

    Normalisation layers use their running statistics, which stay as they are, and dropout is off.
    Proposals and anchors are drawn from SEED, anew for each image. Losses that are divided by a
    running number of positives (RetinaNet, FCOS) are divided by its present value for every image.

    Args:
        model: a detector; left as it was.
        records: N dataset dicts with annotations, as it trains on them.

    Returns:
        (N,) float32, in the order of `records`.

    Raises:
        ValueError: the last layers of such a model are not known, or it has not Detectron2's
            backbone and preprocessing.
        FloatingPointError: a norm is not finite.
    """
    model = _unwrapped(model)
    _check_backbone(model)
    parameters = last_layers(model)
    norms = np.empty(len(records), np.float32)
    with _modes_restored(model), _normalizer_held(cfg, model), _random_state_restored(model):
        _set_modes_for_losses(model)
        for indices, batch in _batches(cfg, records, "Gradients"):
            losses = _losses_one_at_a_time(cfg, model, batch)
            norms[indices] = torch.stack([_norm(loss, parameters) for loss in losses]).cpu().numpy()
    for record, norm in zip(records, norms):
        if not np.isfinite(norm):
            raise FloatingPointError(
                f"the gradient of the loss of {record['file_name']} has the norm {norm}: the "
                "detector has diverged. A lower SOLVER.BASE_LR or SOLVER.CLIP_GRADIENTS usually helps"
            )
    return norms


@torch.no_grad()
def losses_and_features_of(cfg: CfgNode, model: nn.Module, records: list[dict]) -> tuple[dict[str, Tensor], np.ndarray]:
    """The training loss of each image, term by term, and `features_of`, in one pass.

    Normalisation layers and running numbers of positives: as in `gradient_norms_of`. R-CNNs see one image
    at a time, whose proposals are drawn from SEED.

    Args:
        model: a detector that returns per-image losses (`per_image.return_per_image_losses`); left as it
            was.
        records: N dataset dicts with annotations, as it trains on them.

    Returns:
        Losses (N,) float32 on the CPU by the name of the term, and features (N, F) float32, in the order
        of `records`.

    Raises:
        ValueError: the model has not Detectron2's backbone and preprocessing.
    """
    model = _unwrapped(model)
    _check_backbone(model)
    found: dict[str, Tensor] = {}
    features = np.empty((len(records), _coarsest(model)[1].channels), np.float32)
    with _modes_restored(model), _random_state_restored(model):
        _set_modes_for_losses(model)
        # What R-CNNs draw of an image's proposals, and divide by, depends on those in its batch.
        size = 1 if isinstance(model, GeneralizedRCNN) else None
        for indices, batch in _batches(cfg, records, "Losses and features", size):
            torch.manual_seed(max(cfg.SEED, 0))
            # Step 1: models that draw pictures every few steps do so at step 0.
            with _normalizer_held(cfg, model, len(batch)), EventStorage(1), _autocast(cfg, model):
                with _outputs(model.backbone) as outputs:
                    losses = model(batch)
            for name, values in losses.items():
                found.setdefault(name, torch.zeros(len(records)))[indices] = values.float().cpu()
            # Several, where the model can only take its images one at a time.
            pooled = [_pooled(model, maps, batch) for maps in outputs]
            if sum(map(len, pooled)) != len(batch):
                raise ValueError(
                    f"{type(model).__name__}.backbone was called {len(pooled)} times for {len(batch)} images; "
                    "their features are there only if it is called once for a batch, or once for each image"
                )
            features[indices] = np.concatenate(pooled)
    return found, features


def last_layers(model: nn.Module) -> list[nn.Parameter]:
    """The parameters of the layers that a detector's predictions come out of.

    They are those that LAST_LAYERS has for the model's class, or those that the model names in an
    attribute `last_layers`. To guess them would be of no use: in which order a head's modules run
    is not written anywhere.

    Raises:
        ValueError: neither is there, or a name that the attribute gives fits no parameter.
    """
    patterns = getattr(model, "last_layers", None)
    parameters = dict(model.named_parameters())
    for pattern in patterns or ():
        if not any(fnmatchcase(name, pattern) for name in parameters):
            raise ValueError(
                f"{type(model).__name__}.last_layers has {pattern!r}, which fits none of its "
                f"parameters, such as {', '.join(list(parameters)[-4:])}"
            )
    if not patterns:
        patterns = next((own for cls, own in LAST_LAYERS.items() if isinstance(model, cls)), ())
    chosen = [
        parameter for name, parameter in parameters.items() if any(fnmatchcase(name, pattern) for pattern in patterns)
    ]
    if not chosen:
        raise ValueError(
            f"it is not known which layers of {type(model).__name__} its predictions come out of: give "
            "the class an attribute last_layers with patterns of their parameters' names, such as "
            f'last_layers = ("head.output.*",). Its parameters end with {", ".join(list(parameters)[-4:])}'
        )
    return chosen


@torch.no_grad()
def found_boxes(
    cfg: CfgNode, model: nn.Module, records: list[dict], iou: float = 0.5, score: float = SCORE
) -> np.ndarray:
    """The share of each image's boxes that the detector finds; see `share_found`.

    Crowds count as if they were not annotated. An image without boxes has 1 if nothing is detected
    in it, else 0.

    Args:
        model: a detector; left as it was.
        records: N dataset dicts with annotations.
        iou: lowest overlap of a detection and the box it finds.
        score: detections have to score above it. What the model itself does not return, by its
            SCORE_THRESH_TEST and TEST.DETECTIONS_PER_IMAGE, is not there either.

    Returns:
        (N,) float32 in [0, 1], in the order of `records`.
    """
    model = _unwrapped(model)
    shares = np.empty(len(records), np.float32)
    with _modes_restored(model):
        model.eval()
        for indices, batch in _batches(cfg, records, "Found boxes"):
            with _autocast(cfg, model):
                outputs = model(batch)
            for index, output in zip(indices, outputs):
                detections = output["instances"]
                detections = detections[detections.scores > score]
                shares[index] = share_found(*_truth(records[index]), detections.to("cpu"), iou)
    return shares


@torch.no_grad()
def detections_of(
    cfg: CfgNode, model: nn.Module, records: list[dict], score: float = 0.01, per_image: int = 100
) -> Detections:
    """All that the detector sees in each image, the faint as well: what doubt about labels begins with.

    A young detector is sure of nothing, so that its own threshold would hide most of what it has learnt.
    Overlapping boxes of one class are suppressed as the model always does; masks and keypoints are left out.

    Args:
        model: a detector of Detectron2, or one whose modules call their limits `test_score_thresh` and
            `max_detections_per_image` as well; left as it was.
        records: N dataset dicts.
        score: detections score above it, whatever the model's own threshold is.
        per_image: at most so many of each image, those that score highest.

    Returns:
        D detections in the order of `records`, in an image by falling score; boxes in pixels of the original image.

    Raises:
        ValueError: no part of the model has a threshold that could be lowered.
    """
    model = _unwrapped(model)
    found: list[Instances] = [None] * len(records)
    with _modes_restored(model), _limits_of_tests(model, score, per_image):
        model.eval()
        for indices, batch in _batches(cfg, records, "Detections"):
            with _autocast(cfg, model):
                outputs = model(batch)
            for index, output in zip(indices, outputs):
                found[index] = _best(output["instances"].to("cpu"), score, per_image)
    return Detections(
        np.concatenate([np.zeros((0, 4), np.float32), *(own.pred_boxes.tensor.numpy() for own in found)]),
        np.concatenate([np.zeros(0, np.float32), *(own.scores.float().numpy() for own in found)]),
        np.concatenate([np.zeros(0, np.int64), *(own.pred_classes.numpy() for own in found)]),
        np.repeat(np.arange(len(records)), [len(own) for own in found]),
    )


def boxes_of_records(records: list[dict]) -> Labels:
    """The annotated boxes of N dataset dicts, crowds as well, in pixels of the original images."""
    annotations = [a for record in records for a in record.get("annotations", [])]
    counts = [len(record.get("annotations", [])) for record in records]
    return Labels(
        _boxes(annotations),
        np.array([a["category_id"] for a in annotations], np.int64),
        np.repeat(np.arange(len(records)), counts),
        np.array([bool(a.get("iscrowd", 0)) for a in annotations], bool),
    )


def share_found(boxes: np.ndarray, classes: np.ndarray, detections: Instances, iou: float) -> float:
    """The share of the boxes of one image that are found.

    By falling score, each detection finds that box of its class which it overlaps most of those not
    found yet, provided that it overlaps it by at least `iou`. (As COCO's evaluation does.)

    Args:
        boxes: (M, 4), XYXY in pixels of the original image.
        classes: (M,).
        detections: D with `pred_boxes` in the same pixels, `scores` and `pred_classes`.

    Returns:
        If M is 0: 1 if D is 0, else 0.
    """
    if len(boxes) == 0:
        return float(len(detections) == 0)
    detections = detections[detections.scores.argsort(descending=True, stable=True)]
    overlaps = box_iou(detections.pred_boxes.tensor.double(), torch.from_numpy(boxes)).numpy()
    same_class = detections.pred_classes.numpy()[:, None] == classes
    overlaps = np.where(same_class & (overlaps >= iou), overlaps, 0)
    overlaps = overlaps[overlaps.any(axis=1)]  # only those that may find something take a turn
    found = 0
    for of_detection in overlaps:
        best = of_detection.argmax()
        if of_detection[best] > 0:
            found += 1
            overlaps[:, best] = 0
    return found / len(boxes)


def labels_of_records(records: list[dict], num_classes: int) -> np.ndarray:
    """The class that most boxes of each image have; of equally many the one with the lowest id.

    Crowds do not count.

    Args:
        records: N dataset dicts.
        num_classes: K.

    Returns:
        (N,) int64; K for an image without boxes.

    Raises:
        ValueError: a box has a class outside 0 to K - 1.
    """
    labels = np.full(len(records), num_classes)
    for i, record in enumerate(records):
        classes = [annotation["category_id"] for annotation in _annotations(record)]
        if any(not 0 <= cls < num_classes for cls in classes):
            raise ValueError(
                f"{record['file_name']} has boxes of the classes {sorted(set(classes))}, but there are "
                f"{num_classes}, counted from 0"
            )
        if classes:
            labels[i] = np.bincount(classes).argmax()
    return labels


def _annotations(record: dict) -> list[dict]:
    """Those of single objects, not of crowds."""
    return [a for a in record.get("annotations", []) if not a.get("iscrowd", 0)]


def objects_of_records(records: list[dict], num_classes: int) -> np.ndarray:
    """How many boxes of each class are small, medium and large by COCO's limits. Crowds do not count.

    Args:
        records: N dataset dicts.
        num_classes: K.

    Returns:
        (N, K, 3) int64.
    """
    counts = np.zeros((len(records), num_classes, len(SIZES) + 1), np.int64)
    for own, record in zip(counts, records):
        boxes, classes = _truth(record)
        areas = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
        np.add.at(own, (classes, np.digitize(areas, SIZES)), 1)
    return counts


def _truth(record: dict) -> tuple[np.ndarray, np.ndarray]:
    """(M, 4) float64 boxes, XYXY, and (M,) classes."""
    annotations = _annotations(record)
    return _boxes(annotations), np.array([a["category_id"] for a in annotations], np.int64)


def _boxes(annotations: list[dict]) -> np.ndarray:
    """(M, 4) float64, XYXY."""
    # float64 arrays, since BoxMode would round lists to float32
    boxes = [BoxMode.convert(np.array([a["bbox"]], np.float64), a["bbox_mode"], BoxMode.XYXY_ABS) for a in annotations]
    return np.concatenate([np.zeros((0, 4)), *boxes])


def _best(detections: Instances, score: float, number: int) -> Instances:
    """By falling score, for models that order them otherwise or have limits of their own."""
    detections = detections[detections.scores > score]
    return detections[detections.scores.argsort(descending=True, stable=True)[:number]]


def _batches(
    cfg: CfgNode, records: list[dict], what: str, size: int | None = None
) -> Iterator[tuple[list[int], list[dict]]]:
    """All images, with their places in `records`, in batches of images of one size; with progress.

    As many at a time as a process is given in training, or `size`.
    """
    places = _places_by_size(records, size or _images_of_a_process(cfg))
    annotated = [{"annotations": [], **record} for record in records]
    loader = DataLoader(
        MapDataset(DatasetFromList(annotated, copy=False), _mapper(cfg)),
        batch_sampler=places,
        collate_fn=trivial_batch_collator,
        num_workers=cfg.DATALOADER.NUM_WORKERS,
        generator=torch.Generator(),  # else it draws from torch's own
    )
    with tqdm(total=len(records), desc=what, unit="image", delay=5) as progress:
        for indices, batch in zip(places, loader):
            yield indices, batch
            progress.update(len(batch))


def _places_by_size(records: list[dict], batch_size: int) -> list[list[int]]:
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


def _mapper(cfg: CfgNode) -> DatasetMapper:
    """Detectron2's for testing, but that it keeps the annotations."""
    return quick(DatasetMapper(**{**DatasetMapper.from_config(cfg, is_train=False), "is_train": True}))


def _losses_one_at_a_time(cfg: CfgNode, model: nn.Module, batch: list[dict]) -> Iterator[Tensor]:
    """The training loss of each of B images of one size, whose graph begins behind the backbone."""
    with torch.no_grad(), _autocast(cfg, model):
        maps = model.backbone(model.preprocess_image(batch).tensor)
    for i, record in enumerate(batch):
        own = {name: values[i : i + 1] for name, values in maps.items()}
        torch.manual_seed(max(cfg.SEED, 0))
        # Step 1: models that draw pictures every few steps do so at step 0.
        with _replaced(model.backbone, "forward", lambda _, own=own: own), EventStorage(1):
            with _autocast(cfg, model):
                losses = model([record])
        yield sum(loss.float().sum() for loss in losses.values())


def _norm(loss: Tensor, parameters: Sequence[nn.Parameter]) -> Tensor:
    gradients = torch.autograd.grad(loss, parameters, materialize_grads=True)
    return torch.cat([own.flatten() for own in gradients]).norm()


def _set_modes_for_losses(model: nn.Module) -> None:
    """Training mode for what computes losses, evaluation mode for what depends on chance or batch."""
    model.train()
    model.backbone.eval()
    for module in model.modules():
        if isinstance(module, (_NormBase, _DropoutNd)):
            module.eval()


def _images_of_a_process(cfg: CfgNode) -> int:
    """In a training step."""
    return max(1, cfg.SOLVER.IMS_PER_BATCH // comm.get_world_size())


def _coarsest(model: nn.Module) -> tuple[str, ShapeSpec]:
    """The backbone's map of the largest stride, of these the one with the most channels."""
    shapes = model.backbone.output_shape()
    return max(shapes.items(), key=lambda item: (item[1].stride, item[1].channels))


def _pooled(model: nn.Module, maps: dict[str, Tensor], batch: list[dict]) -> np.ndarray:
    """Mean of the coarsest map over images of one size, whose cells see more than padding, (B, F) float32."""
    name, shape = _coarsest(model)
    height, width = (-(-side // shape.stride) for side in batch[0]["image"].shape[-2:])
    return maps[name][:, :, :height, :width].float().mean((2, 3)).cpu().numpy()


@contextmanager
def _outputs(module: nn.Module) -> Iterator[list[Any]]:
    """A list of what each call of the module returns."""
    found: list[Any] = []
    handle = module.register_forward_hook(lambda module, inputs, output: found.append(output))
    try:
        yield found
    finally:
        handle.remove()


@contextmanager
def _modes_restored(model: nn.Module) -> Iterator[None]:
    before = {module: module.training for module in model.modules()}
    try:
        yield
    finally:
        for module, training in before.items():
            module.training = training


@contextmanager
def _limits_of_tests(model: nn.Module, score: float, number: int) -> Iterator[None]:
    """Lets the model return boxes alone, those that score above `score`, at most `number` an image."""
    values = {"score": score, "number": number}
    wanted = {**{name: values[kind] for name, kind in _LIMITS.items()}, **dict.fromkeys(_BESIDES_BOXES, False)}
    before = [
        (module, name, vars(module)[name]) for module in model.modules() for name in wanted if name in vars(module)
    ]
    if not any(name == "test_score_thresh" for _, name, _ in before):
        raise ValueError(
            f"no part of {type(model).__name__} has an attribute test_score_thresh, so its faint detections cannot "
            "be had: let the module that drops boxes by their score keep its threshold under that name"
        )
    try:
        for module, name, _ in before:
            setattr(module, name, wanted[name])
        yield
    finally:
        for module, name, value in before:
            setattr(module, name, value)


@contextmanager
def _normalizer_held(cfg: CfgNode, model: nn.Module, num_images: int = 1) -> Iterator[None]:
    """Keeps a dense detector's running number of positives where it is, but for so many images."""

    def share_of_images(name: str, value: float, initial_value: float, momentum: float = 0.9):
        return getattr(model, name, initial_value) * num_images / _images_of_a_process(cfg)

    if isinstance(model, DenseDetector):
        with _replaced(model, "_ema_update", share_of_images):
            yield
    else:
        yield


@contextmanager
def _random_state_restored(model: nn.Module) -> Iterator[None]:
    device = _device(model)
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        yield


@contextmanager
def _replaced(owner: nn.Module, name: str, function: Any) -> Iterator[None]:
    """Gives this one object another method for the time."""
    before = vars(owner).get(name)  # there if somebody else has done the same
    setattr(owner, name, function)
    try:
        yield
    finally:
        delattr(owner, name)
        if before is not None:
            setattr(owner, name, before)


def _autocast(cfg: CfgNode, model: nn.Module) -> torch.autocast:
    return torch.autocast(_device(model).type, torch.bfloat16, enabled=cfg.SOLVER.AMP.ENABLED)


def _device(model: nn.Module) -> torch.device:
    return next(model.parameters()).device


def _unwrapped(model: nn.Module) -> nn.Module:
    return model.module if isinstance(model, DistributedDataParallel) else model


def _check_backbone(model: nn.Module) -> None:
    lacking = [name for name in ("backbone", "preprocess_image") if not hasattr(model, name)]
    if not lacking and not hasattr(model.backbone, "output_shape"):
        lacking = ["backbone.output_shape"]
    if lacking:
        raise ValueError(
            f"{type(model).__name__} has no {' and no '.join(lacking)}, as Detectron2's detectors have: "
            "what looks at features, gradients or final losses cannot be used with it"
        )
