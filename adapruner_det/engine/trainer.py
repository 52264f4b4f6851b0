"""Detectron2's DefaultTrainer with AdaPruner in its step."""
import logging
import math
import os
from typing import Dict, List, Tuple

from detectron2.config import CfgNode
from detectron2.data import DatasetMapper, build_detection_train_loader
from detectron2.engine import DefaultTrainer
from detectron2.utils import comm

from ..detection.evaluation import VOCEvaluator
from ..detection.per_image import return_per_image_losses
from ..detection.selection_record import fingerprint
from ..detection.training_data import (
    NumberedRecords,
    ResumableSampler,
    load_dataset,
    load_records,
    split_competing,
    split_off_empty,
)
from ..pruning import AdaPruner, Objective
from .hooks import AdaPrunerHook
from .train_loop import AdaPrunerStep, MixedPrecisionTrainer

logger = logging.getLogger(__name__)


class AdaPrunerTrainer(DefaultTrainer):
    """Trains a detector, on everything or on a selection; with ADAPRUNER.ENABLED it also prunes.

    What a step does is in `train_loop`, what a run leaves in `hooks`; this class puts them together.
    With a seed (SEED >= 0) the order of the images and their augmentation depend on the seed and the
    iteration alone, so that a resumed run sees what an uninterrupted one sees.
    """

    def __init__(self, cfg: CfgNode):
        cfg = self.auto_scale_workers(cfg, comm.get_world_size())  # as Detectron2 will do
        self.pruning = cfg.ADAPRUNER.ENABLED
        if self.pruning:
            check_pruning(cfg)
        for name in cfg.DATASETS.TEST:  # so that what is wrong with it is said before training
            load_dataset(name, cfg.DATASETS.ON_INVALID)
        self._records, self._others = self._choose_records(cfg)
        self._sampler = ResumableSampler(len(self._records), seed=cfg.SEED if cfg.SEED >= 0 else None)
        if self.pruning:
            check_run_length(cfg, len(self._records))
        # Detectron2's own mixed precision would insist on CUDA: ours takes its place below.
        without_amp = cfg.clone()
        without_amp.defrost()
        without_amp.SOLVER.AMP.ENABLED = False
        super().__init__(without_amp)
        self.cfg = cfg
        self._trainer = self._build_step(cfg)

    def _choose_records(self, cfg: CfgNode) -> Tuple[List[dict], List[dict]]:
        """(what to train on, the rest). With pruning, the first compete for their place."""
        records = load_records(cfg)
        if self.pruning:
            return split_competing(records, cfg.ADAPRUNER.EMPTY_IMAGES)
        # What a selection keeps is trained on, images without boxes too.
        if cfg.DATASETS.SELECTION or not cfg.DATALOADER.FILTER_EMPTY_ANNOTATIONS:
            return records, []
        return split_off_empty(records)

    def _build_step(self, cfg: CfgNode) -> MixedPrecisionTrainer:
        model, loader, optimizer = (
            self._trainer.model,
            self._trainer.data_loader,
            self._trainer.optimizer,
        )
        if not self.pruning:
            return MixedPrecisionTrainer(model, loader, optimizer, cfg.SOLVER.AMP.ENABLED)
        return_per_image_losses(model)
        pruner = build_pruner(cfg, len(self._records))
        identity = fingerprint(self._records)
        return AdaPrunerStep(model, loader, optimizer, pruner, identity, cfg.SOLVER.AMP.ENABLED)

    @property
    def pruner(self) -> AdaPruner:
        """The mask and its schedule, while pruning."""
        return self._trainer.pruner

    def image_statistics(self) -> Dict[str, list]:
        """How often each image was visited, and its loss: columns for the selection's table."""
        return self._trainer.image_statistics()

    def resume_or_load(self, resume=True):
        super().resume_or_load(resume)
        self._sampler.start = self.start_iter * self.cfg.SOLVER.IMS_PER_BATCH

    def build_hooks(self):
        hooks = super().build_hooks()
        if self.pruning:
            hook = AdaPrunerHook(
                self._records,
                self._others,
                keep_others=self.cfg.ADAPRUNER.EMPTY_IMAGES == "keep",
                folder=os.path.join(self.cfg.OUTPUT_DIR, "selection"),
            )
            hooks.insert(1, hook)  # after the timer, before whatever saves or writes
        return hooks

    def build_train_loader(self, cfg):
        if cfg.DATALOADER.SAMPLER_TRAIN != "TrainingSampler":
            if self.pruning:
                raise ValueError(
                    f"DATALOADER.SAMPLER_TRAIN is {cfg.DATALOADER.SAMPLER_TRAIN}: pruning has to see "
                    "every image equally often; use TrainingSampler"
                )
            return build_detection_train_loader(cfg, dataset=self._records)
        if cfg.DATALOADER.ASPECT_RATIO_GROUPING and self.pruning:
            logger.info(
                "DATALOADER.ASPECT_RATIO_GROUPING holds images back: a resumed run will see a slightly "
                "other order. Switch it off for exact resuming."
            )
        return build_detection_train_loader(
            NumberedRecords(self._records, DatasetMapper(cfg, is_train=True), max(cfg.SEED, 0)),
            mapper=None,  # NumberedRecords has it
            sampler=self._sampler,
            total_batch_size=cfg.SOLVER.IMS_PER_BATCH,
            aspect_ratio_grouping=cfg.DATALOADER.ASPECT_RATIO_GROUPING,
            num_workers=cfg.DATALOADER.NUM_WORKERS,
        )

    @classmethod
    def build_evaluator(cls, cfg, dataset_name):
        return VOCEvaluator(dataset_name, os.path.join(cfg.OUTPUT_DIR, "inference", dataset_name))


def build_pruner(cfg: CfgNode, num_images: int) -> AdaPruner:
    """The pruner that cfg.ADAPRUNER describes, for `num_images` images."""
    options = cfg.ADAPRUNER
    return AdaPruner(
        num_images,
        options.KEEP_RATIO,
        cfg.SOLVER.MAX_ITER,
        warmup_steps=_warmup_steps(cfg),
        alpha=(options.ALPHA_START, options.ALPHA_END),
        objective=Objective(
            classification=options.CLASSIFICATION_LOSS,
            selection=options.SELECTION_LOSS,
            compression=options.COMPRESSION_LOSS,
            compression_scale=options.COMPRESSION_SCALE,
            ratio_control=options.RATIO_CONTROL,
            loss_scale=options.LOSS_SCALE,
            learning_rate=options.MASK_LR,
        ),
        tolerance=options.TOLERANCE,
    )


def check_pruning(cfg: CfgNode) -> None:
    """Raises ValueError for a setting of cfg.ADAPRUNER that cannot work, before any data is read."""
    if not 0 <= cfg.ADAPRUNER.WARMUP < 1:
        raise ValueError(
            f"ADAPRUNER.WARMUP is {cfg.ADAPRUNER.WARMUP}; it is a share of SOLVER.MAX_ITER, at least 0 "
            "and below 1"
        )
    if cfg.DATASETS.SELECTION:
        raise ValueError(
            "ADAPRUNER.ENABLED prunes the whole training set, but DATASETS.SELECTION is set: leave it "
            "away to prune; cut a selection further with tools/selection.py cut"
        )
    try:
        build_pruner(cfg, num_images=100)
    except ValueError as error:
        raise ValueError(f"the settings of ADAPRUNER do not work: {error}") from error


def check_run_length(cfg: CfgNode, num_images: int) -> None:
    """Raises ValueError if pruning would last less than two epochs: too short to learn a mask."""
    pruning = cfg.SOLVER.MAX_ITER - _warmup_steps(cfg)
    needed = math.ceil(2 * num_images / cfg.SOLVER.IMS_PER_BATCH)
    if pruning < needed:
        raise ValueError(
            f"pruning would last {pruning} iterations (SOLVER.MAX_ITER {cfg.SOLVER.MAX_ITER} less "
            f"ADAPRUNER.WARMUP {cfg.ADAPRUNER.WARMUP} of it), but seeing {num_images} images twice "
            f"takes {needed}: raise SOLVER.MAX_ITER to at least "
            f"{math.ceil(needed / (1 - cfg.ADAPRUNER.WARMUP) - 1e-6)}"
        )
    epochs = pruning * cfg.SOLVER.IMS_PER_BATCH / num_images
    logger.info(
        f"Pruning {num_images} images to {cfg.ADAPRUNER.KEEP_RATIO}: {_warmup_steps(cfg)} iterations "
        f"of warm-up, then {pruning} of pruning ({epochs:.1f} epochs)"
    )


def _warmup_steps(cfg: CfgNode) -> int:
    return round(cfg.ADAPRUNER.WARMUP * cfg.SOLVER.MAX_ITER)
