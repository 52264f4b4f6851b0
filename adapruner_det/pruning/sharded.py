"""A mask spread over processes, each of which holds the logits of the samples it reads.

Logits never travel. What the processes add up is counts and sums: three histograms of the logits' digits a
projection (see `ranking`), and two times a few numbers a step (with groups, also two numbers a group), so
that kept ratio, running means and the end of an epoch are those of all samples together.

All processes have to call `AdaPruner.update` equally often, once a step, as DistributedDataParallel
demands of the backward pass; a process without samples in a step passes empty tensors. An epoch ends when
all of them together have seen N samples, which each learns in the same step: it does not matter how
unevenly the shards are visited, and no process can wait for one that is not there. If one refuses its
batch (a loss that is not finite, say), all of them raise in that step, and no logit has moved.
"""
from typing import Callable, Optional

import torch
from torch import Tensor, distributed

from .mask import Mask


def sum_over_processes(
    process_group: "Optional[distributed.ProcessGroup]" = None,
) -> Callable[[Tensor], Tensor]:
    """Adds up a tensor over the processes of torch.distributed.

    Args:
        process_group: whose backend must be able to send tensors of the mask's device: for a mask on
            the CPU under NCCL pass ``torch.distributed.new_group(backend="gloo")``.
    """

    def reduce(values: Tensor) -> Tensor:
        values = values.clone(memory_format=torch.contiguous_format)
        distributed.all_reduce(values, group=process_group)
        return values

    return reduce


class ShardedMask(Mask):
    """The mask of N samples of which this process holds the `rank`-th of `num_shards` equal parts.

    Indices remain those of the whole data set; `logits` and `hard()` hold the samples of `owned` alone,
    in its order. So the loader has to draw each process's samples from its own `owned`::

        mask = ShardedMask(len(dataset), rank, world_size)
        pruner = AdaPruner(len(dataset), keep_ratio=0.9, total_steps=steps, mask=mask)

    The result is that of one process that is given all processes' batches in one, up to the rounding of
    sums. The state is of this shard: every process saves and loads its own.

    Args:
        num_samples: N, of all processes together.
        rank, num_shards: which part is held here, of how many.
        reduce: adds up a tensor over all shards and returns the sums; called by all in the same order.
            By default torch.distributed, which has to be set up.
        device: where the logits live.
        groups: group of each sample of `owned`, (len(owned),) integers in [0, num_groups).
        num_groups: G, the same everywhere; needed with groups.

    Raises:
        ValueError: a shard without samples, or groups that do not fit.
    """

    def __init__(
        self,
        num_samples: int,
        rank: int,
        num_shards: int,
        *,
        reduce: Optional[Callable[[Tensor], Tensor]] = None,
        device: "torch.device | str" = "cpu",
        groups: Optional[Tensor] = None,
        num_groups: Optional[int] = None,
    ):
        if not 0 <= rank < num_shards <= num_samples:
            raise ValueError(
                f"there is no shard {rank} when {num_samples} samples are split over {num_shards}"
            )
        if groups is not None and num_groups is None:
            raise ValueError("with groups, num_groups is needed: this process may not see all of them")
        self.owned = range(
            num_samples * rank // num_shards, num_samples * (rank + 1) // num_shards
        )
        self._reduce = reduce or sum_over_processes()
        self._uncounted = 0  # by how much the number kept here changed since the last `totals`
        self._set_up(num_samples, len(self.owned), device, groups, num_groups)

    def total(self, counts: Tensor) -> Tensor:
        return self._reduce(counts)

    def totals(self, *numbers: float) -> "tuple[float, ...]":
        """The numbers added up; what `step` changed travels along, and `num_kept` is right again."""
        numbers, self._uncounted = (*numbers, self._uncounted), 0
        sums = torch.tensor(numbers, dtype=torch.float64, device=self.logits.device)
        *sums, change = self.total(sums).tolist()
        self.num_kept += int(change)
        return tuple(sums)

    def _count(self, change: int) -> None:
        self._uncounted += change

    def project(self, num_kept: "int | Tensor") -> Tensor:
        self._uncounted = 0  # everything is counted anew
        return super().project(num_kept)

    def break_ties(self, num_kept: "int | Tensor") -> int:
        """Leaves ties together: the processes share counts, and none knows which of the others' to draw."""
        return 0

    def mean(self, values: Tensor) -> float:
        total, count = self.totals(float(values.sum(dtype=torch.float64)), values.numel())
        return total / count

    def place(self, index: Tensor) -> Tensor:
        index = torch.as_tensor(index, device=self.logits.device)
        own = self.owned
        if len(index) and not (own.start <= int(index.min()) and int(index.max()) < own.stop):
            raise IndexError(
                f"sample indices {index.tolist()} are not all in [{own.start}, {own.stop}), which is what "
                "this process holds: let its loader draw from ShardedMask.owned"
            )
        return index - own.start

    def state_dict(self) -> dict:
        return {**super().state_dict(), "shard": self._shard()}

    def load_state_dict(self, state: dict) -> None:
        if state.get("shard") != self._shard():
            raise ValueError(
                f"the saved shard is {state.get('shard')}, this process holds {self._shard()} (first, one "
                "after the last, of all): resume with as many processes as the run was started with"
            )
        super().load_state_dict(state)

    def _shard(self) -> list:
        return [self.owned.start, self.owned.stop, self.num_samples]
