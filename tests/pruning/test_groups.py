import pytest
import torch

from adapruner_det.pruning.groups import quotas


@pytest.mark.parametrize(
    "sizes, total, expected",
    [
        ([10, 10], 15, [8, 7]),  # equal fractions: the lower id
        ([10, 20, 30], 48, [8, 16, 24]),
        ([3, 3, 4], 7, [2, 2, 3]),  # shares 2.1, 2.1, 2.8
        ([5, 0, 5], 6, [3, 0, 3]),  # an id that nobody has
        ([1, 1, 1, 7], 5, [1, 1, 1, 2]),  # shares of a half are raised to one
        ([1, 100], 80, [1, 79]),
        ([1, 1, 1], 3, [1, 1, 1]),
        ([7], 3, [3]),
    ],
)
def test_quotas_by_largest_remainder(sizes, total, expected):
    assert quotas(torch.tensor(sizes), total).tolist() == expected


def test_quotas_of_many_random_groups_keep_their_promises():
    generator = torch.Generator().manual_seed(0)
    for _ in range(200):
        sizes = torch.randint(0, 30, (20,), generator=generator)
        total = int(sizes.sum()) * 7 // 10
        if total < int((sizes > 0).sum()):
            continue
        given = quotas(sizes, total)
        assert int(given.sum()) == total
        assert bool(((given <= sizes) & (given >= sizes.clamp(max=1))).all())
        large = sizes * total >= int(sizes.sum())
        share = sizes[large].double() * total / int(sizes.sum())
        assert float((given[large] - share).max()) < 1  # nobody gains a whole place


def test_more_groups_than_samples_to_keep_are_refused():
    with pytest.raises(ValueError, match="3 groups cannot each keep a sample when 2 of 6"):
        quotas(torch.tensor([2, 2, 2]), 2)


def test_quotas_of_a_billion_samples_do_not_overflow():
    assert quotas(torch.tensor([10**9, 10**9]), 2 * 10**9 - 1).tolist() == [10**9, 10**9 - 1]
