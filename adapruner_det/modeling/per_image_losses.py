"""The losses of Detectron2's modules, image by image: what per_image.py puts in their place.

N images in the batch, R anchors or proposals, F of them foreground, K classes, M masks, B numbers a box.

Each function takes and logs what the native method does, and returns a (N,) float32 vector for each of
its terms, whose mean is what the native method returns. Matching and elementwise losses are computed
once for the batch; only the sum stops at the image. Box losses are computed for foreground alone, where
the native ones compute targets for every anchor and drop nearly all.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from detectron2.layers import ciou_loss, diou_loss
from detectron2.modeling import RetinaNet
from detectron2.modeling.meta_arch.fcos import FCOS
from detectron2.modeling.proposal_generator import RPN
from detectron2.modeling.roi_heads import FastRCNNOutputLayers
from detectron2.modeling.roi_heads.fast_rcnn import _log_classification_stats
from detectron2.modeling.roi_heads.mask_head import BaseMaskRCNNHead, mask_rcnn_loss
from detectron2.structures import Boxes, Instances
from detectron2.utils.events import get_event_storage
from fvcore.nn import giou_loss, sigmoid_focal_loss_jit, smooth_l1_loss
from torch import Tensor
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

Losses = dict[str, Tensor]
# Rows of a (N, R) table: the image, and which of its anchors or proposals; two, of whatever `nonzero` gives.
Rows = tuple[Tensor, ...]
OVERLAP_LOSSES = {"giou": giou_loss, "diou": diou_loss, "ciou": ciou_loss}
BOX_LOSSES = ("smooth_l1", *OVERLAP_LOSSES)


def rpn_losses(self: RPN, anchors, pred_objectness_logits, gt_labels, pred_anchor_deltas, gt_boxes) -> Losses:
    """``RPN.losses``. Native: sums over the batch, divided by N and a constant."""
    labels = torch.stack(gt_labels)
    num_images = len(labels)
    sampled = (labels >= 0).nonzero(as_tuple=True)
    positives = _positives(labels == 1, anchors, gt_boxes)
    num_positives = len(positives.boxes)
    storage = get_event_storage()
    storage.put_scalar("rpn/num_pos_anchors", num_positives / num_images)
    storage.put_scalar("rpn/num_neg_anchors", (len(sampled[0]) - num_positives) / num_images)

    logits = _of_rows(pred_objectness_logits, sampled)
    objectness = F.binary_cross_entropy_with_logits(logits, labels[sampled].float(), reduction="none")
    losses = {
        "loss_rpn_cls": _sum_by_image(objectness, sampled, labels.shape),
        "loss_rpn_loc": _anchor_box_losses(self, pred_anchor_deltas, positives, labels.shape),
    }
    return _scaled(losses, 1 / self.batch_size_per_image, self.loss_weight)


def retinanet_losses(self: RetinaNet, anchors, pred_logits, gt_labels, pred_anchor_deltas, gt_boxes) -> Losses:
    """``RetinaNet.losses``. Native: sums over the batch, divided by a running number of positives."""
    labels = torch.stack(gt_labels)
    positives = _positives((labels >= 0) & (labels != self.num_classes), anchors, gt_boxes)
    losses = {
        "loss_cls": _focal_losses(self, pred_logits, labels, positives.rows),
        "loss_box_reg": _anchor_box_losses(self, pred_anchor_deltas, positives, labels.shape),
    }
    return _scaled(losses, _share_of_positives(self, positives, labels, initial_value=100), {})


def fcos_losses(self: FCOS, anchors, pred_logits, gt_labels, pred_anchor_deltas, gt_boxes, pred_centerness) -> Losses:
    """``FCOS.losses``. Native: as RetinaNet's."""
    labels = torch.stack(gt_labels)
    positives = _positives((labels >= 0) & (labels != self.num_classes), anchors, gt_boxes)
    rows = positives.rows
    boxes = self.box2box_transform.apply_deltas(_of_rows(pred_anchor_deltas, rows), positives.anchors)
    # The foreground of the batch, handed over as if it were one image.
    (goals,) = self.compute_ctrness_targets([Boxes(positives.anchors)], [positives.boxes])
    centerness = _of_rows(pred_centerness, rows).squeeze(1)
    centerness_losses = F.binary_cross_entropy_with_logits(centerness, goals, reduction="none")
    losses = {
        "loss_fcos_cls": _focal_losses(self, pred_logits, labels, rows),
        "loss_fcos_loc": _sum_by_image(giou_loss(boxes, positives.boxes), rows, labels.shape),
        "loss_fcos_ctr": _sum_by_image(centerness_losses, rows, labels.shape),
    }
    return _scaled(losses, _share_of_positives(self, positives, labels, initial_value=300), {})


def fast_rcnn_losses(
    self: FastRCNNOutputLayers, predictions: tuple[Tensor, Tensor], proposals: list[Instances]
) -> Losses:
    """``FastRCNNOutputLayers.losses``. Native: sums over the batch, divided by R; each stage of a cascade has its R."""
    scores, deltas = predictions
    scores = scores.float()
    classes = torch.cat([own.gt_classes for own in proposals])
    _log_classification_stats(scores, classes)
    foreground = ((classes >= 0) & (classes < self.num_classes)).nonzero().squeeze(1)
    rows, shape = _rows_of([len(own) for own in proposals], scores.device)
    box_losses = _proposal_box_losses(self, proposals, deltas, classes, foreground)
    losses = {
        "loss_cls": _sum_by_image(_class_losses(self, scores, classes), rows, shape),
        "loss_box_reg": _sum_by_image(box_losses, (rows[0][foreground], rows[1][foreground]), shape),
    }
    return _scaled(losses, len(proposals) / max(len(classes), 1), self.loss_weight)


def mask_head_forward(self: BaseMaskRCNNHead, x: Tensor, instances: list[Instances]):
    """``BaseMaskRCNNHead.forward``. Native: the mean over M masks and their pixels."""
    if not self.training:
        return type(self).forward(self, x, instances)
    logits = self.layers(x)
    num_masks = len(logits)
    if num_masks:
        with _Unreduced():
            losses = mask_rcnn_loss(logits, instances, self.vis_period).flatten(1).mean(1)
    else:
        losses = logits.flatten(1).sum(1).float()  # of nothing, but on the graph
    sums = _sum_by_image(losses, *_rows_of([len(own) for own in instances], logits.device))
    return {"loss_mask": sums * (self.loss_weight * len(instances) / max(num_masks, 1))}


class _Unreduced(TorchFunctionMode):
    """Within it, binary cross-entropy gives its elements, in float32, where a mean is asked for."""

    def __torch_function__(self, function, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if function is F.binary_cross_entropy_with_logits:
            logits, *rest = args
            return function(logits.float(), *rest, **{**kwargs, "reduction": "none"})
        return function(*args, **kwargs)


class _Positives(NamedTuple):
    """The F anchors of the batch that boxes are matched to."""

    rows: Rows  # 2 x (F,)
    anchors: Tensor  # (F, B)
    boxes: Tensor  # (F, B), the box each one is matched to


def _positives(chosen: Tensor, anchors: list[Boxes], gt_boxes: list[Tensor]) -> _Positives:
    rows = chosen.nonzero(as_tuple=True)
    of_all_levels = type(anchors[0]).cat(anchors).tensor
    return _Positives(rows, of_all_levels[rows[1]], torch.stack(gt_boxes)[rows])


def _of_rows(levels: list[Tensor], rows: Rows) -> Tensor:
    """Some rows, in float32, of predictions whose levels are (N, anchors of the level, ...)."""
    return torch.cat(levels, dim=1)[rows].float()


def _rows_of(counts: Sequence[int], device: torch.device) -> tuple[Rows, tuple[int, int]]:
    """The rows of a batch's items, which follow each other, `counts` of each image; and the table's shape."""
    shape = (len(counts), max(counts, default=0))
    filled = torch.arange(shape[1]) < torch.tensor(counts)[:, None]
    image, position = filled.nonzero(as_tuple=True)
    return (image.to(device), position.to(device)), shape


def _sum_by_image(values: Tensor, rows: Rows, shape: Sequence[int]) -> Tensor:
    """The (N,) sums of those `values` that are of each image."""
    # Laid out in a table, since index_add rounds more and is not reproducible on a GPU.
    return values.new_zeros(tuple(shape)).index_put_(rows, values).sum(1)


def _scaled(losses: Losses, scale: float, weights: dict[str, float]) -> Losses:
    return {name: loss * (scale * weights.get(name, 1.0)) for name, loss in losses.items()}


def _share_of_positives(self, positives: _Positives, labels: Tensor, initial_value: float) -> float:
    """What turns a dense detector's sums into its losses; logs and moves the running mean, once."""
    number, num_images = len(positives.boxes), len(labels)
    get_event_storage().put_scalar("num_pos_anchors", number / num_images)
    return num_images / self._ema_update("loss_normalizer", max(number, 1), initial_value)


def _focal_losses(self, pred_logits: list[Tensor], labels: Tensor, positives: Rows) -> Tensor:
    """(N,) sums of the focal loss over the anchors that are not ignored."""
    logits = torch.cat(pred_logits, dim=1).float()
    target = torch.zeros_like(logits)
    target[(*positives, labels[positives])] = 1
    losses = sigmoid_focal_loss_jit(
        logits, target, alpha=self.focal_loss_alpha, gamma=self.focal_loss_gamma, reduction="none"
    )
    return losses.sum(2).masked_fill(labels < 0, 0).sum(1)


def _class_losses(self: FastRCNNOutputLayers, scores: Tensor, classes: Tensor) -> Tensor:
    """(R,) losses from (R, K + 1) scores, the last of which is that of background."""
    if not self.use_sigmoid_ce:
        return F.cross_entropy(scores, classes, reduction="none")
    target = torch.zeros_like(scores).scatter_(1, classes[:, None], 1)
    return F.binary_cross_entropy_with_logits(scores[:, :-1], target[:, :-1], reduction="none").sum(1)


def _proposal_box_losses(
    self: FastRCNNOutputLayers, proposals: list[Instances], deltas: Tensor, classes: Tensor, foreground: Tensor
) -> Tensor:
    """(F,) losses from deltas of shape (R, B), or (R, K * B) with some for each class."""
    boxes = torch.cat([own.proposal_boxes.tensor for own in proposals])[foreground]
    # An image without boxes has no gt_boxes and no foreground: any boxes do.
    matched = [own.gt_boxes if own.has("gt_boxes") else own.proposal_boxes for own in proposals]
    targets = torch.cat([own.tensor for own in matched])[foreground]
    box_dim = boxes.shape[1]
    if deltas.shape[1] == box_dim:
        deltas = deltas[foreground]
    else:
        deltas = deltas.view(-1, self.num_classes, box_dim)[foreground, classes[foreground]]
    return _box_losses(self, deltas.float(), boxes, targets)


def _anchor_box_losses(self, pred_deltas: list[Tensor], positives: _Positives, shape: Sequence[int]) -> Tensor:
    """(N,) sums over an image's positives."""
    losses = _box_losses(self, _of_rows(pred_deltas, positives.rows), positives.anchors, positives.boxes)
    return _sum_by_image(losses, positives.rows, shape)


def _box_losses(self, deltas: Tensor, boxes: Tensor, targets: Tensor) -> Tensor:
    """(F,) losses, of the kind that `self.box_reg_loss_type` names, of (F, B) boxes moved by deltas."""
    if self.box_reg_loss_type == "smooth_l1":
        target_deltas = self.box2box_transform.get_deltas(boxes, targets)
        return smooth_l1_loss(deltas, target_deltas, beta=self.smooth_l1_beta).sum(1)
    moved = self.box2box_transform.apply_deltas(deltas, boxes)
    return OVERLAP_LOSSES[self.box_reg_loss_type](moved, targets)
