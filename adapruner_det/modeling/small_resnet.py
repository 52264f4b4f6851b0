"""A ResNet that trains on a CPU in minutes."""

from torch import Tensor, nn

# Channels and residual blocks of each stage, which halves height and width.
_STAGES = ((32, 1), (64, 1), (128, 1))


class SmallResNet(nn.Module):
    """Stages that halve the resolution at once, since a CPU spends its time on large maps.

    The blocks follow ResNet-9 of DAWNBench (Page 2018, "How to train your ResNet"): a convolution
    changes width and resolution, and a residual block of two keeps them. In bfloat16 BatchNorm and
    ReLU at half resolution cost more than the convolutions, so that stage is narrow, and channels are
    multiples of 32, which is what CPUs with AMX compute at a time.
    """

    def __init__(self):
        super().__init__()
        layers, channels = [], 3
        for width, blocks in _STAGES:
            layers += _conv_norm_relu(channels, width, kernel=4 if channels == 3 else 3, stride=2)
            layers += [_Residual(width) for _ in range(blocks)]
            channels = width
        self.layers = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.num_features = channels

    def forward(self, images: Tensor) -> Tensor:
        """(N, 3, H, W) to (N, num_features)."""
        return self.layers(images)


class _Residual(nn.Module):
    def __init__(self, width: int):
        super().__init__()
        self.block = nn.Sequential(*_conv_norm_relu(width, width), *_conv_norm_relu(width, width))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.block(x)


def _conv_norm_relu(channels: int, width: int, kernel: int = 3, stride: int = 1) -> list[nn.Module]:
    conv = nn.Conv2d(channels, width, kernel, stride, padding=1, bias=False)
    nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
    return [conv, nn.BatchNorm2d(width), nn.ReLU(inplace=True)]
