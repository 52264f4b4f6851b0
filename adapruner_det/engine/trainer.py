"""Detectron2's DefaultTrainer with AdaPruner in its step."""

import logging
import math
import os
import weakref
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from textwrap import shorten

import torch
from detectron2.config import CfgNode
from detectron2.data import MetadataCatalog, build_detection_train_loader
from detectron2.engine import DefaultTrainer
from detectron2.engine.hooks import CallbackHook
from detectron2.solver import get_default_optimizer_params
from detectron2.solver.build import maybe_add_gradient_clipping
from detectron2.utils import comm

from ..data.pictures import copied_to
from ..data.sampling import ResumableSampler
from ..data.selection_record import fingerprint
from ..data.small_copies import make_copies
from ..modeling.per_image import return_per_image_losses
from ..pruning import AdaPruner, Objective
from ..pruning.reach import check_reach
from .checkpoint import FINAL, RunCheckpointer, final_is_missing
from .config_values import check_values
from .console import Progress, say
from .distributed import init_default_trainer, once_a_machine, synchronise_buffers, unwrapped
from .dynamic_step import DynamicStep, EpochSampler, check_dynamic
from .hooks import AdaPrunerHook
from .run_folder import SELECTION, check_settings, settings_of
from .select import term_weights
from .stopping import Stopped, StopSignals, full_disk_stops, held_back
from .tasks import task_of
from .train_loop import AdaPrunerStep, MixedPrecisionTrainer, Visits

logger = logging.getLogger(__name__)

# Training steps that looking at a batch takes, twice forward: a step is forward, and backward for twice of it.
_LOOK = 2 / 3
_MANY = 10**6  # images, of which no ratio that makes sense is none or all


class AdaPrunerTrainer(DefaultTrainer):
    """Trains a model, on everything or on a selection; with ADAPRUNER.ENABLED it also prunes.

    What a step does is in `train_loop`, what a run leaves in `hooks`, what is special to detection
    or classification in `tasks`. With a seed (SEED >= 0) all that is random depends on the seed and
    the iteration alone, so that a resumed run does what an uninterrupted one does. SIGTERM and Ctrl-C
    end a run when the step is finished and saved.
    """

    def __init__(self, cfg: CfgNode):
        cfg = self.auto_scale_workers(cfg, comm.get_world_size())  # as Detectron2 will do
        self.pruning = cfg.ADAPRUNER.ENABLED
        self.task = task_of(cfg)
        check_values(cfg)
        check_dynamic(cfg)
        if self.pruning:
            check_pruning(cfg)
        for name in cfg.DATASETS.TEST:  # so that what is wrong with it is said before training
            once_a_machine(partial(self.task.load_dataset, cfg, name))
        with small_copies(cfg):
            self._records, self._others = self._choose_records(cfg)
        cfg = with_max_iter(cfg, len(self._records))
        sampler = EpochSampler if cfg.DYNAMIC.METHOD else ResumableSampler
        self._sampler = sampler(len(self._records), seed=cfg.SEED if cfg.SEED >= 0 else None)
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
        self._images = fingerprint(self._records)
        self._signals = StopSignals()

    def _choose_records(self, cfg: CfgNode) -> tuple[Sequence[dict], Sequence[dict]]:
        """(what to train on, the rest). With pruning, the first compete for their place."""
        records = once_a_machine(lambda: self.task.load_records(cfg))
        split = self.task.split_competing if self.pruning else self.task.split_trainable
        return split(cfg, records)

    def _build_step(self, cfg: CfgNode) -> MixedPrecisionTrainer:
        parts = self._trainer.model, self._trainer.data_loader, self._trainer.optimizer
        options = {"mixed_precision": cfg.SOLVER.AMP.ENABLED, "seed": cfg.SEED if cfg.SEED >= 0 else None}
        if not self.pruning and not cfg.DYNAMIC.METHOD:
            return MixedPrecisionTrainer(*parts, **options)
        return_per_image_losses(self.model)
        if isinstance(self._sampler, EpochSampler):
            return DynamicStep(*parts, *options.values(), cfg=cfg, task=self.task, sampler=self._sampler)
        expected = cfg.ADAPRUNER.MASK.LOSS_SCALE == "expected"
        class_counts = self.task.labelled(self._records).counts if expected else None
        pruner = build_pruner(cfg, len(self._records), 0 if class_counts is None else class_counts.shape[1])
        return AdaPrunerStep(*parts, pruner, self.task, self._records, class_counts=class_counts, **options)

    @property
    def pruner(self) -> AdaPruner:
        """The mask and its schedule, while pruning."""
        return self._trainer.pruner

    @property
    def visits(self) -> Visits:
        """How often each image was visited, and its losses then, while pruning."""
        return self._trainer.visits

    def resume_or_load(self, resume=True):
        super().resume_or_load(resume)
        self._sampler.start = self.start_iter * self.cfg.SOLVER.IMS_PER_BATCH
        if resume and self.start_iter >= self.max_iter and final_is_missing(self.cfg.OUTPUT_DIR, self.iter):
            self.checkpointer.save(FINAL, iteration=self.iter)  # killed before or while it was written

    def state_dict(self):
        """As Detectron2's, and what the run was started with."""
        return {**super().state_dict(), "settings": settings_of(self.cfg), "images": self._images}

    def load_state_dict(self, state_dict):
        """
        Raises:
            ValueError: the run was started with other settings or on other images.
        """
        if "settings" not in state_dict:
            logger.warning("The checkpoint is of a version that noted no settings: make sure that they are the same")
        check_settings(state_dict.get("settings", {}), self.cfg)
        if state_dict.get("images", self._images) != self._images:
            raise ValueError(
                f"the run in {self.cfg.OUTPUT_DIR} was started on other images, other annotations, or the same images in "
                "another order than DATASETS.TRAIN gives now: resume with the data the run was started with, or start "
                "a new run in another OUTPUT_DIR"
            )
        super().load_state_dict(state_dict)

    def train(self):
        introduce(self)
        if self.pruning and comm.is_main_process():
            self._pruner_hook.look_for_leaks()
        looks = self.pruning and self.cfg.ADAPRUNER.SOLVE_AT_END
        look = len(self._records) / self.cfg.SOLVER.IMS_PER_BATCH if looks else 0
        self.progress = Progress(self.max_iter + _LOOK * look, self.start_iter, comm.is_main_process())
        try:
            with self._signals.caught(), full_disk_stops(self.cfg.OUTPUT_DIR):
                return super().train()
        finally:
            self.progress.close()

    def run_step(self):
        first, self._signals.waits = not self._signals.waits, True
        with held_back() if first else nullcontext():  # the first starts the data loader's workers
            super().run_step()

    def after_step(self):
        if not self.pruning:
            self.progress.phase("training")
        else:
            phase = "warm-up" if self.iter < warmup_steps(self.cfg) else "pruning"
            self.progress.phase(phase, f"kept {self.pruner.kept_ratio:.2f}")
        self.progress.advance()
        if self.iter + 1 == self.max_iter and not self.pruning:
            self.progress.phase("testing")
        with full_disk_stops(self.cfg.OUTPUT_DIR):
            super().after_step()
        if self.iter + 1 < self.max_iter:
            self._stop_if_asked()

    def after_train(self):
        asked, self._signals.waits = self._signals.waits, False
        if asked and self.iter >= self.max_iter:
            self._stop_if_asked()  # in the last step, which has been saved
        if self.iter + 1 < self.max_iter or not self._signals.received:
            super().after_train()

    def _stop_if_asked(self) -> None:
        """Saves and leaves, if one of the processes has got a signal; at the same step in all of them."""
        signum = self._signals.agreed()
        if signum is None:
            return
        done = min(self.iter + 1, self.max_iter)
        if done < self.max_iter:
            self.checkpointer.save(f"model_{self.iter:07d}", iteration=self.iter)
        comm.synchronize()  # nobody ends while another saves
        raise Stopped.by_signal(
            signum, f"{done} of {self.max_iter} iterations are done and saved in {self.cfg.OUTPUT_DIR}"
        )

    def build_hooks(self):
        # In place of Detectron2's, which DefaultTrainer has made just before.
        self.checkpointer = RunCheckpointer(self.model, self.cfg.OUTPUT_DIR, trainer=weakref.proxy(self))
        hooks = super().build_hooks()
        if self.pruning:
            keep_others = self.cfg.ADAPRUNER.EMPTY_IMAGES == "keep"
            folder = os.path.join(self.cfg.OUTPUT_DIR, SELECTION)
            self._pruner_hook = AdaPrunerHook(self._records, self._others, keep_others, folder)
            hooks.insert(1, self._pruner_hook)  # after the timer, before whatever saves or writes
            # behind the hook that evaluates, whose results the page shows
            hooks.append(CallbackHook(after_train=lambda trainer: trainer._pruner_hook.write_page()))
        return hooks

    def check(self) -> None:
        """What a run can know before training, which `train` would say too: raises ValueError, FileExistsError."""
        if self.pruning:
            self._pruner_hook.check()

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
        """Detectron2's SGD, or AdamW on the same groups of parameters, as SOLVER.OPTIMIZER says.

        Raises:
            ValueError: there is no such optimizer.
        """
        solver = cfg.SOLVER
        if solver.OPTIMIZER == "SGD":
            return super().build_optimizer(cfg, model)
        if solver.OPTIMIZER != "AdamW":
            raise ValueError(f"SOLVER.OPTIMIZER is {solver.OPTIMIZER!r}; it can be 'SGD' or 'AdamW'")
        parameters = get_default_optimizer_params(
            model,
            base_lr=solver.BASE_LR,
            weight_decay_norm=solver.WEIGHT_DECAY_NORM,
            bias_lr_factor=solver.BIAS_LR_FACTOR,
            weight_decay_bias=solver.WEIGHT_DECAY_BIAS,
        )
        adamw = torch.optim.AdamW(parameters, lr=solver.BASE_LR, weight_decay=solver.WEIGHT_DECAY)
        return maybe_add_gradient_clipping(cfg, adamw)

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
    def test(cls, cfg, model, evaluators=None):
        """Detectron2's, of the one model that is saved: its processes would look with statistics of their own each."""
        synchronise_buffers(unwrapped(model))
        return super().test(cfg, model, evaluators)

    @classmethod
    def build_test_loader(cls, cfg, dataset_name):
        return task_of(cfg).test_loader(cfg, dataset_name)

    @classmethod
    def build_evaluator(cls, cfg, dataset_name):
        return task_of(cfg).evaluator(cfg, dataset_name)


def introduce(trainer: AdaPrunerTrainer) -> None:
    """What is going to be done, to what and on what, before the first iteration."""
    cfg, records = trainer.cfg, trainer._records
    names, counts = MetadataCatalog.get(cfg.DATASETS.TRAIN[0]).thing_classes, trainer.task.labelled(records).counts
    boxes = "" if "category_id" in records[0] else f"{int(counts.sum()):,} boxes, "
    left_out = f" ({len(trainer._others)} more without boxes are left out)" if trainer._others else ""
    shown = shorten(", ".join(map(str, names)), 60, placeholder=" ...")
    say("images", f"{len(records):,}{left_out}, {boxes}{len(names)} classes: {shown}")
    device = cfg.MODEL.DEVICE
    what = torch.cuda.get_device_name() if device.startswith("cuda") else _threads()
    several = f"{comm.get_world_size()} processes, " if comm.get_world_size() > 1 else ""
    say("device", f"{device}: {several}{what}{'' if torch.cuda.is_available() else ' (torch sees no GPU)'}")
    say("phases", _phases(cfg, len(records)) + (f"; going on at {trainer.start_iter}" if trainer.start_iter else ""))
    say("output", f"{cfg.OUTPUT_DIR}; config and all messages are in log.txt there")


def _threads() -> str:
    number = torch.get_num_threads()
    return f"{number} thread{'s' if number > 1 else ''}"


def _phases(cfg: CfgNode, num: int) -> str:
    steps = cfg.SOLVER.MAX_ITER
    if not cfg.ADAPRUNER.ENABLED:
        return f"training {steps:,} iterations, testing on {', '.join(cfg.DATASETS.TEST) or 'nothing'}"
    warmup = warmup_steps(cfg)
    ratio = "the ratio with reasons" if cfg.ADAPRUNER.AUTO_KEEP_RATIO else f"{cfg.ADAPRUNER.KEEP_RATIO:g}"
    look = f", final look at {num:,} images, solving" if cfg.ADAPRUNER.SOLVE_AT_END else ""
    return f"warm-up {warmup:,} iterations, pruning {steps - warmup:,} to {ratio}{look}"


def small_copies(cfg: CfgNode) -> AbstractContextManager[None]:
    """Within it, the pictures that are decoded leave a small copy, if all of them are to be trained on.

    With several processes, or on a selection, the copies are made when the loader is.
    """
    if cfg.MODEL.META_ARCHITECTURE == "ImageClassifier":
        return nullcontext()
    copies = make_copies(cfg)
    return copied_to(None if cfg.DATASETS.SELECTION or comm.get_world_size() > 1 else copies)


def with_max_iter(cfg: CfgNode, num_images: int) -> CfgNode:
    """The config with SOLVER.MAX_ITER worked out of SOLVER.MAX_EPOCHS, if that is set."""
    if not cfg.SOLVER.MAX_EPOCHS:
        return cfg
    cfg = cfg.clone()
    cfg.defrost()
    cfg.SOLVER.MAX_ITER = max(1, round(cfg.SOLVER.MAX_EPOCHS * num_images / cfg.SOLVER.IMS_PER_BATCH))
    cfg.freeze()
    return cfg


def build_pruner(cfg: CfgNode, num_images: int, num_classes: int = 0) -> AdaPruner:
    """The pruner that cfg.ADAPRUNER describes, for `num_images` images.

    Raises:
        ValueError: a setting that cannot work.
    """
    mask = cfg.ADAPRUNER.MASK
    try:
        return AdaPruner(
            num_images,
            cfg.ADAPRUNER.KEEP_RATIO,
            cfg.SOLVER.MAX_ITER,
            warmup_steps=warmup_steps(cfg),
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
            num_classes=num_classes,
            seed=max(cfg.SEED, 0),
        )
    except ValueError as error:
        raise ValueError(f"the settings of ADAPRUNER do not work: {error}") from error


def check_pruning(cfg: CfgNode) -> None:
    """Raises ValueError for a setting of cfg.ADAPRUNER that cannot work, before any data is read."""
    options = cfg.ADAPRUNER
    if not 0 <= options.WARMUP < 1:
        raise ValueError(
            f"ADAPRUNER.WARMUP is {options.WARMUP}; it is a share of SOLVER.MAX_ITER, at least 0 and below 1"
        )
    if not cfg.SOLVER.MAX_ITER and not cfg.SOLVER.MAX_EPOCHS:
        raise ValueError("SOLVER.MAX_ITER is 0: a run that prunes trains, so set it, or SOLVER.MAX_EPOCHS")
    term_weights(cfg)
    if cfg.MODEL.LOAD_PROPOSALS:
        raise ValueError(
            "MODEL.LOAD_PROPOSALS: a detector that trains on proposals from files cannot prune: use a config with a "
            "proposal generator, such as a Faster R-CNN's, and train this one on the selection"
        )
    if options.SOLVE_AT_END and options.MASK.COMPRESSION_LOSS and options.MASK.RATIO_CONTROL == "penalty":
        raise ValueError(
            "ADAPRUNER.MASK.RATIO_CONTROL penalty leaves a mask that is not to be solved for again: add "
            "ADAPRUNER.SOLVE_AT_END False, or use ADAPRUNER.PRESET paper for all that belongs to it"
        )
    if options.AUTO_KEEP_RATIO and not options.SOLVE_AT_END:
        raise ValueError(
            "ADAPRUNER.AUTO_KEEP_RATIO (--keep auto) looks at reasons: it takes ADAPRUNER.SOLVE_AT_END True"
        )
    if cfg.DATASETS.SELECTION:
        raise ValueError(
            "ADAPRUNER.ENABLED prunes the whole training set, but DATASETS.SELECTION is set: leave it "
            "away to prune; `adapruner cut` cuts a selection further"
        )
    build_pruner(cfg, num_images=_MANY)


def check_run_length(cfg: CfgNode, num_images: int) -> None:
    """Raises ValueError if pruning would last less than an epoch, or can't reach the ratio with so many images."""
    mask = cfg.ADAPRUNER.MASK
    pruning = cfg.SOLVER.MAX_ITER - warmup_steps(cfg)
    epoch = num_images / cfg.SOLVER.IMS_PER_BATCH
    needed = math.ceil(epoch)
    if pruning < needed:
        iterations = math.ceil(needed / (1 - cfg.ADAPRUNER.WARMUP) - 1e-6)
        enough = f"SOLVER.MAX_ITER to at least {iterations}"
        if cfg.SOLVER.MAX_EPOCHS:  # which MAX_ITER was worked out of
            epochs = math.ceil(10 * iterations * cfg.SOLVER.IMS_PER_BATCH / num_images) / 10
            enough = f"SOLVER.MAX_EPOCHS (--epochs) to at least {epochs}"
        raise ValueError(
            f"pruning would last {pruning} iterations (SOLVER.MAX_ITER {cfg.SOLVER.MAX_ITER} less ADAPRUNER.WARMUP "
            f"{cfg.ADAPRUNER.WARMUP} of it), but seeing {num_images} images once takes {needed}: raise {enough}"
        )
    pruner = build_pruner(cfg, num_images)
    try:
        check_reach(pruner.objective, pruner.keep_ratio, (mask.ALPHA_START, mask.ALPHA_END), pruning, epoch)
    except ValueError as error:
        raise ValueError(f"the settings of ADAPRUNER do not work: {error}") from error
    if pruning < 2 * needed and not cfg.ADAPRUNER.SOLVE_AT_END:
        logger.warning(
            f"Without ADAPRUNER.SOLVE_AT_END the mask is what the visits made of it: {pruning} iterations are less than two "
            f"epochs of pruning ({2 * needed}), which is short"
        )
    logger.info(
        f"Pruning {num_images} images to {cfg.ADAPRUNER.KEEP_RATIO}: {warmup_steps(cfg)} iterations "
        f"of warm-up, then {pruning} of pruning ({pruning / epoch:.1f} epochs)"
    )


def warmup_steps(cfg: CfgNode) -> int:
    return round(cfg.ADAPRUNER.WARMUP * cfg.SOLVER.MAX_ITER)
