"""What a detector sees in the box of each label (N images, M labels, F features)."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from detectron2.config import CfgNode
from torch import nn
from torchvision.ops import roi_align

from .detection_statistics import batches_of, boxes_of_records, check_backbone, left_as_it_was
from .distributed import unwrapped

STRIDE = 16  # objects are smaller than what a cell of the coarsest map sees


@torch.no_grad()
def object_features_of(cfg: CfgNode, model: nn.Module, records: Sequence[dict]) -> np.ndarray:
    """The mean of the backbone's map of stride 16, or the nearest to it, over each box.

    Args:
        model: left as it was.

    Returns:
        (M, F) float32, in the order of `detection_statistics.boxes_of_records`.

    Raises:
        ValueError: the model has not Detectron2's backbone and preprocessing.
    """
    model = unwrapped(model)
    check_backbone(model)
    backbone: Any = model.backbone
    preprocess: Any = model.preprocess_image
    labels = boxes_of_records(records)
    name, shape = min(backbone.output_shape().items(), key=lambda item: abs(item[1].stride - STRIDE))
    features = np.zeros((len(labels.boxes), shape.channels), np.float32)
    with left_as_it_was(model):
        model.eval()
        for indices, batch in batches_of(cfg, records, "Objects"):
            images = preprocess(batch).tensor
            scale = batch[0]["image"].shape[-1] / records[indices[0]]["width"]  # a batch is of one size
            places = [np.flatnonzero(labels.images == i) for i in indices]
            boxes = [
                torch.as_tensor(scale * labels.boxes[own], dtype=torch.float32).to(images.device) for own in places
            ]
            pooled = roi_align(backbone(images)[name].float(), boxes, 1, 1 / shape.stride, 4, aligned=True)
            features[np.concatenate(places)] = pooled[:, :, 0, 0].cpu().numpy()
    return features
