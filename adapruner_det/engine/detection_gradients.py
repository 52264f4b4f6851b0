"""The gradients of each image's loss on a detector's last layers, for GraNd."""

from collections.abc import Sequence
from fnmatch import fnmatchcase
from typing import cast

import numpy as np
import torch
from detectron2.config import CfgNode
from detectron2.modeling import GeneralizedRCNN, RetinaNet
from detectron2.modeling.meta_arch.fcos import FCOS
from torch import Tensor, nn

from ..modeling.yolov3_tiny import YOLOv3Tiny
from .detection_statistics import batches_of, check_backbone, left_as_it_was, losses_of, set_modes_for_losses
from .distributed import unwrapped

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


def gradient_norms_of(cfg: CfgNode, model: nn.Module, records: Sequence[dict]) -> np.ndarray:
    """Norm of the gradient of each image's training loss with respect to the head's last layers.

    The image is a batch of its own. Modes, running numbers of positives and what is drawn at random are as in
    `detection_statistics.losses_and_features_of`.

    Args:
        model: a detector; left as it was.
        records: N dataset dicts with annotations, as it trains on them.

    Returns:
        (N,) float32, in the order of `records`.

    Raises:
        ValueError: the last layers of such a model are not known, or it has not Detectron2's backbone and
            preprocessing.
        FloatingPointError: a norm is not finite.
    """
    model = unwrapped(model)
    check_backbone(model)
    parameters = last_layers(model)
    norms = np.empty(len(records), np.float32)
    with left_as_it_was(model):
        set_modes_for_losses(model)
        for indices, batch in batches_of(cfg, records, "Gradients", size=1):
            terms = losses_of(cfg, model, batch).values()
            loss = cast(Tensor, sum(values.float().sum() for values in terms))
            gradients = torch.autograd.grad(loss, parameters, materialize_grads=True)
            norms[indices] = torch.cat([own.flatten() for own in gradients]).norm().cpu()
    for record, norm in zip(records, norms):
        if not np.isfinite(norm):
            raise FloatingPointError(
                f"the gradient of the loss of {record['file_name']} has the norm {norm}: the "
                "detector has diverged. A lower SOLVER.BASE_LR or SOLVER.CLIP_GRADIENTS usually helps"
            )
    return norms


def last_layers(model: nn.Module) -> list[nn.Parameter]:
    """The parameters of the layers that a detector's predictions come out of.

    They are those that LAST_LAYERS has for the model's class, or those that the model names in an attribute
    `last_layers`. The order in which a head's modules run is written nowhere, so they cannot be guessed.

    Raises:
        ValueError: neither is there, or a name that the attribute gives fits no parameter.
    """
    kind, own = type(model).__name__, getattr(model, "last_layers", None) or ()
    patterns = own or next((patterns for cls, patterns in LAST_LAYERS.items() if isinstance(model, cls)), ())
    parameters = dict(model.named_parameters())
    ending = ", ".join(list(parameters)[-4:])
    for pattern in own:
        if not any(fnmatchcase(name, pattern) for name in parameters):
            raise ValueError(f"{kind}.last_layers has {pattern!r}, which fits none of its parameters, such as {ending}")
    chosen = [value for name, value in parameters.items() if any(fnmatchcase(name, pattern) for pattern in patterns)]
    if not chosen:
        raise ValueError(
            f"it is not known which layers of {kind} its predictions come out of: give the class an attribute "
            'last_layers with patterns of their parameters\' names, such as last_layers = ("head.output.*",). '
            f"Its parameters end with {ending}"
        )
    return chosen
