"""What training, pruning and evaluating a detector need to know of detection."""

import os
from collections.abc import Sequence

import numpy as np
import torch
from detectron2.config import CfgNode
from detectron2.data import build_detection_test_loader, build_detection_train_loader
from detectron2.data.detection_utils import read_image
from detectron2.evaluation import DatasetEvaluator
from torch import Tensor, nn

from ..data import detection_records as training_data
from ..data.coco import compact_records
from ..data.detection_records import NumberedRecords, split_off_crowds, split_off_empty
from ..data.mapper import QuickMapper
from ..data.sampling import ResumableSampler
from ..data.small_copies import copies_of
from ..evaluation.voc_ap import build_evaluator
from . import detection_statistics
from .object_features import object_features_of


class DetectionTask:
    """Images with boxes; see `engine.tasks.Task`."""

    @staticmethod
    def load_dataset(cfg: CfgNode, name: str) -> Sequence[dict]:
        with compact_records(masks=cfg.MODEL.MASK_ON):
            return training_data.load_dataset(name, cfg.DATASETS.ON_INVALID)

    @staticmethod
    def load_records(cfg: CfgNode) -> Sequence[dict]:
        with compact_records(masks=cfg.MODEL.MASK_ON):
            records = training_data.load_records(cfg)
        if cfg.MODEL.MASK_ON:
            training_data.check_masks(records, cfg.INPUT.MASK_FORMAT)
        if cfg.MODEL.KEYPOINT_ON:
            training_data.check_keypoints(cfg.DATASETS.TRAIN)
        return records

    @staticmethod
    def split_competing(cfg: CfgNode, records: Sequence[dict]) -> tuple[Sequence[dict], Sequence[dict]]:
        return training_data.split_competing(records, cfg.ADAPRUNER.EMPTY_IMAGES)

    @staticmethod
    def split_trainable(cfg: CfgNode, records: Sequence[dict]) -> tuple[Sequence[dict], Sequence[dict]]:
        # What a selection keeps is trained on, images without boxes too.
        if cfg.DATASETS.SELECTION or not cfg.DATALOADER.FILTER_EMPTY_ANNOTATIONS:
            return split_off_crowds(records)
        return split_off_empty(records)

    @staticmethod
    def adapt_model(model: nn.Module, records: Sequence[dict]) -> None:
        """A detector's pixel statistics are settings: MODEL.PIXEL_MEAN and PIXEL_STD."""

    @staticmethod
    def train_loader(cfg: CfgNode, records: Sequence[dict], sampler: ResumableSampler):
        copies = copies_of(cfg)
        if copies:
            copies.fill(record["file_name"] for record in records)
        return build_detection_train_loader(
            NumberedRecords(records, QuickMapper(cfg, is_train=True).reading(copies), max(cfg.SEED, 0)),
            mapper=None,  # NumberedRecords has it
            sampler=sampler,
            total_batch_size=cfg.SOLVER.IMS_PER_BATCH,
            aspect_ratio_grouping=cfg.DATALOADER.ASPECT_RATIO_GROUPING,
            num_workers=cfg.DATALOADER.NUM_WORKERS,
        )

    @staticmethod
    def test_loader(cfg: CfgNode, name: str):
        return build_detection_test_loader(cfg, name, mapper=QuickMapper(cfg, is_train=False))

    @staticmethod
    def evaluator(cfg: CfgNode, name: str) -> DatasetEvaluator:
        return build_evaluator(name, os.path.join(cfg.OUTPUT_DIR, "inference", name))

    @staticmethod
    def read_image(cfg: CfgNode, record: dict) -> np.ndarray:
        return read_image(record["file_name"], format="RGB")

    labelled = staticmethod(detection_statistics.labelled)
    statistics = staticmethod(detection_statistics.statistics_of)
    object_features = staticmethod(object_features_of)

    @staticmethod
    def image_indices(batch: list[dict]) -> Tensor:
        return torch.tensor([record["image_index"] for record in batch])
