import pytest
import torch

from adapruner_det.pruning.groups import compact_groups, fingerprint_of_groups, quotas


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


@pytest.mark.parametrize(
    "highest, dtype", [(255, torch.uint8), (256, torch.int16), (2**15, torch.int32)]
)
def test_ids_take_the_smallest_type_that_holds_them(highest, dtype):
    groups, num_groups = compact_groups(torch.tensor([0, highest]), 2)
    assert groups.dtype == dtype and groups.tolist() == [0, highest] and num_groups == highest + 1


@pytest.mark.parametrize(
    "groups, num_groups, message",
    [
        (torch.tensor([0.0, 1.0]), None, "one integer a sample"),
        (torch.tensor([0, 1, 2]), None, "one integer a sample"),
        (torch.tensor([0, -1]), None, "from -1 to 0"),
        (torch.tensor([0, 4]), 4, "from 0 to 4, allowed are 0 to 3"),
    ],
)
def test_ids_that_cannot_be_are_refused(groups, num_groups, message):
    with pytest.raises(ValueError, match=message):
        compact_groups(groups, 2, num_groups)


def test_fingerprint_tells_orders_apart():
    one, other = (fingerprint_of_groups(torch.tensor(g)) for g in ([0, 1], [1, 0]))
    assert one != other and fingerprint_of_groups(None) is None
