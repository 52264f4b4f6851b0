"""What training, pruning and evaluating a classifier need to know of image classification."""

import os
from collections.abc import Sequence
from typing import cast

import numpy as np
from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data.build import check_metadata_consistency
from torch import Tensor, nn
from torch.utils.data import DataLoader

from ..data.image_batches import evaluation_batches, pixel_statistics, training_batches
from ..data.images import read_images
from ..data.records import checked_records, training_records
from ..evaluation.accuracy import ClassificationEvaluator
from ..modeling.image_classifier import ImageClassifier
from ..pruning.statistics import Statistics
from . import classification_statistics

# So many images, evenly spread over the data, tell their mean and deviation well enough.
_STATISTICS_IMAGES = 10_000


class ClassificationTask:
    """Images with one class each; see `engine.tasks.Task`."""

    @staticmethod
    def load_dataset(cfg: CfgNode, name: str) -> Sequence[dict]:
        kind = MetadataCatalog.get(name).get("evaluator_type")
        if name not in DatasetCatalog or kind != "classification":
            raise ValueError(
                f"data set {name} is not registered for classification, which MODEL.META_ARCHITECTURE ImageClassifier "
                f"needs: register it with --register {name}=images:PATH"
            )
        return checked_records(name, DatasetCatalog.get(name))

    @staticmethod
    def load_records(cfg: CfgNode) -> Sequence[dict]:
        records = training_records(cfg, lambda name: ClassificationTask.load_dataset(cfg, name))
        check_metadata_consistency("thing_classes", cfg.DATASETS.TRAIN)
        return records

    @staticmethod
    def split_competing(cfg: CfgNode, records: Sequence[dict]) -> tuple[Sequence[dict], Sequence[dict]]:
        return records, []

    split_trainable = split_competing

    @staticmethod
    def adapt_model(model: nn.Module, records: Sequence[dict]) -> None:
        """Gives the model the mean and deviation of its training images, unless its weights brought theirs."""
        model = cast(ImageClassifier, model)
        if not model.has_pixel_statistics:
            spread = np.linspace(0, len(records) - 1, min(len(records), _STATISTICS_IMAGES)).round().astype(int)
            images = read_images([records[i] for i in spread], model.image_size)
            model.set_pixel_statistics(*pixel_statistics(images))

    train_loader = staticmethod(training_batches)
    labelled = staticmethod(classification_statistics.labelled)

    @staticmethod
    def test_loader(cfg: CfgNode, name: str) -> DataLoader:
        return evaluation_batches(cfg, ClassificationTask.load_dataset(cfg, name))

    @staticmethod
    def evaluator(cfg: CfgNode, name: str) -> ClassificationEvaluator:
        return ClassificationEvaluator(name, os.path.join(cfg.OUTPUT_DIR, "inference", name))

    @staticmethod
    def read_image(cfg: CfgNode, record: dict) -> np.ndarray:
        return read_images([record], cfg.INPUT.IMAGE_SIZE)[0]

    @staticmethod
    def statistics(cfg: CfgNode, model: nn.Module, records: Sequence[dict]) -> Statistics:
        return classification_statistics.statistics_of(cfg, cast(ImageClassifier, model), records)

    @staticmethod
    def object_features(cfg: CfgNode, model: nn.Module, records: Sequence[dict]) -> np.ndarray:
        return classification_statistics.last_layer_of(cfg, cast(ImageClassifier, model), records).features

    @staticmethod
    def image_indices(batch: dict) -> Tensor:
        return batch["image_index"]
