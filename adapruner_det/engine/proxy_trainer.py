"""Training the proxy: AdaPrunerTrainer without a mask, which writes down what happens to each image.

N images, B images of a batch.
"""

import io
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from detectron2.config import CfgNode
from detectron2.engine import HookBase
from torch import Tensor

from ..files import write_bytes
from ..modeling.image_classifier import ImageClassifier
from ..modeling.per_image import return_per_image_losses
from .classification_statistics import AnswersInTraining
from .distributed import unwrapped
from .dynamics import DynamicsRecorder, num_epochs
from .tasks import Task
from .train_loop import MixedPrecisionTrainer
from .trainer import AdaPrunerTrainer

EARLY_WEIGHTS, DYNAMICS, LAST_WEIGHTS = "early.pth", "dynamics.npz", "model_final.pth"

Measure = Callable[[CfgNode, torch.nn.Module, Sequence[dict]], tuple[np.ndarray, np.ndarray]]


class RecordingStep(MixedPrecisionTrainer):
    """The plain step; the loss of each image, and whether it was right, are recorded before it.

    The model has to return one value an image for each loss term, whose mean is what is minimised.

    Args:
        task: how to read a batch.
        recorder: what keeps the record.
        answers: tells which images of the last batch were right; None if they cannot be right or wrong.
        options: as for `MixedPrecisionTrainer`.
    """

    def __init__(self, *options, task: Task, recorder: DynamicsRecorder, answers: AnswersInTraining | None):
        super().__init__(*options)
        self.task, self.recorder, self.answers = task, recorder, answers

    def losses(self, data: Any) -> dict[str, Tensor]:
        per_image = {name: values.float() for name, values in self.forward(data).items()}
        self.recorder.add(
            self.task.image_indices(data),
            cast(Tensor, sum(values.detach() for values in per_image.values())).cpu(),
            self.answers.correct(data) if self.answers else None,
        )
        return {name: values.mean() for name, values in per_image.items()}

    def state_dict(self):
        """The optimizer's state and the record."""
        return {**super().state_dict(), "recorder": self.recorder.state_dict()}

    def load_state_dict(self, state_dict):
        super().load_state_dict(state_dict)
        self.recorder.load_state_dict(state_dict["recorder"])


class ProxyTrainer(AdaPrunerTrainer):
    """Trains on all images that compete, in one process, and records what happens to them.

    Args:
        cfg: of the run, without pruning.
        measure: which share of its boxes is found in each image, (N,), and how well each box, (M,), for detection.
        to_the_end: else it stops at the early point; resumed, it goes on from there.
    """

    def __init__(self, cfg: CfgNode, measure: Measure | None, to_the_end: bool):
        self._measure = measure
        super().__init__(cfg)
        if not to_the_end:
            self.max_iter = early_iteration(self.cfg, len(self._records))

    def _choose_records(self, cfg: CfgNode) -> tuple[Sequence[dict], Sequence[dict]]:
        return self.task.split_competing(cfg, self.task.load_records(cfg))

    def _build_step(self, cfg: CfgNode) -> RecordingStep:
        model, loader, optimizer = self._trainer.model, self._trainer.data_loader, self._trainer.optimizer
        return_per_image_losses(unwrapped(model))
        answers = AnswersInTraining(cast(ImageClassifier, unwrapped(model))) if self._measure is None else None
        epochs = num_epochs(cfg.SOLVER.MAX_ITER, cfg.SOLVER.IMS_PER_BATCH, len(self._records))
        seed = cfg.SEED if cfg.SEED >= 0 else None
        recorder = DynamicsRecorder(len(self._records), epochs, answers is not None)
        options = (model, loader, optimizer, cfg.SOLVER.AMP.ENABLED, seed)
        return RecordingStep(*options, task=self.task, recorder=recorder, answers=answers)

    @property
    def recorder(self) -> DynamicsRecorder:
        """What has happened so far."""
        return self._trainer.recorder

    def build_hooks(self):
        hooks = super().build_hooks()
        hooks.insert(1, ProxyHook(self._records, self._measure))  # before whatever saves or writes
        return hooks


class ProxyHook(HookBase):
    """Keeps the early weights, measures which boxes are found, and writes the dynamics at the end.

    It must stand before the hook that saves checkpoints, so that they know all up to their iteration.

    Args:
        records: the images trained on.
        measure: see `ProxyTrainer`.
    """

    def __init__(self, records: Sequence[dict], measure: Measure | None):
        self.records = records
        self.measure = measure
        self._seconds_before = 0.0
        self._start = time.perf_counter()
        self._measuring = 0.0

    def before_train(self):
        self._start = time.perf_counter()

    def after_step(self):
        cfg, done = self.trainer.cfg, self.trainer.iter + 1
        model = unwrapped(self.trainer.model)
        if done == early_iteration(cfg, len(self.records)):
            content = io.BytesIO()
            torch.save({"model": model.state_dict(), "seconds": self._seconds()}, content)
            write_bytes(Path(cfg.OUTPUT_DIR) / EARLY_WEIGHTS, content.getvalue())
        if self.measure and done in measuring_iterations(cfg):
            start = time.perf_counter()
            self.trainer.recorder.measure(*self.measure(cfg, model, self.records))
            self._measuring += time.perf_counter() - start

    def after_train(self):
        if self.trainer.iter < self.trainer.cfg.SOLVER.MAX_ITER:
            return  # stopped early, or by an exception
        content = io.BytesIO()
        seconds = {"seconds": self._seconds(), "measuring_seconds": self._measuring}
        np.savez_compressed(content, **self.trainer.recorder.dynamics()._asdict(), **seconds)
        write_bytes(Path(self.trainer.cfg.OUTPUT_DIR) / DYNAMICS, content.getvalue())

    def _seconds(self) -> float:
        """Of training, over all attempts, without the measurements."""
        return self._seconds_before + time.perf_counter() - self._start - self._measuring

    def state_dict(self):
        return {"seconds": self._seconds(), "measuring": self._measuring}

    def load_state_dict(self, state_dict):
        self._measuring = state_dict["measuring"]
        self._seconds_before = state_dict["seconds"] + self._measuring


def early_iteration(cfg: CfgNode, images: int) -> int:
    """Iterations after which a network is early: SCORING.EARLY of all, but at least an epoch."""
    epoch = -(-images // cfg.SOLVER.IMS_PER_BATCH)
    return max(epoch, round(cfg.SCORING.EARLY * cfg.SOLVER.MAX_ITER))


def measuring_iterations(cfg: CfgNode) -> list[int]:
    """Iterations after which it is measured which boxes are found; the end is the last."""
    times = cfg.SCORING.SNAPSHOTS
    return [round(cfg.SOLVER.MAX_ITER * time / times) for time in range(1, times + 1)]
