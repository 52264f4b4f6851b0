"""Making a detector return its losses image by image."""
from torch import nn
from torch.nn.parallel import DistributedDataParallel

PER_IMAGE_FLAG = "per_image_losses"


def return_per_image_losses(model: nn.Module) -> None:
    """Makes the training forward pass of `model` return a (N,) vector for each loss term.

    The mean of each vector over the N images of the batch is the term as the model computes it
    otherwise.

    Raises:
        ValueError: the model has no per-image losses.
    """
    inner = model.module if isinstance(model, DistributedDataParallel) else model
    if not hasattr(inner, PER_IMAGE_FLAG):
        raise ValueError(
            f"{type(inner).__name__} does not give its losses image by image, so AdaPruner cannot "
            "weight them: set MODEL.META_ARCHITECTURE to YOLOv3Tiny to prune (any detector can be "
            "trained on the selection)"
        )
    setattr(inner, PER_IMAGE_FLAG, True)
