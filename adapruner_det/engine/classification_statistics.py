"""What a classifier says of the images it was trained on.

N images, C classes, F features, B images of a batch.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
import torch
from detectron2.config import CfgNode
from detectron2.data import MetadataCatalog
from torch import Tensor
from torch.func import functional_call, grad, vmap
from torch.nn import functional as F

from ..data.image_batches import evaluation_batches, labels_of
from ..modeling.image_classifier import ImageClassifier
from ..pruning.matching import Detections, Labels
from ..pruning.statistics import WHOLE_IMAGE, LastLayer, Statistics
from .console import counted
from .precision import autocast

_AT_A_TIME = 16  # images whose gradients are held together


def labelled(records: Sequence[dict]) -> Statistics:
    """What is known of N images before a model has seen them: an image is one box."""
    boxes = np.tile(np.array(WHOLE_IMAGE, np.float32), (len(records), 1))
    return Statistics.of_labels(
        [record["dataset_name"] for record in records],
        [str(record["image_id"]) for record in records],
        Labels(boxes, labels_of(records).numpy(), np.arange(len(records))),
        list(MetadataCatalog.get(records[0]["dataset_name"]).thing_classes),
    )


def statistics_of(cfg: CfgNode, model: ImageClassifier, records: Sequence[dict]) -> Statistics:
    """What a trained classifier says of N images, not augmented; it is left as it was."""
    known, (features, probabilities) = labelled(records), last_layer_of(cfg, model, records)
    images, seen = np.arange(len(records)), probabilities.argmax(axis=1)
    right = np.maximum(probabilities[images, known.labels.classes], np.finfo(np.float32).tiny)
    found = Detections(known.labels.boxes, probabilities[images, seen], seen, images)
    return replace(known, losses={"loss_cls": -np.log(right)}, features=features, found=found)


@torch.no_grad()
def last_layer_of(cfg: CfgNode, model: ImageClassifier, records: Sequence[dict]) -> LastLayer:
    """What the last layer gets and says, images not augmented.

    The network runs in the precision of the config; the last layer in float32, so that the probabilities are those of
    these very features.

    Args:
        model: put into evaluation mode for the time.
    """
    features, probabilities = [], []
    for batch in _batches(cfg, model, records, "Features"):
        with autocast(model.device, cfg.SOLVER.AMP.ENABLED):
            seen = model.embed(batch)
        seen = seen.float()
        features.append(seen.cpu().numpy())
        probabilities.append(model.head(seen).softmax(1).cpu().numpy())
    return LastLayer(np.concatenate(features), np.concatenate(probabilities))


def gradient_norms_of(cfg: CfgNode, model: ImageClassifier, records: Sequence[dict]) -> np.ndarray:
    """Norm of the gradient of each image's loss on all trained parameters, images not augmented: (N,) float32.

    In float32 throughout, whatever the config's precision: what is compared are small differences.
    """
    parameters = {name: value.detach() for name, value in model.named_parameters() if value.requires_grad}

    def loss(parameters: dict[str, Tensor], image: Tensor, label: Tensor) -> Tensor:
        logits = functional_call(model, parameters, ({"images": image[None]},))
        return F.cross_entropy(logits, label[None])

    def norm(image: Tensor, label: Tensor) -> Tensor:
        gradients = grad(loss)(parameters, image, label)
        return sum(gradient.square().sum() for gradient in gradients.values()).sqrt()

    norms = []
    for batch in _batches(cfg, model, records, "Gradients"):
        images, labels = (batch[key].to(model.device) for key in ("images", "labels"))
        images = images.contiguous(memory_format=torch.channels_last)  # as vmap cannot bring them there
        norms.append(vmap(norm, chunk_size=_AT_A_TIME)(images, labels).cpu().numpy())
    return np.concatenate(norms)


def _batches(cfg: CfgNode, model: ImageClassifier, records: Sequence[dict], what: str) -> Iterator[dict]:
    """The images once and in their order, with progress; the model is in evaluation mode meanwhile."""
    batches = evaluation_batches(cfg, records, share=False)
    was_training = model.training
    model.eval()
    try:
        with counted(len(batches), what, "batch") as progress:
            for batch in batches:
                yield batch
                progress.update()
    finally:
        model.train(was_training)


class AnswersInTraining:
    """Remembers the logits of a classifier's last training step, to see which images it has right.

    Args:
        model: its head is watched from now on.
    """

    def __init__(self, model: ImageClassifier):
        self._logits: Tensor | None = None
        model.head.register_forward_hook(self._remember)

    def _remember(self, head, inputs, logits: Tensor) -> None:
        self._logits = logits.detach()

    def correct(self, batch: dict) -> Tensor:
        """Whether each image of the batch that was just trained on is in its class: (B,) bool, on the CPU."""
        assert self._logits is not None  # the model was trained
        return (self._logits.argmax(1) == batch["labels"].to(self._logits.device)).cpu()
