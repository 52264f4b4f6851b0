"""Assignment and loss of YOLOv3, as in darknet's ``yolo_layer.c``, one value an image.

Shapes:
    N: images in the batch
    M: boxes of the image that has most
    G: ground-truth boxes of the whole batch
    R: predictions an image, of all levels: row by row, cell by cell, anchor by anchor
    P: positives, predictions of the batch with at least one ground truth assigned
    B: anchors of all levels
    K: classes

A prediction is (x, y, w, h, objectness, class 1 .. class K): x and y are logits of the centre's
place in its cell, w and h logarithms of the size relative to the anchor, the rest are logits.
Boxes are (x0, y0, x1, y1) in pixels of the network's input.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple, TypeVar

import torch
import torch.nn.functional as F
from detectron2.structures import Boxes, Instances, pairwise_iou
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

# Detectron2's limit on how far a box can grow beyond its anchor: keeps exp() finite.
SCALE_CLAMP = math.log(1000.0 / 16)
# Darknet drops ground truth that is thinner than this share of the image's side: its log ratio
# would swamp the loss of the image.
MIN_SIDE = 1e-3


class Level(NamedTuple):
    """One of the maps that detection happens on."""

    stride: int  # pixels of the network's input
    height: int  # cells
    width: int  # cells
    anchor_ids: tuple[int, ...]  # rows of the table of all anchors that this level predicts


class Priors(NamedTuple):
    """What predictions are relative to, one row a prediction."""

    cells: Tensor  # (R, 2): column and row of the cell, as floats
    strides: Tensor  # (R, 1): pixels
    anchors: Tensor  # (R, 2): width and height, pixels


class GroundTruth(NamedTuple):
    """The boxes of a batch, image after image."""

    boxes: Tensor  # (G, 4)
    classes: Tensor  # (G,)
    image: Tensor  # (G,): the image's index in the batch
    padded_boxes: Tensor  # (N, M, 4): the same boxes by image; rows of zeros fill the gaps
    image_sizes: Tensor  # (N, 2): height and width of each image, without padding


class Positives(NamedTuple):
    """The predictions that have to find something."""

    image: Tensor  # (P,)
    prediction: Tensor  # (P,): index in R
    ground_truth: Tensor  # (P,): index in G
    classes: Tensor  # (P, K): zeros and ones


_Tensors = TypeVar("_Tensors", GroundTruth, Positives)


def make_priors(levels: Sequence[Level], anchors: Tensor) -> Priors:
    """Lays out the R predictions of an image, level after level; `anchors` (B, 2) are all there are."""
    cells, strides, sizes = [], [], []
    for level in levels:
        sides = level.height, level.width, len(level.anchor_ids)
        rows, columns, ids = torch.meshgrid(*(torch.arange(n, device=anchors.device) for n in sides), indexing="ij")
        cells.append(torch.stack([columns.flatten(), rows.flatten()], dim=1).to(anchors.dtype))
        strides.append(anchors.new_full((rows.numel(), 1), level.stride))
        sizes.append(anchors[list(level.anchor_ids)][ids.flatten()])
    return Priors(torch.cat(cells), torch.cat(strides), torch.cat(sizes))


def decode_boxes(deltas: Tensor, priors: Priors) -> Tensor:
    """Turns predicted (x, y, w, h), of shape (..., R, 4), into boxes of the same shape."""
    centres = (deltas[..., :2].sigmoid() + priors.cells) * priors.strides
    half_sizes = deltas[..., 2:].clamp(max=SCALE_CLAMP).exp() * priors.anchors / 2
    return torch.cat([centres - half_sizes, centres + half_sizes], dim=-1)


def encode_boxes(boxes: Tensor, priors: Priors) -> Tensor:
    """Turns boxes (R, 4), one a row of `priors`, into what their predictions should be.

    These are the centre's place in its cell as two shares, whose logits ``decode_boxes`` takes, and two log ratios.
    """
    centres = (boxes[:, :2] + boxes[:, 2:]) / 2
    # The clamp concerns boxes whose centre is not in the image: they train the nearest cell.
    shares = (centres / priors.strides - priors.cells).clamp(0, 1)
    return torch.cat([shares, ((boxes[:, 2:] - boxes[:, :2]) / priors.anchors).log()], dim=1)


def cells_inside(priors: Priors, image_sizes: Tensor) -> Tensor:
    """(N, R) whether predictions are of cells that overlap the image, of (N, 2) heights and widths, not only padding."""
    return (priors.cells * priors.strides < image_sizes.flip(1)[:, None]).all(dim=2)


def collect_ground_truth(
    instances: list[Instances], image_sizes: list[tuple[int, int]], anchors: Tensor
) -> GroundTruth:
    """Gathers the boxes of N images, without those that are thinner than `MIN_SIDE`, in the type of `anchors`."""
    sizes = anchors.new_tensor(image_sizes)
    boxes, classes = [], []
    for per_image, size in zip(instances, sizes):
        tensor = per_image.gt_boxes.tensor.to(anchors)
        keep = (tensor[:, 2:] - tensor[:, :2] >= MIN_SIDE * size.flip(0)).all(dim=1)
        boxes.append(tensor[keep])
        classes.append(per_image.gt_classes.to(anchors.device)[keep])
    counts = torch.tensor([len(b) for b in boxes], device=anchors.device)
    image = torch.arange(len(boxes), device=anchors.device).repeat_interleave(counts)
    return GroundTruth(torch.cat(boxes), torch.cat(classes), image, pad_sequence(boxes, batch_first=True), sizes)


def assign(truth: GroundTruth, levels: Sequence[Level], anchors: Tensor, classes: int) -> Positives:
    """Gives each ground truth to its best anchor, in the cell that its centre is in, as darknet does.

    Only the level that owns this anchor sees the box. Of two boxes on one cell and anchor the later one
    is learned, with the classes of both.

    Raises:
        ValueError: a ground truth has a class that is not below `classes`, K.
    """
    if len(truth.classes) and int(truth.classes.max()) >= classes:
        raise ValueError(
            f"a training image has a box of class {int(truth.classes.max())}, counted from 0, but "
            f"the model has {classes} classes; set MODEL.YOLO.NUM_CLASSES to the data set's number"
        )
    boxes = truth.boxes
    # The best IoU of a box and an anchor that share a corner; the first of equally good ones.
    sizes, shapes = (Boxes(F.pad(x, (2, 0))) for x in (boxes[:, 2:] - boxes[:, :2], anchors))
    best = pairwise_iou(sizes, shapes).argmax(dim=1)
    centres = (boxes[:, :2] + boxes[:, 2:]) / 2
    owners, rows, offset = [], [], 0
    for level in levels:
        owned = best[:, None] == torch.tensor(level.anchor_ids, device=best.device)
        g, anchor = owned.nonzero(as_tuple=True)
        column, row = (centres[g] / level.stride).long().unbind(dim=1)
        cell = row.clamp(0, level.height - 1) * level.width + column.clamp(0, level.width - 1)
        owners.append(g)
        rows.append(offset + cell * len(level.anchor_ids) + anchor)
        offset += level.height * level.width * len(level.anchor_ids)
    assigned, predictions = torch.cat(owners), torch.cat(rows)

    keys, slot = (truth.image[assigned] * offset + predictions).unique(return_inverse=True)
    last = assigned.new_zeros(len(keys)).scatter_reduce(0, slot, assigned, "amax")
    labels = boxes.new_zeros(len(keys), classes)
    labels[slot, truth.classes[assigned]] = 1
    return Positives(truth.image[last], keys % offset, last, labels)


def overlaps_any(boxes: Tensor, targets: Tensor, threshold: float) -> Tensor:
    """(N, R) whether boxes (N, R, 4) have an IoU above `threshold` with any target (N, M, 4) of their image.

    Boxes without area overlap nothing.
    """
    x0, y0, x1, y1 = boxes[:, :, None].unbind(dim=-1)
    tx0, ty0, tx1, ty1 = targets[:, None].unbind(dim=-1)
    width = (torch.minimum(x1, tx1) - torch.maximum(x0, tx0)).clamp(min=0)
    shared = width * (torch.minimum(y1, ty1) - torch.maximum(y0, ty0)).clamp(min=0)
    union = (x1 - x0) * (y1 - y0) + (tx1 - tx0) * (ty1 - ty0) - shared
    return (shared > threshold * union).any(dim=-1)


def yolo_losses(
    predictions: Tensor, truth: GroundTruth, levels: Sequence[Level], anchors: Tensor, ignore_threshold: float
) -> dict[str, Tensor]:
    """The loss of every image: sums over its own predictions, no normaliser across images.

    The gradients are darknet's; its squared errors of w and h carry the factor 1/2 for that. The
    cross-entropy of x and y is less its targets' entropy, a constant that a perfect prediction
    cannot undercut (0.69 for a centre in the middle of its cell): else an image's loss would mostly
    count its boxes. Cells that only see padding count for nothing: their number depends on the other
    images of the batch.

    Args:
        predictions: (N, R, 5 + K), float32 or better.
        truth, anchors: on the CPU, where boxes are assigned without waiting for a GPU; anchors (B, 2) are all there are.
        ignore_threshold: see ``MODEL.YOLO.IGNORE_THRESHOLD``.

    Returns:
        ``loss_xy``, ``loss_wh``, ``loss_obj``, ``loss_cls``, each (N,).
    """
    num_images, _, num_channels = predictions.shape
    positives = _sent(assign(truth, levels, anchors, num_channels - 5), predictions.device)
    truth = _sent(truth, predictions.device)
    priors = make_priors(levels, anchors.to(predictions.device, non_blocking=True))
    where = positives.image, positives.prediction
    loss_obj = _objectness_losses(predictions, truth, priors, where, ignore_threshold)

    found = predictions[where]
    goal_boxes = truth.boxes[positives.ground_truth]
    goals = encode_boxes(goal_boxes, Priors(*(x[positives.prediction] for x in priors)))
    area = Boxes(goal_boxes).area() / truth.image_sizes[positives.image].prod(dim=1)
    weight = (2 - area)[:, None]
    bce = F.binary_cross_entropy_with_logits
    entropy = torch.special.entr(goals[:, :2]) + torch.special.entr(1 - goals[:, :2])
    loss_xy = weight * (bce(found[:, :2], goals[:, :2], reduction="none") - entropy)
    loss_wh = weight * 0.5 * (found[:, 2:4] - goals[:, 2:]) ** 2
    loss_cls = bce(found[:, 5:], positives.classes, reduction="none")

    def per_image(loss: Tensor) -> Tensor:
        return loss.new_zeros(num_images).index_add(0, positives.image, loss.sum(dim=1))

    return {
        "loss_xy": per_image(loss_xy),
        "loss_wh": per_image(loss_wh),
        "loss_obj": loss_obj,
        "loss_cls": per_image(loss_cls),
    }


def _sent(tensors: _Tensors, device: torch.device) -> _Tensors:
    return type(tensors)(*(tensor.to(device, non_blocking=True) for tensor in tensors))


def _objectness_losses(
    predictions: Tensor, truth: GroundTruth, priors: Priors, where: tuple[Tensor, Tensor], ignore_threshold: float
) -> Tensor:
    """(N,) sums over the predictions that are not ignored; `where` are the positives."""
    with torch.no_grad():
        boxes = decode_boxes(predictions[..., :4], priors)
        ignored = ~cells_inside(priors, truth.image_sizes)
        ignored |= overlaps_any(boxes, truth.padded_boxes, ignore_threshold)
        ignored[where] = False
        target = torch.zeros_like(predictions[..., 4])
        target[where] = 1
    weight = (~ignored).to(predictions)
    return F.binary_cross_entropy_with_logits(predictions[..., 4], target, weight, reduction="none").sum(dim=1)
