"""The hook that watches a pruning run and writes down its selection."""
import hashlib
import logging
import time
from typing import Any, Callable, Dict, List, Optional, Tuple

import numpy as np
from detectron2.engine import HookBase
from detectron2.utils import comm
from torch import Tensor

from ..data.rarest_class import rarity
from ..data.records import drawn_lots
from ..data.selection_lists import check_replaceable, write_selection
from ..data.selection_record import make_selection, summary, vanished_classes
from ..pruning import Selection
from ..pruning.redundancy import Comparison, discounted_scores
from .distributed import unwrapped

logger = logging.getLogger(__name__)

METHOD = "adapruner"
MASK_COLUMN = "mask_logit"  # where the score of the selection is another


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

    It must stand before the hook that writes events.

    Args:
        competing: the records the mask is over, in the order of their `image_index`.
        others: records that do not compete (images without boxes, where EMPTY_IMAGES says so).
        keep_others: whether those are kept.
        folder: where the selection goes.
        comparison: what is made of the finished mask's logits by comparing images; it leaves the mask itself
            as it is. With a strength of 0 images are not compared.
    """

    def __init__(
        self,
        competing: List[dict],
        others: List[dict],
        keep_others: bool,
        folder: str,
        comparison: Comparison,
    ):
        self.competing = competing
        self.others = others
        self.keep_others = keep_others
        self.folder = folder
        self.comparison = comparison
        self._final_loss: Dict[str, list] = {}  # a column, if there was a last look
        self._seen: Optional[np.ndarray] = None  # the features of that look
        self._seconds_before = 0.0
        self._start = time.perf_counter()
        self._began = False

    def before_train(self):
        check_replaceable(self.folder)  # not only when the work is done
        self._start = time.perf_counter()
        if comm.is_main_process():
            self._check_what_comes_last()
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
        if self._looks:
            self._look_again()
        kept = self.trainer.pruner.finish().numpy()  # every process, so that all stop if it fails
        check_same_mask(self.trainer.pruner.mask.logits)
        if not comm.is_main_process():
            return
        if self.trainer.pruner.num_tied:
            logger.warning(
                f"{self.trainer.pruner.num_tied} images had the same mask logit at the threshold (losses "
                "that have long been zero, for example); which of them stay was drawn at random"
            )
        scores, kept, columns = self._verdicts(kept)
        selection = self._selection(scores, kept, columns)
        write_selection(selection, self.folder)
        logger.info(summary(selection))
        for name in vanished_classes(selection):
            logger.warning(f"nothing of class {name} is kept: raise ADAPRUNER.KEEP_RATIO")
        logger.info(
            f"Selection written to {self.folder}. Train on it with --selection {self.folder}, or "
            "with the lists in it"
        )

    def _look_again(self) -> None:
        start = time.perf_counter()
        losses, self._seen = self.trainer.look_again()
        self._final_loss = {"final_loss": losses.tolist()}
        logger.info(f"The last look at {len(losses)} images took {time.perf_counter() - start:.1f} s")

    def _verdicts(self, kept: np.ndarray) -> Tuple[List[float], List[bool], Dict[str, list]]:
        """Scores, verdicts and further columns: those of the mask, or of images next to their neighbours."""
        mask = self.trainer.pruner.mask
        if not self.comparison.strength:
            return mask.logits.tolist(), kept.tolist(), {}
        start = time.perf_counter()
        features = self._features(self.competing) if self._seen is None else self._seen
        if not np.isfinite(features).all():
            logger.error("Features of the trained model are not finite: near neighbours were not compared")
            return mask.logits.tolist(), kept.tolist(), {}
        groups = self.trainer.task.groups(self.competing).numpy()
        counts = self.trainer.task.class_counts(self.competing).numpy()
        lots = drawn_lots(self.competing, self.trainer.cfg.SEED, rarity(counts, self.trainer.cfg.ADAPRUNER.RARE_CLASSES))
        scores = discounted_scores(mask.logits.numpy(), kept.sum(), features, self.comparison, groups, lots)
        logger.info(
            f"Next to their neighbours {np.sum(kept & (scores <= 0))} of {kept.sum()} images the mask keeps made "
            f"way for others. Comparing {len(kept)} images took {time.perf_counter() - start:.1f} s"
        )
        return scores.tolist(), (scores > 0).tolist(), {MASK_COLUMN: mask.logits.tolist()}

    def _check_what_comes_last(self) -> None:
        """What a model or a record lacks for it is said before training."""
        asks = {}
        if self.comparison.strength:
            asks["ADAPRUNER.REDUNDANCY 0"] = self._features
        if self._looks:
            asks["ADAPRUNER.LAST_LOOK False"] = self._losses_and_features
        if not asks:
            return
        refused = {without: error for without, ask in asks.items() if (error := self._refusal(ask))}
        if refused:
            raise ValueError(f"{next(iter(refused.values()))}. To do without: {' '.join(refused)}")

    def _refusal(self, ask: Callable[[List[dict]], Any]) -> Optional[ValueError]:
        lacking = [record for record in self.competing if not {"height", "width"} <= record.keys()]
        try:
            ask(lacking[:1] or self.competing[:1])
        except ValueError as error:
            return error
        return None

    @property
    def _looks(self) -> bool:
        return self.trainer.cfg.ADAPRUNER.LAST_LOOK

    def _losses_and_features(self, records: List[dict]) -> Tuple[Dict[str, Tensor], np.ndarray]:
        return self.trainer.task.losses_and_features(self.trainer.cfg, unwrapped(self.trainer.model), records)

    def _features(self, records: List[dict]) -> np.ndarray:
        return self.trainer.task.features(self.trainer.cfg, unwrapped(self.trainer.model), records)

    def _selection(
        self, scores: List[float], kept: List[bool], columns: Dict[str, list]
    ) -> Selection:
        nothing = [None] * len(self.others)
        columns = {
            name: values + nothing
            for name, values in {**columns, **self.trainer.image_statistics(), **self._final_loss}.items()
        }
        return make_selection(
            self.competing + self.others,
            scores + nothing,
            kept + [self.keep_others] * len(self.others),
            keep_ratio=self.trainer.cfg.ADAPRUNER.KEEP_RATIO,
            method=METHOD,
            columns=columns,
            provenance={
                "seed": self.trainer.cfg.SEED,
                "seconds": round(self._seconds(), 1),
                "iterations": self.trainer.max_iter,
                "config": self.trainer.cfg.dump(),
            },
        )

    def _seconds(self) -> float:
        return self._seconds_before + time.perf_counter() - self._start

    def state_dict(self):
        return {"seconds": self._seconds()}

    def load_state_dict(self, state_dict):
        self._seconds_before = state_dict["seconds"]
