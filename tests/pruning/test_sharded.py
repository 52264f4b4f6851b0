"""A sharded mask against one that holds everything; processes are threads here, but for one test."""
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch import distributed, multiprocessing

from adapruner_det.pruning import AdaPruner, Objective, ShardedMask
from adapruner_det.pruning.mask import Mask

N = 301
STEPS = 240
WARMUP = 60
WORLD = 3


class Threads:
    """Adds tensors up over threads, as all_reduce does over processes; counts its calls."""

    def __init__(self, world):
        self.world = world
        self.barrier = threading.Barrier(world, timeout=20)
        self.slots = [None] * world
        self.calls = [0] * world

    def reduce(self, rank):
        def add_up(values):
            self.calls[rank] += 1
            self.slots[rank] = values.clone()
            self.barrier.wait()
            total = sum(self.slots[1:], self.slots[0])
            self.barrier.wait()
            return total

        return add_up

    def run(self, function):
        """function(rank, reduce) in one thread a rank; the results, or the exceptions."""

        def guarded(rank):
            try:
                return function(rank, self.reduce(rank))
            except Exception as error:  # noqa: BLE001 - handed to the test, which looks at it
                self.barrier.abort()  # or the others would wait for it
                return error

        with ThreadPoolExecutor(self.world) as pool:
            return list(pool.map(guarded, range(self.world)))


def losses_of(index, step):
    """Of a spread that keeps samples apart, changing with time."""
    return 0.05 + 3 * torch.frac(index * 0.6180339887 + 0.1 * torch.sin(index + step / 9.0)).abs()


def batch_of(owned, rank, step):
    """An uneven share: rank 0 sees most, the last one nothing in every third step."""
    size = 0 if rank == WORLD - 1 and step % 3 == 0 else (9, 4, 5)[rank]
    generator = torch.Generator().manual_seed(1000 * step + rank)
    return torch.randint(owned.start, owned.stop, (size,), generator=generator)


def all_batches(step):
    shards = [range(N * r // WORLD, N * (r + 1) // WORLD) for r in range(WORLD)]
    return torch.cat([batch_of(owned, rank, step) for rank, owned in enumerate(shards)])


def make(mask, **options):
    objective = Objective(**{k: v for k, v in options.items() if k != "warmup"})
    return AdaPruner(
        N, 0.7, STEPS, warmup_steps=options.get("warmup", WARMUP), objective=objective, mask=mask,
        num_covariates=2,
    )  # fmt: skip


def follow(pruner, batches, steps=range(STEPS)):
    weights, ratios = [], []
    for step in steps:
        index = batches(step)
        weights.append(pruner.weights(index))
        pruner.update(index, losses_of(index, step), torch.stack([index % 3, index % 5], dim=1))
        ratios.append((pruner.kept_ratio, pruner.alpha))
    return weights, ratios


def groups_of_all():
    return torch.arange(N) % 7 % 4  # groups of unequal size, none of them a shard


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"warmup": 0},
        {"loss_scale": "none"},
        {"loss_scale": "expected"},
        {"loss_scale": "quantile"},
        {"ratio_control": "penalty"},
        {"compression": False},
        {"grouped": True},
        {"grouped": True, "warmup": 0},
    ],
    ids=str,
)
def test_shards_learn_what_one_mask_learns(options):
    options = dict(options)
    groups = groups_of_all() if options.pop("grouped", False) else None
    whole = make(Mask(N, groups=groups), **options)
    whole_weights, whole_ratios = follow(whole, all_batches)

    def one(rank, reduce):
        own = slice(N * rank // WORLD, N * (rank + 1) // WORLD)
        mask = ShardedMask(
            N, rank, WORLD, reduce=reduce,
            groups=None if groups is None else groups[own], num_groups=4,
        )  # fmt: skip
        assert range(own.start, own.stop) == mask.owned and len(mask.logits) == len(mask.owned)
        pruner = make(mask, **options)
        weights, ratios = follow(pruner, lambda step: batch_of(mask.owned, rank, step))
        kept = None if options.get("ratio_control") == "penalty" else pruner.finish()
        return weights, ratios, mask.logits, kept

    threads = Threads(WORLD)
    results = threads.run(one)
    for result in results:
        assert not isinstance(result, Exception), result
    assert len(set(threads.calls)) == 1
    for step in range(STEPS):
        together = torch.cat([result[0][step] for result in results])
        torch.testing.assert_close(together, whole_weights[step], rtol=1e-4, atol=1e-5)
    assert all(result[1] == whole_ratios for result in results)
    if options.get("ratio_control") == "penalty":
        return
    kept = whole.finish()
    assert torch.equal(torch.cat([result[3] for result in results]), kept)
    torch.testing.assert_close(
        torch.cat([result[2] for result in results]), whole.mask.logits, rtol=1e-4, atol=1e-4
    )


@pytest.mark.parametrize("loss_scale", ["mean", "expected", "quantile"])
def test_shards_judge_as_one_mask_does(loss_scale):
    losses, covariates = losses_of(torch.arange(N), 0), torch.stack([torch.arange(N) % 3, torch.arange(N) % 5], 1)

    def judged(mask, owned, index):
        pruner = make(mask, warmup=0, loss_scale=loss_scale)
        for _ in range(2):
            pruner.update(index, torch.ones(len(index)), covariates[index])
        pruner.judge(losses[owned], covariates[owned])
        return pruner.finish()

    def one(rank, reduce):
        mask = ShardedMask(N, rank, WORLD, reduce=reduce)
        owned = slice(mask.owned.start, mask.owned.stop)
        return judged(mask, owned, torch.arange(N)[owned])

    parts = Threads(WORLD).run(one)
    assert torch.equal(torch.cat(parts), judged(Mask(N), slice(None), torch.arange(N)))


@pytest.mark.parametrize("what", ["batch", "judgement"])
def test_what_one_refuses_stops_all_processes_in_the_same_step_and_moves_nothing(what):
    def one(rank, reduce):
        mask = ShardedMask(N, rank, WORLD, reduce=reduce)
        pruner = make(mask, warmup=0)
        pruner.update(torch.tensor([mask.owned.start]), torch.ones(1))
        before = mask.logits.clone()
        bad = torch.ones(len(mask.owned))
        bad[0] = float("nan") if rank == 1 else 1.0
        try:
            if what == "batch":
                pruner.update(torch.tensor([mask.owned.start]), bad[:1])
            else:
                pruner.judge(bad)
        except Exception as error:  # noqa: BLE001 - looked at below
            return error, torch.equal(mask.logits, before), pruner.step

    results = Threads(WORLD).run(one)
    assert [type(error) for error, _, _ in results] == [
        RuntimeError, FloatingPointError, RuntimeError
    ]  # fmt: skip
    assert all(unmoved and step == 1 for _, unmoved, step in results)
    assert "another process" in str(results[0][0]) and str(N // 3) in str(results[1][0])


def test_samples_of_another_shard_are_refused_with_the_range_held_here():
    mask = ShardedMask(10, 1, 2, reduce=lambda values: values)
    assert mask.place(torch.tensor([5, 9])).tolist() == [0, 4]
    with pytest.raises(IndexError, match=r"\[5, 10\).*ShardedMask.owned"):
        mask.place(torch.tensor([4]))
    with pytest.raises(IndexError):
        mask.place(torch.tensor([10]))


def test_a_shard_resumes_its_own_state_only():
    shard = lambda n, rank, world: ShardedMask(n, rank, world, reduce=lambda v: v)  # noqa: E731
    saved = shard(10, 1, 2)
    saved.step(torch.tensor([3]), torch.tensor([-2.0]))
    ours = shard(10, 1, 2)
    ours.load_state_dict(saved.state_dict())
    assert torch.equal(ours.logits, saved.logits)
    for other in (shard(10, 0, 2), shard(15, 1, 3)):
        with pytest.raises(ValueError, match=r"\[5, 10, 10\].*as many processes"):
            other.load_state_dict(saved.state_dict())
    with pytest.raises(ValueError, match="None"):
        shard(10, 1, 2).load_state_dict(Mask(5).state_dict())


@pytest.mark.parametrize("rank, world", [(2, 2), (-1, 2), (0, 11)])
def test_shards_that_cannot_be_are_refused(rank, world):
    with pytest.raises(ValueError, match="no shard"):
        ShardedMask(10, rank, world, reduce=lambda values: values)


def test_groups_need_their_number():
    with pytest.raises(ValueError, match="num_groups"):
        ShardedMask(10, 0, 2, reduce=lambda v: v, groups=torch.zeros(5, dtype=torch.long))


def _gloo_process(rank, folder):
    torch.set_num_threads(1)
    distributed.init_process_group(
        "gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=2
    )
    groups = torch.arange(200)[100 * rank : 100 * (rank + 1)] % 3
    mask = ShardedMask(200, rank, 2, groups=groups, num_groups=3)
    pruner = AdaPruner(200, 0.75, 60, mask=mask)
    for step in range(60):
        index = torch.arange(100 * rank, 100 * (rank + 1))[(step % 5) :: 5]
        pruner.update(index, losses_of(index, step))
    torch.save(pruner.finish(), f"{folder}/kept{rank}.pt")
    distributed.destroy_process_group()


def test_two_processes_of_torch_distributed(tmp_path):
    multiprocessing.spawn(_gloo_process, args=(str(tmp_path),), nprocs=2)
    whole = AdaPruner(200, 0.75, 60, groups=torch.arange(200) % 3)
    for step in range(60):
        index = torch.cat([torch.arange(100 * r, 100 * (r + 1))[(step % 5) :: 5] for r in (0, 1)])
        whole.update(index, losses_of(index, step))
    kept = torch.cat([torch.load(tmp_path / f"kept{rank}.pt") for rank in (0, 1)])
    assert torch.equal(kept, whole.finish()) and int(kept.sum()) == 150
