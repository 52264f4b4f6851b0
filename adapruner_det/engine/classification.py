"""What training, pruning and evaluating a classifier need to know of image classification."""

import os
from functools import partial

import numpy as np
import torch
from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data.build import check_metadata_consistency
from torch import Tensor, nn

from ..data.augmentation import Augmentation
from ..data.image_batches import TestBatches, TrainBatches, labels_of, pixel_statistics
from ..data.image_datasets import read_images
from ..data.label_noise import flip_labels
from ..data.records import checked_records, training_records
from ..data.sampling import ResumableSampler
from ..evaluation.accuracy import ClassificationEvaluator
from ..pruning.matching import Detections, Labels
from ..pruning.statistics import Statistics
from .classification_statistics import last_layer_of

_FLIPS = ("horizontal", "none")
# So many images, evenly spread over the data, tell their mean and deviation well enough.
_STATISTICS_IMAGES = 10_000


class ClassificationTask:
    """Images with one class each; see `engine.tasks.Task`."""

    @staticmethod
    def load_dataset(cfg: CfgNode, name: str) -> list[dict]:
        """A training set has the wrong classes of CLASSIFICATION.LABEL_NOISE.

        Raises:
            ValueError: `name` is no classification data set, holds no image, or an id twice.
        """
        records = _load_clean(name)
        options = cfg.CLASSIFICATION
        if not options.LABEL_NOISE or name not in cfg.DATASETS.TRAIN:
            return records
        num_classes = len(MetadataCatalog.get(name).thing_classes)
        return flip_labels(records, options.LABEL_NOISE, options.LABEL_NOISE_SEED, num_classes)

    @staticmethod
    def load_records(cfg: CfgNode) -> list[dict]:
        records = training_records(cfg, lambda name: ClassificationTask.load_dataset(cfg, name))
        check_metadata_consistency("thing_classes", cfg.DATASETS.TRAIN)
        return records

    @staticmethod
    def split_competing(cfg: CfgNode, records: list[dict]) -> tuple[list[dict], list[dict]]:
        return records, []

    @staticmethod
    def split_trainable(cfg: CfgNode, records: list[dict]) -> tuple[list[dict], list[dict]]:
        return records, []

    @staticmethod
    def adapt_model(model: nn.Module, records: list[dict]) -> None:
        """Gives the model the mean and deviation of its training images.

        Weights of torchvision keep those they were trained with; weights that are loaded later
        bring theirs.
        """
        if model.has_pixel_statistics:
            return
        spread = np.linspace(0, len(records) - 1, min(len(records), _STATISTICS_IMAGES)).round()
        images = read_images([records[int(i)] for i in spread], model.image_size)
        model.set_pixel_statistics(*pixel_statistics(images))

    @staticmethod
    def train_loader(cfg: CfgNode, records: list[dict], sampler: ResumableSampler) -> TrainBatches:
        augmentation = _augmentation(cfg)  # first: reading the images takes longer than to refuse
        return TrainBatches(
            read_images(records, cfg.INPUT.IMAGE_SIZE),
            labels_of(records),
            sampler,
            batch_size=cfg.SOLVER.IMS_PER_BATCH,
            augmentation=augmentation,
            seed=max(cfg.SEED, 0),
            device=cfg.MODEL.DEVICE,
            keep_on_device=cfg.INPUT.KEEP_ON_DEVICE,
        )

    @staticmethod
    def test_loader(cfg: CfgNode, name: str) -> TestBatches:
        return TestBatches(
            _load_clean(name),
            partial(read_images, size=cfg.INPUT.IMAGE_SIZE),
            cfg.SOLVER.IMS_PER_BATCH,
            cfg.MODEL.DEVICE,
        )

    @staticmethod
    def evaluator(cfg: CfgNode, name: str) -> ClassificationEvaluator:
        return ClassificationEvaluator(name, os.path.join(cfg.OUTPUT_DIR, "inference", name))

    @staticmethod
    def read_image(cfg: CfgNode, record: dict) -> np.ndarray:
        return read_images([record], cfg.INPUT.IMAGE_SIZE)[0]

    @staticmethod
    def class_counts(records: list[dict]) -> Tensor:
        num_classes = len(MetadataCatalog.get(records[0]["dataset_name"]).thing_classes)
        counts = torch.zeros(len(records), num_classes, dtype=torch.int16)
        return counts.scatter_(1, labels_of(records)[:, None], 1)

    @staticmethod
    def statistics(cfg: CfgNode, model: nn.Module, records: list[dict]) -> Statistics:
        features, probabilities = last_layer_of(cfg, model, records)
        labels, images = labels_of(records).numpy(), np.arange(len(records))
        right = np.maximum(probabilities[images, labels], np.finfo(np.float32).tiny)
        box = np.tile(np.float32([0, 0, 1, 1]), (len(records), 1))  # the whole image
        seen = probabilities.argmax(axis=1)
        return Statistics(
            datasets=[record["dataset_name"] for record in records],
            ids=[str(record["image_id"]) for record in records],
            losses={"loss_cls": -np.log(right)},
            counts=ClassificationTask.class_counts(records).numpy(),
            features=features,
            labels=Labels(box, labels, images, np.zeros(len(records), bool)),
            found=Detections(box, probabilities[images, seen], seen, images),
            class_names=list(MetadataCatalog.get(records[0]["dataset_name"]).thing_classes),
        )

    @staticmethod
    def image_indices(batch: dict) -> Tensor:
        return batch["image_index"]


def _load_clean(name: str) -> list[dict]:
    """The records of a classification data set, whatever CLASSIFICATION.LABEL_NOISE is."""
    kind = MetadataCatalog.get(name).get("evaluator_type")
    if name not in DatasetCatalog or kind != "classification":
        raise ValueError(
            f"data set {name} is not registered for classification, which "
            "MODEL.META_ARCHITECTURE ImageClassifier needs: register it with "
            f"--register {name}=images:PATH"
        )
    return checked_records(name, DatasetCatalog.get(name))


def _augmentation(cfg: CfgNode) -> Augmentation:
    options = cfg.INPUT
    if options.RANDOM_FLIP not in _FLIPS:
        raise ValueError(
            f"INPUT.RANDOM_FLIP is {options.RANDOM_FLIP!r}; for classification it can be {', '.join(_FLIPS)}"
        )
    for key in ("CROP_PADDING", "CUTOUT"):
        if not 0 <= options[key] <= options.IMAGE_SIZE:
            raise ValueError(f"INPUT.{key} is {options[key]}; it can be 0 to INPUT.IMAGE_SIZE, {options.IMAGE_SIZE}")
    return Augmentation(options.CROP_PADDING, options.RANDOM_FLIP == "horizontal", options.CUTOUT)
