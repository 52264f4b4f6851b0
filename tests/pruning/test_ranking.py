import pytest
import torch

from adapruner_det.pruning import ranking
from adapruner_det.pruning.ranking import ranked

SPECIAL = [0.0, -0.0, 1e-45, -1e-45, 3.4e38, -3.4e38, float("inf"), float("-inf"), 1.0, -1.0]


def random_values(num, seed=0):
    """Of all magnitudes and both signs, some of them equal, and the special ones."""
    generator = torch.Generator().manual_seed(seed)
    values = torch.randn(num, generator=generator) * 10 ** torch.randint(
        -30, 30, (num,), generator=generator
    )
    values[: len(SPECIAL)] = torch.tensor(SPECIAL)
    values[-num // 4 :] = values[: num // 4].flip(0)
    return values[torch.randperm(num, generator=generator)]


def test_every_rank_is_that_of_a_sort():
    values = random_values(200)
    every_rank = torch.arange(200).reshape(1, 200)
    expected = values.sort(descending=True).values.double()
    assert torch.equal(ranked(values, every_rank)[0], expected)


@pytest.mark.parametrize("bits", [1, 2, 7, 11, 16])
def test_width_of_a_digit_and_of_a_chunk_change_nothing(monkeypatch, bits):
    monkeypatch.setattr(ranking, "DIGIT", bits)
    monkeypatch.setattr(ranking, "CPU_CHUNK", 64)
    values = random_values(1000)
    ranks = torch.tensor([[0, 1, 499, 500, 999]])
    assert torch.equal(ranked(values, ranks)[0], values.sort(descending=True).values[ranks[0]].double())


@pytest.mark.parametrize("max_bins", [1 << 20, 16])
def test_each_group_is_ranked_by_itself(monkeypatch, max_bins):
    monkeypatch.setattr(ranking, "MAX_BINS", max_bins)
    values = random_values(600)
    groups = torch.randint(5, (600,), generator=torch.Generator().manual_seed(1)).to(torch.uint8)
    ranks = torch.tensor([[0, 3], [7, 8], [50, 51], [2, 60], [90, 4]])
    for group, found in enumerate(ranked(values, ranks, groups)):
        own = values[groups == group].sort(descending=True).values
        assert torch.equal(found, own[ranks[group]].double())


def test_values_spread_over_processes_are_ranked_by_sums_of_counts_alone():
    values = random_values(500)
    ranks = torch.tensor([[123, 124]])
    sums = []  # what all processes' counts add up to, one entry a pass
    expected = ranked(values, ranks, reduce=lambda counts: (sums.append(counts), counts)[1])
    assert [tuple(counts.shape) for counts in sums] == [(1, 2, 2048), (1, 2, 2048), (1, 2, 1024)]

    own = []

    def add_the_others(counts):
        own.append(counts)
        return sums[len(own) - 1]

    assert torch.equal(ranked(values[:100], ranks, reduce=add_the_others), expected)
    assert int(own[0].sum()) == 200 and len(own) == 3  # 100 values, once for each of two ranks
