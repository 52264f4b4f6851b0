"""Image classifiers: torchvision's ResNets, and a small one for CPUs.

N images of H x W pixels, F features, K classes.
"""

import torch
import torch.nn.functional as F
import torchvision
from detectron2.config import CfgNode, configurable
from detectron2.modeling import META_ARCH_REGISTRY
from torch import Tensor, nn
from torchvision.models import resnet

from .small_resnet import SmallResNet

SMALL = "small_resnet"
STEMS = ("cifar", "imagenet")


@META_ARCH_REGISTRY.register()
class ImageClassifier(nn.Module):
    """A network and a linear head, trained with the cross-entropy. Weights and images are channels-last.

    Attributes:
        per_image_losses: if True, the loss is one value an image instead of their mean.
        has_pixel_statistics: whether the network's weights brought the mean and deviation of the pixels they
            were trained with; otherwise `set_pixel_statistics` gives it those of the training set.
    """

    pixel_mean: Tensor
    pixel_std: Tensor

    @configurable
    def __init__(
        self,
        network: nn.Module,
        num_features: int,
        num_classes: int,
        *,
        image_size: int,
        pixel_statistics: tuple[Tensor, Tensor] | None = None,
    ):
        """`network` maps (N, 3, H, W) to (N, num_features); for `pixel_statistics` see `build_network`."""
        super().__init__()
        self.image_size = image_size
        self.per_image_losses = False
        self.has_pixel_statistics = pixel_statistics is not None
        mean, std = pixel_statistics or (torch.full((3,), 127.5), torch.full((3,), 64.0))
        self.register_buffer("pixel_mean", mean.clone())
        self.register_buffer("pixel_std", std.clone())
        self.network = network.to(memory_format=torch.channels_last)
        self.head = nn.Linear(num_features, num_classes)

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict:
        options = cfg.MODEL.CLASSIFIER
        network, num_features, statistics = build_network(options.NAME, options.STEM, options.PRETRAINED)
        return {
            "network": network,
            "num_features": num_features,
            "num_classes": options.NUM_CLASSES,
            "image_size": cfg.INPUT.IMAGE_SIZE,
            "pixel_statistics": statistics,
        }

    @property
    def device(self) -> torch.device:
        return self.pixel_mean.device

    def set_pixel_statistics(self, mean: Tensor, std: Tensor) -> None:
        """Images are normalised with these from now on: (3,) each, of RGB pixels in 0 to 255."""
        self.pixel_mean.copy_(mean)
        self.pixel_std.copy_(std)

    def forward(self, batch: dict[str, Tensor]):
        """In training {"loss_cls": cross-entropy}, a scalar or (N,); else the logits (N, K). All float32.

        Args:
            batch: "images" (N, 3, H, W), RGB in 0 to 255, any type; in training "labels" (N,) too.
        """
        logits = self.head(self.embed(batch)).float()
        if not self.training:
            return logits
        labels = batch["labels"].to(self.device, non_blocking=True)
        reduction = "none" if self.per_image_losses else "mean"
        return {"loss_cls": F.cross_entropy(logits, labels, reduction=reduction)}

    def embed(self, batch: dict[str, Tensor]) -> Tensor:
        """What the head sees of a batch: (N, F)."""
        images = batch["images"].to(self.device, torch.float32, non_blocking=True)
        images = (images - self.pixel_mean[:, None, None]) / self.pixel_std[:, None, None]
        return self.network(images.contiguous(memory_format=torch.channels_last))


def build_network(name: str, stem: str, pretrained: str = "") -> tuple[nn.Module, int, tuple[Tensor, Tensor] | None]:
    """A network without its head.

    Args:
        name: `SMALL`, or a ResNet of torchvision.
        stem: one of `STEMS`; the small network has its own.
        pretrained: torchvision's name of weights, which are downloaded if need be; a foreign stem and the
            head are initialised anew.

    Returns:
        the network, F, and the mean and standard deviation (3,), in 0 to 255, of the pixels that the
        weights were trained on (None without any).

    Raises:
        ValueError: no such network, stem or weights; the message names those there are.
    """
    names = [n for n in torchvision.models.list_models(torchvision.models) if n in resnet.__all__]
    if name not in (SMALL, *names):
        raise ValueError(f"MODEL.CLASSIFIER.NAME is {name!r}; it can be {', '.join([SMALL, *names])}")
    if stem not in STEMS:
        raise ValueError(f"MODEL.CLASSIFIER.STEM is {stem!r}; it can be {', '.join(STEMS)}")
    known = {} if name == SMALL else torchvision.models.get_model_weights(name).__members__
    if pretrained and pretrained not in known:
        there_are = f"torchvision has {', '.join(known)}" if known else "there are none, leave it empty"
        raise ValueError(f"MODEL.CLASSIFIER.PRETRAINED is {pretrained!r}; for {name} {there_are}")
    if name == SMALL:
        return SmallResNet(), SmallResNet.num_features, None
    network = torchvision.models.get_model(name, weights=pretrained or None)
    num_features = network.fc.in_features
    network.fc = nn.Identity()
    if stem == "cifar":
        network.conv1 = nn.Conv2d(3, network.conv1.out_channels, 3, padding=1, bias=False)
        nn.init.kaiming_normal_(network.conv1.weight, mode="fan_out", nonlinearity="relu")
        network.maxpool = nn.Identity()
    if not pretrained:
        return network, num_features, None
    transforms = known[pretrained].transforms()
    return network, num_features, (255 * torch.tensor(transforms.mean), 255 * torch.tensor(transforms.std))
