"""A ResNet that trains on a CPU in minutes."""

from torch import Tensor, nn

_WIDTHS = (32, 64, 128)  # channels of each stage, which halves height and width


class SmallResNet(nn.Module):
    """Stages that halve the resolution at once, since a CPU spends its time on large maps.

    The blocks follow ResNet-9 of DAWNBench (Page 2018, "How to train your ResNet"): a convolution
    changes width and resolution, and a residual block of two keeps them. The first stage is narrow,
    since in bfloat16 BatchNorm and ReLU at half resolution cost more than the convolutions; channels
    are multiples of 32, which is what CPUs with AMX compute at a time.
    """

    num_features = _WIDTHS[-1]

    def __init__(self):
        super().__init__()
        layers, channels = [], 3
        for width in _WIDTHS:
            layers += _conv_norm_relu(channels, width, kernel=4 if channels == 3 else 3, stride=2)
            layers.append(_Residual(width))
            channels = width
        self.layers = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten())

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
