"""Image classifiers: torchvision's ResNets, and a small one for CPUs.

N images, C channels, H x W pixels, F features, K classes.
"""

import logging

import torch
import torch.nn.functional as F
import torchvision
from detectron2.config import CfgNode, configurable
from detectron2.modeling import META_ARCH_REGISTRY
from torch import Tensor, nn
from torchvision.models import resnet

from .small_resnet import SmallResNet

logger = logging.getLogger(__name__)

SMALL = "small_resnet"
STEMS = ("cifar", "imagenet")


@META_ARCH_REGISTRY.register()
class ImageClassifier(nn.Module):
    """A network and a linear head, trained with the cross-entropy.

    Attributes:
        per_image_losses: if True, the loss is one value an image instead of their mean.
        pixel_mean, pixel_std: (3,), of RGB pixels in 0 to 255; saved with the weights.
    """

    @configurable
    def __init__(
        self,
        network: nn.Module,
        num_features: int,
        num_classes: int,
        *,
        image_size: int,
        pixel_statistics: tuple[Tensor, Tensor] | None = None,
        channels_last: bool = True,
        compile: bool = False,
    ):
        """
        Args:
            network: (N, 3, H, W) to (N, num_features).
            num_features: F.
            num_classes: K.
            image_size: H and W.
            pixel_statistics: mean and standard deviation (3,) that the network's weights were trained
                with; without them `set_pixel_statistics` gives it those of the training set.
            channels_last: memory format of weights and images.
            compile: run the network through torch.compile.
        """
        super().__init__()
        self.image_size = image_size
        self.per_image_losses = False
        self.has_pixel_statistics = pixel_statistics is not None
        mean, std = pixel_statistics or (torch.full((3,), 127.5), torch.full((3,), 64.0))
        self.register_buffer("pixel_mean", mean.clone())
        self.register_buffer("pixel_std", std.clone())
        self._memory_format = torch.channels_last if channels_last else torch.contiguous_format
        self.network = network.to(memory_format=self._memory_format)
        self.head = nn.Linear(num_features, num_classes)
        if compile:
            self.network.compile()

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict:
        options = cfg.MODEL.CLASSIFIER
        network, num_features = build_network(options.NAME, options.STEM)
        statistics = None
        if options.PRETRAINED:
            statistics = load_pretrained(network, options.NAME, options.PRETRAINED)
        return {
            "network": network,
            "num_features": num_features,
            "num_classes": options.NUM_CLASSES,
            "image_size": cfg.INPUT.IMAGE_SIZE,
            "pixel_statistics": statistics,
            "channels_last": options.CHANNELS_LAST,
            "compile": options.COMPILE,
        }

    @property
    def device(self) -> torch.device:
        """Where the model lies."""
        return self.pixel_mean.device

    def set_pixel_statistics(self, mean: Tensor, std: Tensor) -> None:
        """Images are normalised with these from now on: (3,) each, of RGB pixels in 0 to 255."""
        self.pixel_mean.copy_(mean)
        self.pixel_std.copy_(std)

    def forward(self, batch: dict[str, Tensor]):
        """
        Args:
            batch: "images" (N, 3, H, W), RGB in 0 to 255, any type; in training "labels" (N,) too.

        Returns:
            In training {"loss_cls": cross-entropy}, a scalar or (N,) with `per_image_losses`; else
            the logits (N, K). Both float32, whatever autocast says.
        """
        logits = self.head(self.embed(batch)).float()
        if not self.training:
            return logits
        labels = batch["labels"].to(self.device, non_blocking=True)
        reduction = "none" if self.per_image_losses else "mean"
        return {"loss_cls": F.cross_entropy(logits, labels, reduction=reduction)}

    def embed(self, batch: dict[str, Tensor]) -> Tensor:
        """What the head sees of a batch: (N, F)."""
        return self.network(self._normalized(batch["images"]))

    def _normalized(self, images: Tensor) -> Tensor:
        images = images.to(self.device, torch.float32, non_blocking=True)
        images = (images - self.pixel_mean[:, None, None]) / self.pixel_std[:, None, None]
        return images.contiguous(memory_format=self._memory_format)


def build_network(name: str, stem: str) -> tuple[nn.Module, int]:
    """A network without its head, and its number of features.

    Raises:
        ValueError: no such network or stem; the message names those there are.
    """
    if name == SMALL:
        network = SmallResNet()
        return network, network.num_features
    names = [n for n in torchvision.models.list_models(torchvision.models) if n in resnet.__all__]
    if name not in names:
        raise ValueError(f"MODEL.CLASSIFIER.NAME is {name!r}; it can be {', '.join([SMALL, *names])}")
    if stem not in STEMS:
        raise ValueError(f"MODEL.CLASSIFIER.STEM is {stem!r}; it can be {', '.join(STEMS)}")
    network = torchvision.models.get_model(name, weights=None)
    num_features = network.fc.in_features
    network.fc = nn.Identity()
    if stem == "cifar":
        network.conv1 = nn.Conv2d(3, network.conv1.out_channels, 3, padding=1, bias=False)
        nn.init.kaiming_normal_(network.conv1.weight, mode="fan_out", nonlinearity="relu")
        network.maxpool = nn.Identity()
    return network, num_features


def load_pretrained(network: nn.Module, name: str, weights_name: str) -> tuple[Tensor, Tensor]:
    """Loads torchvision's weights, downloading them if need be, but for head and foreign stem.

    Returns:
        Mean and standard deviation (3,), in 0 to 255, of the pixels the weights were trained on.

    Raises:
        ValueError: torchvision has no such weights for this network.
    """
    known = {} if name == SMALL else torchvision.models.get_model_weights(name).__members__
    if weights_name not in known:
        has = f"torchvision has {', '.join(known)}" if known else "there are none, leave it empty"
        raise ValueError(f"MODEL.CLASSIFIER.PRETRAINED is {weights_name!r}; for {name} {has}")
    weights = known[weights_name]
    state = weights.get_state_dict(progress=True, check_hash=True)
    own = network.state_dict()
    fitting = {key: value for key, value in state.items() if _fits(key, value, own)}
    network.load_state_dict(fitting, strict=False)
    left_out = [key for key in state if key not in fitting]
    fresh = [key for key in own if key not in fitting]
    logger.info(
        f"{name}: {weights_name} loaded but for {', '.join(left_out)}. Randomly initialised: "
        f"{', '.join([*fresh, 'the head'])}"
    )
    transforms = weights.transforms()
    return 255 * torch.tensor(transforms.mean), 255 * torch.tensor(transforms.std)


def _fits(key: str, value: Tensor, own: dict[str, Tensor]) -> bool:
    return key in own and own[key].shape == value.shape
