"""Detectors and made-up batches to measure on: nothing is read but the project's configs."""

from pathlib import Path

import torch
from detectron2.config import CfgNode
from detectron2.modeling import build_backbone, build_model
from detectron2.modeling.meta_arch.fcos import FCOS, FCOSHead
from detectron2.structures import BitMasks, Boxes, Instances
from torch import nn

from adapruner_det.engine import load_config

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
CLASSES = 20
YOLO, FASTER = "Base-YOLOv3-Tiny", "Base-Faster-RCNN-FPN"
LEVELS = ["p3", "p4", "p5", "p6", "p7"]
DENSE = {
    "MODEL.META_ARCHITECTURE": "RetinaNet",
    "MODEL.BACKBONE.NAME": "build_retinanet_resnet_fpn_backbone",
    "MODEL.RESNETS.OUT_FEATURES": ["res3", "res4", "res5"],
    "MODEL.FPN.IN_FEATURES": ["res3", "res4", "res5"],
    "MODEL.ANCHOR_GENERATOR.SIZES": [
        [size * 2 ** (third / 3) for third in range(3)] for size in (32, 64, 128, 256, 512)
    ],
}
MASK = {
    "MODEL.MASK_ON": True,
    "MODEL.ROI_MASK_HEAD.NAME": "MaskRCNNConvUpsampleHead",
    "MODEL.ROI_MASK_HEAD.NUM_CONV": 4,
}
CASCADE = {"MODEL.ROI_HEADS.NAME": "CascadeROIHeads", "MODEL.ROI_BOX_HEAD.CLS_AGNOSTIC_BBOX_REG": True}
# Name: config of configs/, and what differs from it.
RECIPES = {
    "YOLOv3-Tiny": (YOLO, {}),
    "Faster R-CNN": (FASTER, {}),
    "RetinaNet": (FASTER, DENSE),
    "FCOS": (FASTER, DENSE),
    "Mask R-CNN": (FASTER, MASK),
    "Cascade R-CNN": (FASTER, CASCADE),
}


def detector_config(name: str, small: bool, device: str) -> CfgNode:
    """The config of one of RECIPES on ResNet-18 (`small`) or ResNet-50."""
    file, changes = RECIPES[name]
    settings = {
        **changes,
        "MODEL.DEVICE": device,
        "MODEL.YOLO.NUM_CLASSES": CLASSES,
        "MODEL.ROI_HEADS.NUM_CLASSES": CLASSES,
        "MODEL.RETINANET.NUM_CLASSES": CLASSES,
        "SOLVER.BASE_LR": 1e-9,  # the model stays what it is, so that every round is the same work
    }
    cfg = load_config(str(CONFIGS / f"{file}{'-R18' if small else ''}.yaml"))
    cfg.merge_from_list([item for pair in settings.items() for item in pair])
    return cfg


def build_detector(name: str, cfg: CfgNode) -> nn.Module:
    """The detector in training mode, with the same random weights each time."""
    torch.manual_seed(0)
    model = build_fcos(cfg) if name == "FCOS" else build_model(cfg)
    return model.to(cfg.MODEL.DEVICE).train()


def build_fcos(cfg: CfgNode) -> FCOS:
    """Detectron2 has no yacs config for it."""
    backbone = build_backbone(cfg)
    shapes = [backbone.output_shape()[level] for level in LEVELS]
    head = FCOSHead(input_shape=shapes, conv_dims=[cfg.MODEL.FPN.OUT_CHANNELS] * 4, num_classes=CLASSES)
    return FCOS(backbone=backbone, head=head, head_in_features=LEVELS, num_classes=CLASSES,
                pixel_mean=cfg.MODEL.PIXEL_MEAN, pixel_std=cfg.MODEL.PIXEL_STD)  # fmt: skip


def make_record(size: int, num_images: int, generator: torch.Generator) -> dict:
    """Noise with 1 to 8 boxes and masks, as a Detectron2 loader gives it; `image_index` is below `num_images`."""

    def draw(*shape: int) -> torch.Tensor:
        return torch.rand(*shape, generator=generator)

    count = int(1 + draw(1) * 8)
    corner = draw(count, 2) * 0.6 * size
    boxes = torch.cat([corner, corner + (0.05 + draw(count, 2) * 0.35) * size], dim=1)
    masks = torch.zeros(count, size, size, dtype=torch.bool)
    for mask, (x0, y0, x1, y1) in zip(masks, boxes.int().tolist()):
        mask[y0:y1, x0:x1] = True
    classes = (draw(count) * CLASSES).long()
    instances = Instances((size, size), gt_boxes=Boxes(boxes), gt_classes=classes, gt_masks=BitMasks(masks))
    image = (draw(3, size, size) * 255).to(torch.uint8)
    index = int(draw(1) * num_images)
    return {"image": image, "instances": instances, "height": size, "width": size, "image_index": index,
            "file_name": f"noise {index}"}  # fmt: skip
