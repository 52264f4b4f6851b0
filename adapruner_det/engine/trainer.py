"""Detectron2's DefaultTrainer with AdaPruner in its step."""

import logging
import math
import os

import torch
from detectron2.config import CfgNode
from detectron2.data import build_detection_train_loader
from detectron2.engine import DefaultTrainer
from detectron2.utils import comm

from ..data.sampling import ResumableSampler
from ..data.selection_record import fingerprint
from ..pruning import AdaPruner, Objective
from ..pruning.reach import check_reach
from ..pruning.statistics import Statistics
from .distributed import init_default_trainer, unwrapped
from .hooks import AdaPrunerHook
from .optimizer import build_optimizer
from .select import term_weights
from .tasks import task_of
from .train_loop import AdaPrunerStep, MixedPrecisionTrainer

logger = logging.getLogger(__name__)

_MANY = 10**6  # images, of which no ratio that makes sense is none or all


class AdaPrunerTrainer(DefaultTrainer):
    """Trains a model, on everything or on a selection; with ADAPRUNER.ENABLED it also prunes.

    What a step does is in `train_loop`, what a run leaves in `hooks`, what is special to detection
    or classification in a `Task`; this class puts them together. With a seed (SEED >= 0) the order
    of the images, their augmentation and what the model draws depend on the seed and the iteration
    alone, so that a resumed run does what an uninterrupted one does.
    """

    def __init__(self, cfg: CfgNode):
        cfg = self.auto_scale_workers(cfg, comm.get_world_size())  # as Detectron2 will do
        self.pruning = cfg.ADAPRUNER.ENABLED
        self.task = task_of(cfg)
        if self.pruning:
            check_pruning(cfg)
        for name in cfg.DATASETS.TEST:  # so that what is wrong with it is said before training
            self.task.load_dataset(cfg, name)
        self._records, self._others = self._choose_records(cfg)
        cfg = with_max_iter(cfg, len(self._records))
        self._sampler = ResumableSampler(len(self._records), seed=cfg.SEED if cfg.SEED >= 0 else None)
        if self.pruning:
            check_run_length(cfg, len(self._records))
        # Detectron2's own mixed precision would insist on CUDA: ours takes its place below.
        without_amp = cfg.clone()
        without_amp.defrost()
        without_amp.SOLVER.AMP.ENABLED = False
        init_default_trainer(self, without_amp)
        self.cfg = cfg
        self.task.adapt_model(unwrapped(self.model), self._records)
        self._trainer = self._build_step(cfg)

    def _choose_records(self, cfg: CfgNode) -> tuple[list[dict], list[dict]]:
        """(what to train on, the rest). With pruning, the first compete for their place."""
        records = self.task.load_records(cfg)
        split = self.task.split_competing if self.pruning else self.task.split_trainable
        return split(cfg, records)

    def _build_step(self, cfg: CfgNode) -> MixedPrecisionTrainer:
        model, loader, optimizer = (
            self._trainer.model,
            self._trainer.data_loader,
            self._trainer.optimizer,
        )
        seed = cfg.SEED if cfg.SEED >= 0 else None
        if not self.pruning:
            return MixedPrecisionTrainer(model, loader, optimizer, cfg.SOLVER.AMP.ENABLED, seed)
        self.task.return_per_image_losses(unwrapped(model))
        covariates = None
        if cfg.ADAPRUNER.MASK.LOSS_SCALE == "expected":
            covariates = self.task.class_counts(self._records)
        num_covariates = 0 if covariates is None else covariates.shape[1]
        return AdaPrunerStep(
            model,
            loader,
            optimizer,
            build_pruner(cfg, len(self._records), num_covariates),
            self.task,
            self._records,
            fingerprint(self._records),
            cfg.SOLVER.AMP.ENABLED,
            seed,
            covariates,
        )

    @property
    def pruner(self) -> AdaPruner:
        """The mask and its schedule, while pruning."""
        return self._trainer.pruner

    def visits(self) -> dict[str, list]:
        """How often each image was visited, and its losses then: columns for the selection's table."""
        return self._trainer.visits.columns()

    def image_statistics(self) -> Statistics | None:
        """What the model as it is says of every image; see `train_loop.AdaPrunerStep.image_statistics`."""
        return self._trainer.image_statistics(self.cfg)

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

    @classmethod
    def build_model(cls, cfg):
        """Detectron2's; on CPUs the convolutions of a detector work channels-last, which is faster.

        An ImageClassifier is so anywhere. On CUDA it has not been measured.
        """
        model = super().build_model(cfg)
        if cfg.MODEL.DEVICE == "cpu" and cfg.MODEL.META_ARCHITECTURE != "ImageClassifier":
            model.to(memory_format=torch.channels_last)
        return model

    @classmethod
    def build_optimizer(cls, cfg, model):
        return build_optimizer(cfg, model)

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
        return self.task.train_loader(cfg, self._records, self._sampler)

    @classmethod
    def build_test_loader(cls, cfg, dataset_name):
        return task_of(cfg).test_loader(cfg, dataset_name)

    @classmethod
    def build_evaluator(cls, cfg, dataset_name):
        return task_of(cfg).evaluator(cfg, dataset_name)


def with_max_iter(cfg: CfgNode, num_images: int) -> CfgNode:
    """The config with SOLVER.MAX_ITER worked out of SOLVER.MAX_EPOCHS, if that is set."""
    if not cfg.SOLVER.MAX_EPOCHS:
        return cfg
    cfg = cfg.clone()
    cfg.defrost()
    cfg.SOLVER.MAX_ITER = max(1, round(cfg.SOLVER.MAX_EPOCHS * num_images / cfg.SOLVER.IMS_PER_BATCH))
    cfg.freeze()
    return cfg


def build_pruner(cfg: CfgNode, num_images: int, num_covariates: int = 0) -> AdaPruner:
    """The pruner that cfg.ADAPRUNER describes, for `num_images` images."""
    mask = cfg.ADAPRUNER.MASK
    return AdaPruner(
        num_images,
        cfg.ADAPRUNER.KEEP_RATIO,
        cfg.SOLVER.MAX_ITER,
        warmup_steps=_warmup_steps(cfg),
        alpha=(mask.ALPHA_START, mask.ALPHA_END),
        objective=Objective(
            classification=mask.CLASSIFICATION_LOSS,
            selection=mask.SELECTION_LOSS,
            compression=mask.COMPRESSION_LOSS,
            compression_scale=mask.COMPRESSION_SCALE,
            ratio_control=mask.RATIO_CONTROL,
            loss_scale=mask.LOSS_SCALE,
            selection_weight=mask.SELECTION_WEIGHT,
            learning_rate=mask.LR,
        ),
        tolerance=mask.TOLERANCE,
        num_classes=num_covariates,
    )


def check_pruning(cfg: CfgNode) -> None:
    """Raises ValueError for a setting of cfg.ADAPRUNER that cannot work, before any data is read."""
    if not 0 <= cfg.ADAPRUNER.WARMUP < 1:
        raise ValueError(
            f"ADAPRUNER.WARMUP is {cfg.ADAPRUNER.WARMUP}; it is a share of SOLVER.MAX_ITER, at least 0 and below 1"
        )
    term_weights(cfg)
    options = cfg.ADAPRUNER
    if options.SOLVE_AT_END and options.MASK.COMPRESSION_LOSS and options.MASK.RATIO_CONTROL == "penalty":
        raise ValueError(
            "ADAPRUNER.MASK.RATIO_CONTROL penalty leaves a mask that is not to be solved for again: add "
            "ADAPRUNER.SOLVE_AT_END False, or use ADAPRUNER.PRESET paper for all that belongs to it"
        )
    if cfg.DATASETS.SELECTION:
        raise ValueError(
            "ADAPRUNER.ENABLED prunes the whole training set, but DATASETS.SELECTION is set: leave it "
            "away to prune; cut a selection further with tools/selection.py cut"
        )
    try:
        build_pruner(cfg, num_images=_MANY)
    except ValueError as error:
        raise ValueError(f"the settings of ADAPRUNER do not work: {error}") from error


def check_run_length(cfg: CfgNode, num_images: int) -> None:
    """Raises ValueError if pruning would last less than an epoch, or can't reach the ratio with so many images.

    Warns if it lasts too little for a mask that is not solved for at the end.
    """
    pruning = cfg.SOLVER.MAX_ITER - _warmup_steps(cfg)
    needed = math.ceil(num_images / cfg.SOLVER.IMS_PER_BATCH)
    if pruning < needed:
        iterations = math.ceil(needed / (1 - cfg.ADAPRUNER.WARMUP) - 1e-6)
        enough = f"SOLVER.MAX_ITER to at least {iterations}"
        if cfg.SOLVER.MAX_EPOCHS:  # which MAX_ITER was worked out of
            epochs = math.ceil(10 * iterations * cfg.SOLVER.IMS_PER_BATCH / num_images) / 10
            enough = f"SOLVER.MAX_EPOCHS to at least {epochs}"
        raise ValueError(
            f"pruning would last {pruning} iterations (SOLVER.MAX_ITER {cfg.SOLVER.MAX_ITER} less "
            f"ADAPRUNER.WARMUP {cfg.ADAPRUNER.WARMUP} of it), but seeing {num_images} images "
            f"once takes {needed}: raise {enough}"
        )
    _check_reach(cfg, num_images, pruning)
    if pruning < 2 * needed and not cfg.ADAPRUNER.SOLVE_AT_END:
        logger.warning(
            f"Without ADAPRUNER.SOLVE_AT_END the mask is what the visits made of it: {pruning} iterations are less than two "
            f"epochs of pruning ({2 * needed}), which is short"
        )
    epochs = pruning * cfg.SOLVER.IMS_PER_BATCH / num_images
    logger.info(
        f"Pruning {num_images} images to {cfg.ADAPRUNER.KEEP_RATIO}: {_warmup_steps(cfg)} iterations "
        f"of warm-up, then {pruning} of pruning ({epochs:.1f} epochs)"
    )


def _check_reach(cfg: CfgNode, num_images: int, pruning_steps: int) -> None:
    try:
        pruner = build_pruner(cfg, num_images)
        alpha = (cfg.ADAPRUNER.MASK.ALPHA_START, cfg.ADAPRUNER.MASK.ALPHA_END)
        steps_per_epoch = num_images / cfg.SOLVER.IMS_PER_BATCH
        check_reach(pruner.objective, pruner.keep_ratio, alpha, pruning_steps, steps_per_epoch)
    except ValueError as error:
        raise ValueError(f"the settings of ADAPRUNER do not work: {error}") from error


def _warmup_steps(cfg: CfgNode) -> int:
    return round(cfg.ADAPRUNER.WARMUP * cfg.SOLVER.MAX_ITER)
