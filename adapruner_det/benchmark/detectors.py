"""Detectors and made-up batches to measure on: nothing is read but the project's configs."""

from collections.abc import Callable
from pathlib import Path

import torch
from detectron2.config import CfgNode
from detectron2.modeling import build_backbone, build_model
from detectron2.modeling.meta_arch.fcos import FCOS, FCOSHead
from detectron2.structures import BitMasks, Boxes, Instances
from torch import nn

from ..engine import load_config

CLASSES = 20
YOLO, FASTER = "Base-YOLOv3-Tiny{}.yaml", "Base-Faster-RCNN-FPN{}.yaml"
DENSE_LEVELS = ["p3", "p4", "p5", "p6", "p7"]
_THIRDS = [1.0, 2 ** (1 / 3), 2 ** (2 / 3)]
_DENSE = {
    "MODEL.META_ARCHITECTURE": "RetinaNet",
    "MODEL.BACKBONE.NAME": "build_retinanet_resnet_fpn_backbone",
    "MODEL.RESNETS.OUT_FEATURES": ["res3", "res4", "res5"],
    "MODEL.FPN.IN_FEATURES": ["res3", "res4", "res5"],
    "MODEL.ANCHOR_GENERATOR.SIZES": [[s * t for t in _THIRDS] for s in (32, 64, 128, 256, 512)],
}
_MASK = {"MODEL.MASK_ON": True, "MODEL.ROI_MASK_HEAD.NAME": "MaskRCNNConvUpsampleHead",
         "MODEL.ROI_MASK_HEAD.NUM_CONV": 4}  # fmt: skip
_CASCADE = {"MODEL.ROI_HEADS.NAME": "CascadeROIHeads",
            "MODEL.ROI_BOX_HEAD.CLS_AGNOSTIC_BBOX_REG": True}  # fmt: skip
# Name: config of configs/ ({} is where the small version has its suffix), and what differs from it.
RECIPES = {
    "YOLOv3-Tiny": (YOLO, {}),
    "Faster R-CNN": (FASTER, {}),
    "RetinaNet": (FASTER, _DENSE),
    "FCOS": (FASTER, _DENSE),
    "Mask R-CNN": (FASTER, _MASK),
    "Cascade R-CNN": (FASTER, _CASCADE),
}
FLOAT32_ONLY = ("FCOS",)  # Detectron2's own loss of it fails under autocast


def detector_config(name: str, configs: Path, small: bool, device: str) -> CfgNode:
    """The config of one of RECIPES on ResNet-18 (`small`) or ResNet-50, randomly initialised."""
    file, changes = RECIPES[name]
    settings = {
        **changes,
        "MODEL.DEVICE": device,
        "MODEL.YOLO.NUM_CLASSES": CLASSES,
        "MODEL.ROI_HEADS.NUM_CLASSES": CLASSES,
        "MODEL.RETINANET.NUM_CLASSES": CLASSES,
        "SOLVER.BASE_LR": 1e-9,  # the model stays what it is, so that every round is the same work
    }
    cfg = load_config(str(configs / file.format("-R18" if small else "")))
    cfg.merge_from_list([item for pair in settings.items() for item in pair])
    return cfg


def build_detector(name: str, cfg: CfgNode) -> nn.Module:
    """The detector in training mode, with the same random weights each time."""
    torch.manual_seed(0)
    model = _build_fcos(cfg) if name == "FCOS" else build_model(cfg)
    return model.to(cfg.MODEL.DEVICE).train()


def _build_fcos(cfg: CfgNode) -> FCOS:
    """Detectron2 has no config for it."""
    backbone = build_backbone(cfg)
    shapes = [backbone.output_shape()[level] for level in DENSE_LEVELS]
    head = FCOSHead(input_shape=shapes, conv_dims=[cfg.MODEL.FPN.OUT_CHANNELS] * 4, num_classes=CLASSES)
    return FCOS(
        backbone=backbone,
        head=head,
        head_in_features=DENSE_LEVELS,
        num_classes=CLASSES,
        pixel_mean=cfg.MODEL.PIXEL_MEAN,
        pixel_std=cfg.MODEL.PIXEL_STD,
    )


def make_batches(number: int, batch_size: int, image_size: int, num_images: int) -> list[list[dict]]:
    """Batches of noise with 1 to 8 boxes and masks an image, as a Detectron2 loader gives them.

    Every record has an `image_index` below `num_images`.
    """
    generator = torch.Generator().manual_seed(0)
    return [[_make_record(image_size, num_images, generator) for _ in range(batch_size)] for _ in range(number)]


def _make_record(size: int, num_images: int, generator: torch.Generator) -> dict:
    draw: Callable[..., torch.Tensor] = lambda *shape: torch.rand(*shape, generator=generator)
    count = int(1 + draw(1) * 8)
    corner, sides = draw(count, 2) * 0.6 * size, (0.05 + draw(count, 2) * 0.35) * size
    boxes = torch.cat([corner, corner + sides], dim=1)
    masks = torch.zeros(count, size, size, dtype=torch.bool)
    for mask, (x0, y0, x1, y1) in zip(masks, boxes.int().tolist()):
        mask[y0:y1, x0:x1] = True
    instances = Instances(
        (size, size),
        gt_boxes=Boxes(boxes),
        gt_classes=(draw(count) * CLASSES).long(),
        gt_masks=BitMasks(masks),
    )
    index = int(draw(1) * num_images)
    return {
        "image": (draw(3, size, size) * 255).to(torch.uint8),
        "instances": instances,
        "height": size,
        "width": size,
        "image_index": index,
        "file_name": f"noise {index}",
    }
