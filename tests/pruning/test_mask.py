import pytest
import torch

from adapruner_det.pruning.mask import Mask


def test_everything_is_kept_at_first():
    mask = Mask(7)
    assert mask.kept_ratio == 1 and mask.hard().all()


def test_count_follows_the_logits_through_random_steps():
    generator = torch.Generator().manual_seed(0)
    mask = Mask(40)
    for _ in range(200):
        index = torch.randint(40, (8,), generator=generator)
        mask.step(index, torch.randn(8, generator=generator))
        assert mask.num_kept == int((mask.logits > 0).sum())


def test_a_sample_twice_in_a_batch_gets_both_changes():
    mask = Mask(3)
    mask.step(torch.tensor([1, 1, 2]), torch.tensor([-0.5, -0.25, 0.5]))
    assert mask.logits.tolist() == [1.0, 0.25, 1.5]


@pytest.mark.parametrize("num_kept", [1, 13, 39])
def test_projection_keeps_the_highest_and_preserves_differences(num_kept):
    mask = Mask(40)
    mask.logits = torch.randn(40, generator=torch.Generator().manual_seed(3))
    before = mask.logits.clone()
    mask.project(num_kept)
    assert mask.num_kept == num_kept == int(mask.hard().sum())
    assert before[mask.hard()].min() > before[~mask.hard()].max()
    shift = before - mask.logits
    torch.testing.assert_close(shift, shift[0].expand(40))


def test_projection_separates_neighbouring_floats():
    mask = Mask(2)
    one = torch.tensor(1.0)
    mask.logits = torch.stack([one, torch.nextafter(one, torch.tensor(2.0))])
    mask.project(1)
    assert mask.hard().tolist() == [False, True]


def test_saved_mask_of_another_data_set_is_refused():
    with pytest.raises(ValueError, match="5 samples.*has 4"):
        Mask(4).load_state_dict(Mask(5).state_dict())


@pytest.mark.parametrize("num_kept", [1, 17, 70_000, 99_999])
def test_projection_is_to_the_last_bit_what_sorting_all_logits_gives(num_kept):
    mask = Mask(100_000)  # several chunks
    mask.logits = torch.randn(100_000, generator=torch.Generator().manual_seed(0))
    mask.logits[::7] = mask.logits[3]  # ties
    descending = mask.logits.sort(descending=True).values
    threshold = descending[num_kept - 1 : num_kept + 1].double().mean()
    expected = (mask.logits.double() - threshold).float()
    mask.project(num_kept)
    assert torch.equal(mask.logits, expected)
    assert mask.num_kept == int((expected > 0).sum())


def test_projection_works_in_place():
    mask = Mask(100)
    mask.logits.copy_(torch.linspace(-1, 1, 100))
    where = mask.logits.data_ptr()
    mask.project(30)
    assert mask.logits.data_ptr() == where and mask.num_kept == 30


def test_ties_at_the_threshold_stay_together():
    mask = Mask(4)
    mask.logits = torch.tensor([3.0, 2.0, 2.0, 1.0])
    assert mask.project(2).tolist() == [1]
    assert mask.hard().tolist() == [True, False, False, False]


def grouped_mask():
    mask = Mask(9, groups=torch.tensor([0, 0, 0, 0, 2, 2, 2, 3, 3]))
    mask.logits = torch.tensor([4.0, 3.0, 2.0, 1.0, -1.0, -3.0, -2.0, 8.0, 9.0])
    return mask


def test_each_group_is_projected_by_itself():
    mask = grouped_mask()
    assert mask.project(torch.tensor([3, 0, 1, 2])).tolist() == [3, 0, 1, 2]
    assert mask.hard().tolist() == [True, True, True, False, True, False, False, True, True]
    assert mask.logits.tolist() == [2.5, 1.5, 0.5, -0.5, 0.5, -1.5, -0.5, 1.0, 2.0]
    assert mask.num_kept == 6


@pytest.mark.parametrize("wanted", [[0, 0, 1, 1], [5, 0, 1, 1], [1, 1, 1, 1]])
def test_a_group_cannot_be_emptied_or_keep_more_than_it_has(wanted):
    mask = grouped_mask()
    with pytest.raises(ValueError, match="cannot keep"):
        mask.project(torch.tensor(wanted))
    assert torch.equal(mask.logits, grouped_mask().logits)


@pytest.mark.parametrize("groups", [None, [0, 1, 1, 1], [0, 0, 1, 2]])
def test_saved_mask_of_other_groups_is_refused(groups):
    ours = Mask(4, groups=None if groups is None else torch.tensor(groups))
    with pytest.raises(ValueError, match="other groups"):
        ours.load_state_dict(Mask(4, groups=torch.tensor([0, 0, 1, 1])).state_dict())


def test_resident_bytes_of_a_sample():
    num = 1000
    for groups, expected in ((None, 4), (torch.arange(num) % 200, 5), (torch.arange(num), 6)):
        mask = Mask(num, groups=groups)
        tensors = {t.data_ptr(): t for t in vars(mask).values() if isinstance(t, torch.Tensor)}
        of_samples = [t for t in tensors.values() if t is not mask.group_sizes]
        assert sum(t.numel() * t.element_size() for t in of_samples) == expected * num


def test_ties_are_parted_by_drawing_and_nothing_else_moves():
    mask = Mask(10)
    mask.logits = torch.tensor([3.0, 2.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 0.5, 0.2])
    mask.project(5)
    before = mask.logits.clone()
    assert mask.break_ties(5) == 6
    kept = mask.hard()
    assert kept.sum() == mask.num_kept == 5 and kept[:2].all() and not kept[8:].any()
    assert kept[2:8].tolist() != [True] * 3 + [False] * 3  # not the first ones
    assert (mask.logits - before).abs().max() < 1e-9
    assert mask.logits[8] < mask.logits[2:8].min()
    assert mask.break_ties(5) == 0  # nothing is left to part
    again = Mask(10)
    again.logits = before
    again.break_ties(5)
    assert torch.equal(again.hard(), kept)


def test_ties_are_parted_in_each_group():
    mask = Mask(12, groups=torch.tensor([0] * 6 + [1] * 6))
    mask.logits = torch.tensor([2.0, 1, 1, 1, 1, 0, 5, 4, 4, 4, 4, 4])
    mask.project(torch.tensor([3, 3]))
    assert mask.break_ties(torch.tensor([3, 3])) == 9
    assert mask.kept_by_group().tolist() == [3, 3]
    everything_tied = Mask(4)
    everything_tied.project(2)
    assert everything_tied.break_ties(2) == 0
