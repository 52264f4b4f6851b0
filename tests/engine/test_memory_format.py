"""Channels-last convolutions: the same losses and gradients, in a layout that CPUs are faster with."""

import copy

import pytest
import torch
from detectron2.structures import Boxes, Instances
from detectron2.utils.events import EventStorage
from torch import nn

from adapruner_det.engine import AdaPrunerTrainer, load_config

SMALL = ["MODEL.RESNETS.DEPTH", "18", "MODEL.RESNETS.RES2_OUT_CHANNELS", "64", "MODEL.DEVICE", "cpu"]
DETECTORS = {
    "YOLOv3-Tiny": ["configs/Base-YOLOv3-Tiny.yaml", "MODEL.YOLO.NUM_CLASSES", "2"],
    "Faster R-CNN": ["configs/Base-Faster-RCNN-FPN-R18.yaml", "MODEL.ROI_HEADS.NUM_CLASSES", "2"],
}


def is_channels_last(tensor):
    return tensor.is_contiguous(memory_format=torch.channels_last)


def batch():
    """Two images of noise with a box each."""
    generator = torch.Generator().manual_seed(0)
    records = []
    for box in ([8.0, 8, 40, 30], [20.0, 30, 60, 62]):
        instances = Instances((64, 96), gt_boxes=Boxes([box]), gt_classes=torch.tensor([1]))
        image = torch.randint(256, (3, 64, 96), dtype=torch.uint8, generator=generator)
        records.append({"image": image, "instances": instances, "height": 64, "width": 96})
    return records


@pytest.fixture(scope="module", params=list(DETECTORS))
def models(request):
    """(as Detectron2 builds it, as the trainer does), with the same weights."""
    file, *options = DETECTORS[request.param]
    torch.manual_seed(0)
    built = AdaPrunerTrainer.build_model(load_config(file, opts=[*SMALL, *options]))
    plain = copy.deepcopy(built).to(memory_format=torch.contiguous_format)
    return plain.train(), built.train()


def losses_and_gradient(model, dtype):
    """Loss terms and all gradients as one vector each, in float64."""
    torch.manual_seed(0)  # anchors and proposals are sampled
    model.zero_grad()
    with EventStorage(0), torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16):
        losses = model(batch())
    sum(losses.values()).backward()
    gradients = [p.grad.double().flatten() for p in model.parameters()]
    return torch.stack([*losses.values()]).detach().double(), torch.cat(gradients)


def test_losses_and_gradients_are_those_of_the_other_layout(models):
    (exact, gradient), (found, other) = (losses_and_gradient(m, torch.float32) for m in models)
    assert torch.allclose(found, exact, rtol=1e-4)
    assert (other - gradient).norm() < 1e-3 * gradient.norm()
    (plain, plain_gradient), (found, other) = (losses_and_gradient(m, torch.bfloat16) for m in models)
    assert (found - exact).norm() < 2 * (plain - exact).norm() + 0.01 * exact.norm()
    assert (other - gradient).norm() < 1.5 * (plain_gradient - gradient).norm()


def test_maps_of_the_backbone_weights_and_gradients_are_channels_last(models):
    model, layouts = models[1], []
    hooks = [
        module.register_forward_hook(lambda _, __, out: layouts.append(is_channels_last(out)))
        for module in model.backbone.modules()
        if isinstance(module, nn.Conv2d)
    ]
    losses_and_gradient(model, torch.bfloat16)
    for hook in hooks:
        hook.remove()
    assert len(layouts) >= 20 and all(layouts)
    assert all(is_channels_last(p) and is_channels_last(p.grad) for p in model.parameters() if p.dim() == 4)
