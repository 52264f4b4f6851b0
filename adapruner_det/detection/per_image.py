"""Making a detector return its losses image by image.

N images in the batch, R proposals of which image i has R_i, M masks of which image i has M_i.

A training forward pass of Detectron2 ends in methods that reduce over the whole batch. Here these
methods of one model's modules are replaced by ones that hand the native method the predictions and
targets of one image after the other, and rescale its answers so that their mean is the native loss
of the batch. The network itself runs once for the batch, as before; Detectron2's classes stay as
they are.

Any other model runs its images one at a time, unless its per-image losses are registered. In
this example the native ``losses`` of MyHead is a mean over the images::

    from types import MethodType
    from adapruner_det.detection.per_image import image_by_image, install_per_image_losses

    def losses(head, predictions, targets):
        one = lambda i: type(head).losses(head, predictions[i : i + 1], targets[i : i + 1])
        return image_by_image(one, len(targets))

    @install_per_image_losses.register
    def _(model: MyDetector):
        model.head.losses = MethodType(losses, model.head)

A model may also have an attribute ``per_image_losses``, which is then set to True.
"""
import logging
from collections import defaultdict
from functools import singledispatch
from types import MethodType
from typing import Callable, Dict, List, Sequence, Tuple

import torch
from detectron2.modeling import GeneralizedRCNN, RetinaNet
from detectron2.modeling.meta_arch.fcos import FCOS
from detectron2.modeling.proposal_generator import RPN
from detectron2.modeling.roi_heads import (
    CascadeROIHeads,
    FastRCNNOutputLayers,
    Res5ROIHeads,
    StandardROIHeads,
)
from detectron2.modeling.roi_heads.mask_head import BaseMaskRCNNHead, mask_rcnn_loss
from detectron2.structures import Boxes, Instances
from detectron2.utils.events import EventStorage, get_event_storage, has_event_storage
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

logger = logging.getLogger(__name__)

PER_IMAGE_FLAG = "per_image_losses"


class NotCovered(Exception):
    """Why a model's losses cannot be taken apart; its images then run one at a time."""


def return_per_image_losses(model: nn.Module) -> None:
    """Makes the training forward pass of `model` return a (N,) float32 vector for each loss term.

    The mean of each vector over the N images of the batch is the term as the model computes it
    otherwise. Where the images have to run one at a time (a warning says so), each value is what
    the model computes for a batch of that image alone.

    Args:
        model: changed in place; may be wrapped in DistributedDataParallel.

    Raises:
        ValueError: the model uses the federated loss.
    """
    inner = model.module if isinstance(model, DistributedDataParallel) else model
    if any(getattr(module, "use_fed_loss", False) for module in inner.modules()):
        raise ValueError(
            "the federated loss draws its classes from the whole batch, so no image has a loss of "
            "its own: set MODEL.ROI_BOX_HEAD.USE_FED_LOSS to False to prune"
        )
    if hasattr(inner, PER_IMAGE_FLAG):
        setattr(inner, PER_IMAGE_FLAG, True)
        return
    try:
        install_per_image_losses(inner)
    except NotCovered as reason:
        logger.warning(
            f"{reason}: pruning runs its images one at a time, which costs a forward pass an "
            "image, and BatchNorm in training mode sees single images. To avoid this, register "
            "per-image losses (see adapruner_det/detection/per_image.py)."
        )
        inner.forward = MethodType(forward_one_at_a_time, inner)


@singledispatch
def install_per_image_losses(model: nn.Module) -> None:
    """Changes the methods of `model` so that its training forward pass returns (N,) vectors.

    Dispatches on the class of `model`; ``install_per_image_losses.register`` adds a class.

    Raises:
        NotCovered: before anything was changed, if the model cannot do that.
    """
    raise NotCovered(f"no per-image losses are registered for {type(model).__name__}")


@install_per_image_losses.register
def _install_rcnn(model: GeneralizedRCNN) -> None:
    _check_native(model, (GeneralizedRCNN,), "forward")
    overrides = []
    if model.proposal_generator is not None:
        _check_native(model.proposal_generator, (RPN,), "forward", "losses")
        overrides.append((model.proposal_generator, "losses", _rpn_losses))

    heads = model.roi_heads
    classes = (Res5ROIHeads, StandardROIHeads, CascadeROIHeads)
    _check_native(heads, classes, "forward", "_forward_box", "_forward_mask")
    if getattr(heads, "keypoint_on", False):
        raise NotCovered("the loss of keypoints is not split into images")
    predictors = heads.box_predictor
    for predictor in predictors if isinstance(predictors, nn.ModuleList) else [predictors]:
        methods = ("losses", "sigmoid_cross_entropy_loss", "box_reg_loss")
        _check_native(predictor, (FastRCNNOutputLayers,), *methods)
        overrides.append((predictor, "losses", _fast_rcnn_losses))
    if heads.mask_on:
        _check_native(heads.mask_head, (BaseMaskRCNNHead,), "forward")
        overrides.append((heads.mask_head, "forward", _mask_head_forward))

    for module, name, function in overrides:
        setattr(module, name, MethodType(function, module))


@install_per_image_losses.register(RetinaNet)
@install_per_image_losses.register(FCOS)
def _install_dense(model: nn.Module) -> None:
    methods = ("forward", "forward_training", "losses", "_ema_update")
    _check_native(model, (RetinaNet, FCOS), *methods)
    model.losses = MethodType(_dense_losses, model)


def _check_native(module: nn.Module, classes: Sequence[type], *methods: str) -> None:
    """Raises NotCovered unless `module` has all `methods` from one of `classes`.

    A subclass that changes one of them may normalise its losses in another way.
    """
    own = type(module)
    for cls in classes:
        if isinstance(module, cls) and all(
            getattr(own, name, None) is getattr(cls, name, None) for name in methods
        ):
            return
    names = " or ".join(cls.__name__ for cls in classes)
    raise NotCovered(f"{own.__name__} does not have the {' and '.join(methods)} of {names}")


def image_by_image(
    losses_of_image: Callable[[int], Dict[str, Tensor]], num_images: int
) -> Dict[str, Tensor]:
    """The (N,) vector of each loss term, from a function that gives image i's scalars.

    What the function logs as scalars into Detectron2's event storage is logged once, as the mean
    over the images that logged it. (Logging natively would mean computing every loss twice: counts
    an image come out the same, and of accuracies each image has an equal share.) Pictures are not
    passed on. A term that an image lacks is 0.
    """
    outer = get_event_storage() if has_event_storage() else None
    losses, storages = [], []
    for i in range(num_images):
        with EventStorage(outer.iter if outer else 0) as storage:
            losses.append(losses_of_image(i))
        storages.append(storage)
    if outer:
        _log_means(outer, storages)
    any_of = {name: loss for own in losses for name, loss in own.items()}
    return {
        name: torch.stack([own.get(name, loss.new_zeros(())) for own in losses])
        for name, loss in any_of.items()
    }


def _log_means(outer: EventStorage, storages: Sequence[EventStorage]) -> None:
    values, hints = defaultdict(list), {}
    for storage in storages:
        hints.update(storage.smoothing_hints())
        for name, (value, _) in storage.latest().items():
            values[name].append(value)
    for name, own in values.items():
        outer.put_scalar(name, sum(own) / len(own), smoothing_hint=hints[name])


def _split_images(levels: Sequence[Tensor]) -> List[Tuple[Tensor, ...]]:
    """For each image its levels, as (1, ...) float32, from levels of shape (N, ...)."""
    # split, since its backward fills one gradient; indexing would fill one of full size an image.
    return list(zip(*(level.float().split(1) for level in levels)))


def _shares(counts: Sequence[int]) -> List[float]:
    """What turns the mean over an image's own items into its part of the mean over all items."""
    return [len(counts) * count / max(sum(counts), 1) for count in counts]


def _rpn_losses(
    self: RPN,
    anchors: List[Boxes],
    pred_objectness_logits: List[Tensor],
    gt_labels: List[Tensor],
    pred_anchor_deltas: List[Tensor],
    gt_boxes: List[Tensor],
) -> Dict[str, Tensor]:
    """Native: the sum over the anchors divided by N times a constant, so no rescaling."""
    logits, deltas = _split_images(pred_objectness_logits), _split_images(pred_anchor_deltas)

    def losses_of_image(i):
        labels, boxes = gt_labels[i : i + 1], gt_boxes[i : i + 1]
        return type(self).losses(self, anchors, logits[i], labels, deltas[i], boxes)

    return image_by_image(losses_of_image, len(gt_labels))


def _fast_rcnn_losses(
    self: FastRCNNOutputLayers, predictions: Tuple[Tensor, Tensor], proposals: List[Instances]
) -> Dict[str, Tensor]:
    """Native: both terms are divided by R, of a slice by R_i. Each stage of a cascade has its R."""
    counts = [len(own) for own in proposals]
    shares = _shares(counts)
    scores, deltas = (values.float().split(counts) for values in predictions)

    def losses_of_image(i):
        losses = type(self).losses(self, (scores[i], deltas[i]), [proposals[i]])
        # Without proposals the sigmoid loss is a constant: the sum of nothing ties it to the graph.
        zero = scores[i][:0].sum()
        return {name: loss * shares[i] + zero for name, loss in losses.items()}

    return image_by_image(losses_of_image, len(proposals))


def _mask_head_forward(self: BaseMaskRCNNHead, x, instances: List[Instances]):
    """Native: the mean over M masks and their pixels, of a slice over M_i."""
    if not self.training:
        return type(self).forward(self, x, instances)
    counts = [len(own) for own in instances]
    shares = _shares(counts)
    logits = self.layers(x).float().split(counts)

    def losses_of_image(i):
        loss = mask_rcnn_loss(logits[i], [instances[i]])
        return {"loss_mask": loss * (self.loss_weight * shares[i])}

    return image_by_image(losses_of_image, len(instances))


def _dense_losses(
    self,
    anchors: List[Boxes],
    pred_logits: List[Tensor],
    gt_labels: List[Tensor],
    pred_anchor_deltas: List[Tensor],
    gt_boxes: List[Tensor],
    *pred_centerness: List[Tensor],
) -> Dict[str, Tensor]:
    """RetinaNet's and FCOS's. Native: the sum over the anchors divided by a running mean.

    The running mean of the batch's number of positives moves once: the slices get 1 in its place.
    """
    num_images = len(gt_labels)
    logits, deltas = _split_images(pred_logits), _split_images(pred_anchor_deltas)
    centerness = [_split_images(levels) for levels in pred_centerness]
    updates = []

    def hold_normalizer(*arguments):
        updates.append(arguments)
        return 1.0

    def sums_of_image(i):
        labels, boxes = gt_labels[i : i + 1], gt_boxes[i : i + 1]
        rest = [levels[i] for levels in centerness]
        return type(self).losses(self, anchors, logits[i], labels, deltas[i], boxes, *rest)

    self._ema_update = hold_normalizer
    try:
        sums = image_by_image(sums_of_image, num_images)
    finally:
        del self._ema_update
    name, _, *initial_value = updates[0]
    labels = torch.stack(gt_labels)
    positives = ((labels >= 0) & (labels != self.num_classes)).sum().item()
    normalizer = self._ema_update(name, max(positives, 1), *initial_value)
    return {term: values * (num_images / normalizer) for term, values in sums.items()}


def forward_one_at_a_time(self: nn.Module, batched_inputs: List[dict], *args, **kwargs):
    """The forward pass of a model whose losses cannot be taken apart, bound to it as a method."""
    if not self.training:
        return type(self).forward(self, batched_inputs, *args, **kwargs)

    def losses_of_image(i):
        losses = type(self).forward(self, batched_inputs[i : i + 1], *args, **kwargs)
        return {name: loss.float().reshape(()) for name, loss in losses.items()}

    return image_by_image(losses_of_image, len(batched_inputs))
