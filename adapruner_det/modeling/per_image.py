"""Making a detector return its losses image by image.

A training forward pass of Detectron2 ends in methods that reduce over the whole batch. Here these
methods of one model's modules are replaced by those of per_image_losses.py, whose reduction stops
at the image and whose mean is the native loss. Detectron2's classes stay as they are.

Any other model runs its images one at a time, unless its per-image losses are registered. In
this example the native ``losses`` of MyHead is a mean over the images, called image by image::

    from types import MethodType
    from adapruner_det.modeling.per_image import image_by_image, install_per_image_losses

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
from collections.abc import Callable
from functools import singledispatch
from types import MethodType
from typing import Any

import torch
from detectron2.modeling import GeneralizedRCNN, RetinaNet
from detectron2.modeling.meta_arch.fcos import FCOS
from detectron2.modeling.proposal_generator import RPN
from detectron2.modeling.roi_heads import CascadeROIHeads, FastRCNNOutputLayers, Res5ROIHeads, StandardROIHeads
from detectron2.modeling.roi_heads.mask_head import BaseMaskRCNNHead
from detectron2.utils.events import EventStorage, get_event_storage, has_event_storage
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from .per_image_losses import BOX_LOSSES, fast_rcnn_losses, fcos_losses, mask_head_forward, retinanet_losses, rpn_losses

logger = logging.getLogger(__name__)


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
    if hasattr(inner, "per_image_losses"):
        inner.per_image_losses = True
        return
    try:
        install_per_image_losses(inner)
    except NotCovered as reason:
        logger.warning(
            f"{reason}: pruning runs its images one at a time, which costs a forward pass an "
            "image, and BatchNorm in training mode sees single images. To avoid this, register "
            "per-image losses (see adapruner_det/modeling/per_image.py)."
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
    overrides: list[tuple[Any, str, Callable[..., Any]]] = []
    if model.proposal_generator is not None:
        _check_native(model.proposal_generator, (RPN,), "forward", "losses")
        _check_box_loss(model.proposal_generator)
        overrides.append((model.proposal_generator, "losses", rpn_losses))

    heads = model.roi_heads
    classes = (Res5ROIHeads, StandardROIHeads, CascadeROIHeads)
    _check_native(heads, classes, "forward", "_forward_box", "_forward_mask")
    if getattr(heads, "keypoint_on", False):
        raise NotCovered("the loss of keypoints is not split into images")
    predictors = heads.box_predictor
    for predictor in predictors if isinstance(predictors, nn.ModuleList) else [predictors]:
        _check_native(predictor, (FastRCNNOutputLayers,), "losses", "sigmoid_cross_entropy_loss", "box_reg_loss")
        _check_box_loss(predictor)
        overrides.append((predictor, "losses", fast_rcnn_losses))
    if heads.mask_on:
        _check_native(heads.mask_head, (BaseMaskRCNNHead,), "forward")
        overrides.append((heads.mask_head, "forward", mask_head_forward))

    for module, name, function in overrides:
        setattr(module, name, MethodType(function, module))


@install_per_image_losses.register
def _install_retinanet(model: RetinaNet) -> None:
    _check_native(model, (RetinaNet,), "forward", "forward_training", "losses", "_ema_update")
    _check_box_loss(model)
    model.losses = MethodType(retinanet_losses, model)


@install_per_image_losses.register
def _install_fcos(model: FCOS) -> None:
    _check_native(model, (FCOS,), "forward", "forward_training", "losses", "_ema_update", "compute_ctrness_targets")
    model.losses = MethodType(fcos_losses, model)


def _check_box_loss(module: nn.Module) -> None:
    if module.box_reg_loss_type not in BOX_LOSSES:
        raise NotCovered(f"the box loss '{module.box_reg_loss_type}' is not split into images")


def _check_native(module: nn.Module, classes: tuple[type, ...], *methods: str) -> None:
    """Raises NotCovered unless `module` has all `methods` from one of `classes`.

    A subclass that changes one of them may normalise its losses in another way.
    """
    own = type(module)
    for cls in classes:
        if isinstance(module, cls) and all(getattr(own, name, None) is getattr(cls, name, None) for name in methods):
            return
    names = " or ".join(cls.__name__ for cls in classes)
    raise NotCovered(f"{own.__name__} does not have the {' and '.join(methods)} of {names}")


def image_by_image(losses_of_image: Callable[[int], dict[str, Tensor]], num_images: int) -> dict[str, Tensor]:
    """The (N,) vector of each loss term, from a function that gives image i's scalars; a term that it lacks is 0.

    What the function logs as scalars into Detectron2's event storage is logged once, as the mean
    over the images that logged it. Pictures are not passed on.
    """
    outer = get_event_storage() if has_event_storage() else None
    losses, logged, hints = [], defaultdict(list), {}
    for i in range(num_images):
        with EventStorage(outer.iter if outer else 0) as storage:
            losses.append(losses_of_image(i))
        hints.update(storage.smoothing_hints())
        for name, (value, _) in storage.latest().items():
            logged[name].append(value)
    if outer:
        for name, values in logged.items():
            outer.put_scalar(name, sum(values) / len(values), smoothing_hint=hints[name])
    any_of = {name: loss for own in losses for name, loss in own.items()}
    return {name: torch.stack([own.get(name, loss.new_zeros(())) for own in losses]) for name, loss in any_of.items()}


def runs_one_at_a_time(model: nn.Module) -> bool:
    """Whether `return_per_image_losses` could not take the losses of its batches apart."""
    return getattr(model.forward, "__func__", None) is forward_one_at_a_time


def forward_one_at_a_time(self: nn.Module, batched_inputs: list[dict], *args, **kwargs):
    """The forward pass of a model whose losses cannot be taken apart, bound to it as a method."""
    if not self.training:
        return type(self).forward(self, batched_inputs, *args, **kwargs)

    def losses_of_image(i):
        losses = type(self).forward(self, batched_inputs[i : i + 1], *args, **kwargs)
        return {name: loss.float().reshape(()) for name, loss in losses.items()}

    return image_by_image(losses_of_image, len(batched_inputs))
