"""What a trained classifier sees of each image: the input of its last layer."""

import numpy as np
import torch
from detectron2.config import CfgNode
from tqdm import tqdm

from ..engine.classification import ClassificationTask
from ..modeling.image_classifier import ImageClassifier


@torch.no_grad()
def embed_dataset(cfg: CfgNode, model: ImageClassifier, name: str) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Features of all images of a data set, not augmented, in its order.

    Args:
        model: put into evaluation mode for the time.
        name: a registered classification data set of N images.

    Returns:
        features (N, F) float32, classes (N,) int64, ids (N strings).
    """
    was_training = model.training
    model.eval()
    features, labels, ids = [], [], []
    for batch in tqdm(ClassificationTask.test_loader(cfg, name), "Features", unit="batch", delay=5):
        # Not in bfloat16, however it was trained: near neighbours would be rounded to one point.
        features.append(model.embed(batch).cpu().numpy())
        labels.append(batch["labels"].cpu().numpy())
        ids += batch["image_ids"]
    model.train(was_training)
    return np.concatenate(features), np.concatenate(labels), ids
