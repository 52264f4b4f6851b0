"""A ResNet that trains on a CPU in minutes."""
from typing import Sequence

from torch import Tensor, nn


class SmallResNet(nn.Module):
    """Strided stem, then stages of one basic block each.

    Args:
        widths: channels of the stages, the second and later of stride 2.
    """

    def __init__(self, widths: Sequence[int] = (64, 128, 256)):
        super().__init__()
        stages = [_conv_norm(3, widths[0], stride=2), nn.ReLU(inplace=True)]
        channels = widths[0]
        for i, width in enumerate(widths):
            stages.append(_Block(channels, width, stride=1 if i == 0 else 2))
            channels = width
        self.stages = nn.Sequential(*stages)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.num_features = channels

    def forward(self, images: Tensor) -> Tensor:
        """(N, 3, H, W) to (N, num_features)."""
        return self.pool(self.stages(images)).flatten(1)


class _Block(nn.Module):
    """ResNet's basic block (He et al. 2016, "Deep Residual Learning for Image Recognition", Fig. 2)."""

    def __init__(self, channels: int, width: int, stride: int):
        super().__init__()
        self.first = _conv_norm(channels, width, stride)
        self.second = _conv_norm(width, width)
        same = stride == 1 and channels == width
        self.shortcut = nn.Identity() if same else _conv_norm(channels, width, stride, kernel=1)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.relu(self.shortcut(x) + self.second(self.relu(self.first(x))))


def _conv_norm(channels: int, width: int, stride: int = 1, kernel: int = 3) -> nn.Sequential:
    conv = nn.Conv2d(channels, width, kernel, stride, padding=kernel // 2, bias=False)
    nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
    return nn.Sequential(conv, nn.BatchNorm2d(width))
