"""What the baselines may know of the images they choose among.

N images, C classes, S sizes, F features, E epochs.
"""

from typing import NamedTuple, Protocol

import numpy as np

CLASSIFICATION, DETECTION = "classification", "detection"


class LastLayer(NamedTuple):
    """What the last, linear layer of a classifier sees and what it says, images not augmented.

    Attributes:
        features: (N, F) float32, its input.
        probabilities: (N, C) float32, the softmax of its output.
    """

    features: np.ndarray
    probabilities: np.ndarray


class Dynamics(NamedTuple):
    """What happened to the images while the proxy trained, one row an epoch.

    Attributes:
        losses: (E, N) float32, the loss of each image at its visit in each epoch, before the step.
        correct: (E', N) float32. Classification: 1 where the image was classified right at that visit,
            else 0 (E' = E). Detection: the share of its boxes that were found, measured E' times in
            the course of training; 1 for an image without boxes and without detections.
    """

    losses: np.ndarray
    correct: np.ndarray


class Evidence(Protocol):
    """What is known of the images; each is computed when it is first asked for, and once.

    The proxy is a network trained on all images by the config, without pruning. No test image is
    ever looked at.

    Attributes:
        task: CLASSIFICATION or DETECTION.
        labels: (N,) int64, the class of each image; for detection the one most of its boxes have, C
            for an image without boxes.
        num_classes: C.
        records: N dicts; `dataset_name` and `image_id` together name an image.
        image_learning_rate: what the proxy's training multiplies the gradient of one image by, its learning
            rate over the images of a batch.
    """

    task: str
    labels: np.ndarray
    num_classes: int
    records: list[dict]
    image_learning_rate: float

    def objects(self) -> np.ndarray:
        """(N, C, S) int64, how many objects of each class and size are labelled in each image.

        Detection has COCO's three sizes, small, medium and large; a picture of a class is one object of one size.
        """

    def pixels(self) -> np.ndarray:
        """(N, H, W, 3) uint8, RGB. Classification only."""

    def features(self) -> np.ndarray:
        """(N, F) float32 of the trained proxy: what its last layer sees, or its pooled backbone."""

    def last_layer(self) -> LastLayer:
        """Of the trained proxy. Classification only."""

    def dynamics(self) -> Dynamics:
        """Of the proxy's training."""

    def early(self) -> list[LastLayer]:
        """Of one or several networks early in their training. Classification only."""

    def gradient_norms(self) -> np.ndarray:
        """(M, N) float32: norm of the gradient of each image's loss, by M networks early in training."""
