"""The tasks one trainer serves: detection and image classification."""

from collections.abc import Sized
from typing import Any, Protocol

import numpy as np
from detectron2.config import CfgNode
from detectron2.evaluation import DatasetEvaluator
from torch import Tensor, nn

from ..data.sampling import ResumableSampler
from ..pruning.statistics import Statistics
from .classification import ClassificationTask
from .detection import DetectionTask


class Task(Protocol):
    """What the trainer asks of a task. A record is a dict with dataset_name and image_id."""

    def load_dataset(self, cfg: CfgNode, name: str) -> list[dict]:
        """All records of one registered data set, checked."""

    def load_records(self, cfg: CfgNode) -> list[dict]:
        """The records of DATASETS.TRAIN that DATASETS.SELECTION keeps."""

    def split_competing(self, cfg: CfgNode, records: list[dict]) -> tuple[list[dict], list[dict]]:
        """(those a pruning method chooses among, the others)."""

    def split_trainable(self, cfg: CfgNode, records: list[dict]) -> tuple[list[dict], list[dict]]:
        """(those plain training uses, the others)."""

    def adapt_model(self, model: nn.Module, records: list[dict]) -> None:
        """Gives the model what it has to know of its training data."""

    def train_loader(self, cfg: CfgNode, records: list[dict], sampler: ResumableSampler) -> Any:
        """Endless batches in the order of `sampler`."""

    def test_loader(self, cfg: CfgNode, name: str) -> Sized:
        """The batches of one data set, once."""

    def evaluator(self, cfg: CfgNode, name: str) -> DatasetEvaluator:
        """Leaves OUTPUT_DIR/inference/<name>/evaluation.json."""

    def return_per_image_losses(self, model: nn.Module) -> None:
        """Makes the values of the model's loss dict (B,) vectors, whose mean was the value."""

    def read_image(self, cfg: CfgNode, record: dict) -> np.ndarray:
        """An image as people see it, (H, W, 3) uint8 RGB."""

    def labelled(self, records: list[dict]) -> Statistics:
        """What is known of images before a model has seen them."""

    def class_counts(self, records: list[dict]) -> Tensor:
        """How many objects of each class are in each image, (N, K) int16, for what losses are to be expected."""

    def statistics(self, cfg: CfgNode, model: nn.Module, records: list[dict]) -> Statistics:
        """What a trained model says of each image, not augmented, in evaluation mode; it is left as it was."""

    def image_indices(self, batch: Any) -> Tensor:
        """`image_index` of each image of a batch, (B,) integers."""

    def describe(self, batch: Any, records: list[dict]) -> list[str]:
        """Names of a batch's images, for error messages."""


def task_of(cfg: CfgNode) -> Task:
    """Classification if the model is an ImageClassifier, else detection."""
    if cfg.MODEL.META_ARCHITECTURE == "ImageClassifier":
        return ClassificationTask()
    return DetectionTask()
