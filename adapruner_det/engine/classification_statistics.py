"""What a classifier tells other pruning methods of the images it was trained on.

N images, C classes, F features, B images of a batch.
"""

from collections.abc import Iterator

import numpy as np
import torch
from detectron2.config import CfgNode
from torch import Tensor
from tqdm import tqdm

from ..baselines.grand import full_gradient_norms
from ..data.image_batches import evaluation_batches
from ..data.images import read_images
from ..modeling.image_classifier import ImageClassifier


def pixels_of(cfg: CfgNode, records: list[dict]) -> np.ndarray:
    """The images as the network gets them but for its normalisation, (N, H, W, 3) uint8 RGB."""
    return read_images(records, cfg.INPUT.IMAGE_SIZE)


@torch.no_grad()
def last_layer_of(cfg: CfgNode, model: ImageClassifier, records: list[dict]) -> tuple[np.ndarray, np.ndarray]:
    """What the last layer gets and says, images not augmented: (N, F) features, (N, C) probabilities.

    Both float32. The network runs in the precision of the config; the last layer in float32, so that
    the probabilities are those of these very features.

    Args:
        model: put into evaluation mode for the time.
    """
    features, probabilities = [], []
    for batch in _batches(cfg, model, records, "Features"):
        with torch.autocast(model.device.type, torch.bfloat16, enabled=cfg.SOLVER.AMP.ENABLED):
            seen = model.embed(batch)
        seen = seen.float()
        features.append(seen.cpu().numpy())
        probabilities.append(model.head(seen).softmax(1).cpu().numpy())
    return np.concatenate(features), np.concatenate(probabilities)


def gradient_norms_of(cfg: CfgNode, model: ImageClassifier, records: list[dict]) -> np.ndarray:
    """Norm of the gradient of each image's loss on all parameters, images not augmented: (N,) float32.

    In float32 throughout, whatever the config's precision: what is compared are small differences.
    """
    norms = [
        full_gradient_norms(model, batch["images"], batch["labels"], lambda images: {"images": images})
        for batch in _batches(cfg, model, records, "Gradients")
    ]
    return np.concatenate(norms)


def _batches(cfg: CfgNode, model: ImageClassifier, records: list[dict], what: str) -> Iterator[dict]:
    """The images once and in their order, with progress; the model is in evaluation mode meanwhile."""
    batches = evaluation_batches(cfg, records, share=False)
    was_training = model.training
    model.eval()
    try:
        yield from tqdm(batches, what, unit="batch", delay=5)
    finally:
        model.train(was_training)


class AnswersInTraining:
    """Remembers the logits of a classifier's last training step, to see which images it has right.

    Args:
        model: its head is watched from now on.
    """

    def __init__(self, model: ImageClassifier):
        self._logits = None
        model.head.register_forward_hook(self._remember)

    def _remember(self, head, inputs, logits: Tensor) -> None:
        self._logits = logits.detach()

    def correct(self, batch: dict) -> Tensor:
        """Whether each image of the batch that was just trained on is in its class: (B,) bool, on the CPU."""
        return (self._logits.argmax(1) == batch["labels"].to(self._logits.device)).cpu()
