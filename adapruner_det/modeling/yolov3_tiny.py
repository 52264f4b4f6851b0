"""YOLOv3-Tiny on a Detectron2 backbone: two maps of a ResNet in place of darknet's trunk.

N images, R predictions an image, K classes, as in :mod:`yolo_loss`. Importing this module puts
``YOLOv3Tiny`` into Detectron2's registry of meta-architectures.
"""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from detectron2.config import CfgNode
from detectron2.layers import Conv2d, ShapeSpec, get_norm
from detectron2.modeling import META_ARCH_REGISTRY, build_backbone
from detectron2.modeling.meta_arch.dense_detector import DenseDetector, permute_to_N_HWA_K
from detectron2.modeling.roi_heads.fast_rcnn import fast_rcnn_inference
from detectron2.structures import ImageList, Instances
from fvcore.nn.weight_init import c2_msra_fill
from torch import Tensor, nn

from .yolo_loss import Level, cells_inside, collect_ground_truth, decode_boxes, make_priors, yolo_losses


class YOLOv3TinyHead(nn.Module):
    """The neck and the two outputs, fine and coarse, of darknet's ``yolov3-tiny.cfg``."""

    def __init__(
        self,
        input_shapes: Sequence[ShapeSpec],
        num_anchors: Sequence[int],
        num_classes: int,
        norm: str,
        prior_prob: float,
    ):
        super().__init__()
        fine, coarse = (shape.channels for shape in input_shapes)
        self.reduce = _conv(coarse, 256, 1, norm)
        self.coarse_conv = _conv(256, 512, 3, norm)
        self.lateral = _conv(256, 128, 1, norm)
        self.fine_conv = _conv(128 + fine, 256, 3, norm)
        self.fine_output = _output(256, num_anchors[0], num_classes, prior_prob)
        self.coarse_output = _output(512, num_anchors[1], num_classes, prior_prob)

    def forward(self, features: list[Tensor]) -> list[Tensor]:
        """The maps (N, C, 2H, 2W) and (N, C', H, W) to maps of these sizes with (5 + K) channels for each anchor."""
        fine, coarse = features
        coarse = self.reduce(coarse)
        upsampled = F.interpolate(self.lateral(coarse), scale_factor=2.0, mode="nearest")
        fine = self.fine_conv(torch.cat([upsampled, fine], dim=1))
        return [self.fine_output(fine), self.coarse_output(self.coarse_conv(coarse))]


@META_ARCH_REGISTRY.register()
class YOLOv3Tiny(DenseDetector):
    """YOLOv3-Tiny (Redmon and Farhadi, "YOLOv3: An Incremental Improvement", 2018).

    In training, ``forward`` returns ``loss_xy``, ``loss_wh``, ``loss_obj`` and ``loss_cls``: each image's,
    (N,), while the attribute ``per_image_losses`` is True, else their means.
    """

    def __init__(self, cfg: CfgNode):
        """
        Raises:
            ValueError: the anchors, their mask and the features of MODEL.YOLO do not fit together.
        """
        yolo = cfg.MODEL.YOLO
        _check_anchors(yolo.ANCHORS, yolo.ANCHOR_MASK)
        backbone = build_backbone(cfg)
        shapes = backbone.output_shape()
        _check_features(yolo.IN_FEATURES, shapes)
        shapes = [shapes[name] for name in yolo.IN_FEATURES]
        num_anchors = [len(mask) for mask in yolo.ANCHOR_MASK]
        head = YOLOv3TinyHead(shapes, num_anchors, yolo.NUM_CLASSES, yolo.NORM, yolo.PRIOR_PROB)
        pixels = {"pixel_mean": cfg.MODEL.PIXEL_MEAN, "pixel_std": cfg.MODEL.PIXEL_STD}
        super().__init__(backbone, head, list(yolo.IN_FEATURES), **pixels)
        self.strides = [shape.stride for shape in shapes]
        self._anchors = [list(map(float, pair)) for pair in yolo.ANCHORS]
        self.register_buffer("anchors", torch.tensor(yolo.ANCHORS, dtype=torch.float32), False)
        self.anchor_mask = [tuple(mask) for mask in yolo.ANCHOR_MASK]
        self.num_classes = yolo.NUM_CLASSES
        self.ignore_threshold = yolo.IGNORE_THRESHOLD
        self.test_score_thresh = yolo.SCORE_THRESH_TEST
        self.test_nms_thresh = yolo.NMS_THRESH_TEST
        self.max_detections_per_image = cfg.TEST.DETECTIONS_PER_IMAGE
        self.per_image_losses = False

    def forward(self, batched_inputs: list[dict[str, Tensor]]):
        """As DenseDetector's, but that boxes stay where the loader has put them.

        Their assignment is small and full of numbers that the host has to know: on a GPU it would wait for each.
        """
        if not self.training:
            return super().forward(batched_inputs)
        images = self.preprocess_image(batched_inputs)
        maps = self.backbone(images.tensor)
        features = [maps[name] for name in self.head_in_features]
        return self.forward_training(
            images, features, self.head(features), [own["instances"] for own in batched_inputs]
        )

    def preprocess_image(self, batched_inputs: list[dict[str, Tensor]]) -> ImageList:
        """Normalises the images and pads them, right and below, to one size."""
        images = [self._move_to_current_device(x["image"]) for x in batched_inputs]
        images = [(x - self.pixel_mean) / self.pixel_std for x in images]
        # A ResNet asks for no divisibility, but the upsampled coarse map has to fit the fine one.
        return ImageList.from_tensors(images, self.strides[-1])

    def forward_training(
        self, images: ImageList, features: list[Tensor], predictions: list[Tensor], gt_instances: list[Instances]
    ) -> dict[str, Tensor]:
        """The loss terms."""
        rows, levels = self._concatenate(predictions)
        anchors = torch.tensor(self._anchors, dtype=self.anchors.dtype)
        truth = collect_ground_truth(gt_instances, images.image_sizes, anchors)
        losses = yolo_losses(rows, truth, levels, anchors, self.ignore_threshold)
        if self.per_image_losses:
            return losses
        return {name: loss.mean() for name, loss in losses.items()}

    def forward_inference(
        self, images: ImageList, features: list[Tensor], predictions: list[Tensor]
    ) -> list[Instances]:
        """The detections in each image as the network sees it; called by :class:`DenseDetector`."""
        rows, levels = self._concatenate(predictions)
        priors = make_priors(levels, self.anchors)
        # Cells that only see padding were never trained.
        inside = cells_inside(priors, self.anchors.new_tensor(images.image_sizes))
        boxes = decode_boxes(rows[..., :4], priors)
        scores = rows[..., 4:5].sigmoid() * rows[..., 5:].sigmoid() * inside[..., None]
        # Detectron2's R-CNN inference, whose last column is the background's score.
        scores = F.pad(scores, (0, 1))
        results, _ = fast_rcnn_inference(
            list(boxes),
            list(scores),
            images.image_sizes,
            self.test_score_thresh,
            self.test_nms_thresh,
            self.max_detections_per_image,
        )
        return results

    def _concatenate(self, predictions: list[Tensor]) -> tuple[Tensor, list[Level]]:
        """The head's maps as one float32 tensor (N, R, 5 + K), and where its rows come from."""
        levels = [
            Level(stride, x.shape[-2], x.shape[-1], mask)
            for stride, x, mask in zip(self.strides, predictions, self.anchor_mask)
        ]
        rows = [permute_to_N_HWA_K(x, 5 + self.num_classes) for x in predictions]
        return torch.cat(rows, dim=1).float(), levels


def _conv(in_channels: int, out_channels: int, kernel_size: int, norm: str) -> Conv2d:
    layer = Conv2d(
        in_channels,
        out_channels,
        kernel_size,
        padding=kernel_size // 2,
        bias=not norm,
        norm=get_norm(norm, out_channels),
        activation=nn.LeakyReLU(0.1),
    )
    c2_msra_fill(layer)
    return layer


def _output(in_channels: int, num_anchors: int, num_classes: int, prior_prob: float) -> Conv2d:
    layer = Conv2d(in_channels, num_anchors * (5 + num_classes), 1)
    nn.init.normal_(layer.weight, std=0.01)
    nn.init.zeros_(layer.bias)
    with torch.no_grad():
        layer.bias.view(num_anchors, -1)[:, 4] = -math.log((1 - prior_prob) / prior_prob)
    return layer


def _check_anchors(anchors: Sequence[Sequence[float]], anchor_mask: Sequence[Sequence[int]]):
    if not anchors or any(len(pair) != 2 or min(pair) <= 0 for pair in anchors):
        raise ValueError(
            f"MODEL.YOLO.ANCHORS has to be a list of pairs [width, height] of pixels, all above zero; it is {anchors}"
        )
    numbers = {number for mask in anchor_mask for number in mask}
    if len(anchor_mask) != 2 or not all(anchor_mask) or not numbers <= set(range(len(anchors))):
        raise ValueError(
            "MODEL.YOLO.ANCHOR_MASK has to be two lists, for the fine and the coarse map, of "
            f"positions 0 to {len(anchors) - 1} in MODEL.YOLO.ANCHORS; it is {anchor_mask}"
        )


def _check_features(in_features: Sequence[str], shapes: dict[str, ShapeSpec]):
    missing = [name for name in in_features if name not in shapes]
    if missing:
        raise ValueError(
            f"MODEL.YOLO.IN_FEATURES names {missing}, but the backbone puts out {list(shapes)}; "
            "add them to MODEL.RESNETS.OUT_FEATURES"
        )
    strides = [shapes[name].stride for name in in_features]
    if len(strides) != 2 or strides[1] != 2 * strides[0]:
        raise ValueError(
            "MODEL.YOLO.IN_FEATURES has to name two maps, the second with twice the stride of "
            f"the first; {list(in_features)} have strides {strides}"
        )
