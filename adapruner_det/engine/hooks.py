"""The hook that watches a pruning run and writes down its selection."""

import hashlib
import logging
import time
from collections.abc import Sequence
from functools import partial

import torch
from detectron2.engine import HookBase
from detectron2.utils import comm
from torch import Tensor

from ..baselines.registry import ADAPRUNER
from ..data.selection_lists import check_replaceable, write_selection
from ..data.selection_record import make_selection, summary, vanished_classes
from ..pruning import Selection
from ..pruning.statistics import Statistics
from ..report.near_copies import Pair, leaks_into
from ..report.page import write_report
from .distributed import patient_group, synchronise_statistics, unwrapped
from .select import ratio_with_reason, scores_by

logger = logging.getLogger(__name__)


def check_same_mask(logits: Tensor) -> None:
    """Raises RuntimeError unless all processes hold the same logits (N,), bit for bit."""
    digests = comm.all_gather(hashlib.sha256(logits.cpu().numpy().tobytes()).hexdigest())
    if len(set(digests)) > 1:
        raise RuntimeError(
            "the processes hold different masks, so none of them can be trusted: all have to see the "
            "losses of all. Machines with different versions of torch, or a model that changes its loss "
            "dict from step to step, are possible reasons"
        )


class AdaPrunerHook(HookBase):
    """Logs the mask's scalars each step, and writes the selection when training has ended well.

    With ADAPRUNER.SOLVE_AT_END the mask is brought to rest on what the finished model says of every image; these
    statistics are kept beside the selection. The hook must stand before the one that writes events.

    Args:
        competing: the records the mask is over, in the order of their `image_index`.
        others: records that do not compete (images without boxes, where EMPTY_IMAGES says so).
        keep_others: whether those are kept.
        folder: where the selection goes.
    """

    def __init__(self, competing: Sequence[dict], others: Sequence[dict], keep_others: bool, folder: str):
        self.competing = competing
        self.others = others
        self.keep_others = keep_others
        self.folder = folder
        self._seconds_before = 0.0
        self._start = time.perf_counter()
        self._began = self._checked = False
        self._wrote = False
        self._tested: list[dict] = []
        self._leaks: list[Pair] = []

    def check(self) -> None:
        """What would fail when the work is done. Raises FileExistsError, ValueError."""
        check_replaceable(self.folder)
        if comm.is_main_process() and self._solves:
            self._try_statistics()
        self._checked = True

    def look_for_leaks(self) -> None:
        """Warns of near-copies of the training images in the lists that are tested on."""
        cfg, task = self.trainer.cfg, self.trainer.task
        names = [name for name in cfg.DATASETS.TEST if name not in cfg.DATASETS.TRAIN]
        self._tested = [record for name in names for record in task.load_dataset(cfg, name)]
        self._leaks = leaks_into(self._tested, [*self.competing, *self.others], partial(task.read_image, cfg))

    def before_train(self):
        if not self._checked:
            self.check()
        self._start = time.perf_counter()
        self._began = True

    def after_step(self):
        pruner = self.trainer.pruner
        self.trainer.storage.put_scalars(
            smoothing_hint=False,
            kept_ratio=pruner.kept_ratio,
            alpha=pruner.alpha,
            compression_lambda=pruner.compression_weight,
            **pruner.last_terms,
        )

    def after_train(self):
        finished = self.trainer.iter >= self.trainer.max_iter  # else an exception ended it
        if not (finished and self._began):
            return
        self.trainer.pruner.finish()  # every process, so that all stop if it fails
        check_same_mask(self.trainer.pruner.mask.logits)
        with patient_group() as group:
            self.trainer.progress.phase("final look", counts=True)
            statistics = self._statistics(group) if self._solves else None
            if comm.is_main_process():
                self.trainer.progress.phase("solving")
                self._write(statistics)

    def _write(self, statistics: Statistics | None) -> None:
        self._say_how_the_ratio_came()
        selection = self._selection(statistics)
        write_selection(selection, self.folder, statistics)
        logger.info(summary(selection))
        for name in vanished_classes(selection):
            logger.warning(f"nothing of class {name} is kept: raise ADAPRUNER.KEEP_RATIO")
        logger.info(
            f"Selection written to {self.folder}. Train on it with --selection {self.folder}, or with the lists in it"
        )
        self._wrote = True

    def write_page(self) -> None:
        """The page of the selection, if there is one. Whatever is wrong with it, the selection is written and stays."""
        if not self._wrote:
            return
        cfg, task = self.trainer.cfg, self.trainer.task
        self.trainer.progress.phase("page")
        try:
            records, read_image = [*self.competing, *self.others], partial(task.read_image, cfg)
            page = write_report(self.folder, records, read_image, others=self._tested, leaks=self._leaks)
        except Exception as error:
            why = f"{type(error).__name__}: {error}"
            logger.warning(f"No page was made ({why}); `adapruner report {self.folder}` makes it")
        else:
            logger.info(f"What goes and why, to look at and correct: {page}")

    def _say_how_the_ratio_came(self) -> None:
        pruner = self.trainer.pruner
        if pruner.settled_at is not None:
            logger.info(
                f"The penalty had brought the mask to the ratio at iteration {pruner.settled_at}; it stayed there"
            )
        if pruner.num_tied and not self._solves:
            logger.warning(
                f"{pruner.num_tied} images had the same mask logit at the threshold (losses that have long been zero, for "
                "example); which of them stay was drawn at random"
            )

    @property
    def _solves(self) -> bool:
        return self.trainer.cfg.ADAPRUNER.SOLVE_AT_END

    def _try_statistics(self) -> None:
        """Says before training what the model or a record lacks for what comes after it."""
        without_size = [record for record in self.competing if not {"height", "width"} <= record.keys()]
        records = without_size[:1] or self.competing[:1]
        try:
            self.trainer.task.statistics(self.trainer.cfg, unwrapped(self.trainer.model), records)
        except torch.cuda.OutOfMemoryError:
            raise
        except Exception as error:  # of whatever model, whatever it stumbles over
            name, reason = self.trainer.cfg.MODEL.META_ARCHITECTURE, " ".join(str(error).split())
            raise ValueError(
                f"{name} fails on {records[0].get('file_name', records[0]['image_id'])}: "
                f"{reason if isinstance(error, ValueError) else f'{type(error).__name__} {reason}'}. Another detector's "
                "selection serves as well (configs/voc/prune_yolov3_tiny_R18.yaml). If it trains all the same: "
                "ADAPRUNER.SOLVE_AT_END False, and the mask stays as the training has left it"
            ) from error

    def _statistics(self, group) -> Statistics | None:
        """What the model says of every image, each process asking about a part; None but in the main process."""
        start = time.perf_counter()
        model = unwrapped(self.trainer.model)
        synchronise_statistics(model)
        own = self.competing[comm.get_rank() :: comm.get_world_size()]
        parts = comm.gather(self.trainer.task.statistics(self.trainer.cfg, model, own), group=group)
        seconds = time.perf_counter() - start
        logger.info(f"Asking the finished model about {len(self.competing)} images took {seconds:.1f} s")
        return Statistics.interleaved(parts) if parts else None

    def _selection(self, statistics: Statistics | None) -> Selection:
        cfg, mask, ratio = self.trainer.cfg, self.trainer.pruner.mask, self.trainer.cfg.ADAPRUNER.KEEP_RATIO
        columns, facts = {}, {}
        if statistics is not None:
            start = time.perf_counter()
            if cfg.ADAPRUNER.AUTO_KEEP_RATIO:
                ratio = ratio_with_reason(cfg, statistics, cfg.SEED)
            found = scores_by(ADAPRUNER, cfg, statistics, ratio, cfg.SEED)
            mask.replace(torch.from_numpy(found.values))
            columns, facts = found.columns, found.facts
            logger.info(f"Solving for the mask took {time.perf_counter() - start:.1f} s")
        return make_selection(
            self.competing,
            mask.logits.tolist(),
            mask.hard().tolist(),
            others=self.others,
            keep_others=self.keep_others,
            keep_ratio=ratio,
            method=ADAPRUNER,
            columns={**columns, **self.trainer.visits.columns()},
            provenance={
                "seed": cfg.SEED,
                "seconds": round(self._seconds(), 1),
                "iterations": self.trainer.max_iter,
                **facts,
                "config": cfg.dump(),
            },
        )

    def _seconds(self) -> float:
        return self._seconds_before + time.perf_counter() - self._start

    def state_dict(self):
        return {"seconds": self._seconds()}

    def load_state_dict(self, state_dict):
        self._seconds_before = state_dict["seconds"]
