import pytest
import torch

from adapruner_det.pruning.mask import Mask


def mask_of(logits):
    mask = Mask(len(logits))
    mask.replace(torch.as_tensor(logits, dtype=torch.float32))
    return mask


def test_count_follows_the_logits_through_random_steps():
    generator, mask = torch.Generator().manual_seed(0), Mask(40)
    assert mask.kept_ratio == 1 and mask.hard().all()
    for _ in range(200):
        mask.step(torch.randint(40, (8,), generator=generator), torch.randn(8, generator=generator))
        assert mask.num_kept == int((mask.logits > 0).sum())


def test_a_sample_twice_in_a_batch_gets_both_changes():
    mask = Mask(3)
    mask.step(torch.tensor([1, 1, 2]), torch.tensor([-0.5, -0.25, 0.5]))
    assert mask.logits.tolist() == [1.0, 0.25, 1.5]


@pytest.mark.parametrize("num_kept", [1, 17, 700, 999])
def test_projection_is_what_sorting_all_logits_gives(num_kept):
    mask = mask_of(torch.randn(1000, generator=torch.Generator().manual_seed(0)))
    descending = mask.logits.sort(descending=True).values
    expected = mask.logits - descending[num_kept - 1 : num_kept + 1].mean()
    assert mask.project(num_kept) == 0
    torch.testing.assert_close(mask.logits, expected, rtol=0, atol=1e-6)
    assert mask.num_kept == num_kept == int(mask.hard().sum())


def test_projection_separates_neighbouring_floats():
    one = torch.tensor(1.0)
    mask = mask_of(torch.stack([one, torch.nextafter(one, torch.tensor(2.0))]))
    mask.project(1)
    assert mask.hard().tolist() == [False, True]


def test_projection_parts_ties_by_drawing_and_nothing_else_moves():
    mask = mask_of([3.0, 2.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 0.5, 0.2])
    before = mask.logits - 1
    assert mask.project(5) == 6
    kept = mask.hard()
    assert kept.sum() == mask.num_kept == 5 and kept[:2].all() and not kept[8:].any()
    assert kept[2:8].tolist() != [True] * 3 + [False] * 3  # not the first ones
    torch.testing.assert_close(mask.logits, before, rtol=0, atol=1e-30)
    assert mask.logits[8] < mask.logits[2:8].min()
    assert mask.project(5) == 6 and torch.equal(mask.hard(), kept)  # once more: the same


@pytest.mark.parametrize("num_kept", [1, 2, 3])
def test_samples_that_are_all_tied_are_parted_too(num_kept):
    mask = Mask(4)
    assert mask.project(num_kept) == 4 and int(mask.hard().sum()) == mask.num_kept == num_kept


def test_the_seed_draws_between_tied_samples():
    drawn = []
    for seed in range(3):
        mask = Mask(20, seed=seed)
        mask.project(10)
        drawn.append(tuple(mask.hard().tolist()))
    assert len(set(drawn)) == 3


@pytest.mark.parametrize("num_kept", [-1, 0, 4, 5])
def test_a_projection_keeps_some_and_not_all(num_kept):
    mask = Mask(4)
    with pytest.raises(ValueError, match=f"{num_kept} of 4 samples cannot be kept"):
        mask.project(num_kept)
    assert torch.equal(mask.logits, Mask(4).logits)


def test_the_way_back_ends_where_so_many_are_above_zero():
    start = torch.tensor([1.0, 1.0, 2.0, -1.0, 1.0])
    mask = mask_of([-1.0, -3.0, -1.0, -2.0, 0.5])  # zero after 1/2, 1/4, 2/3 of the way; before; never
    assert mask.walk_back(start, 3) == 0
    assert mask.num_kept == 3 and mask.hard().tolist() == [True, False, True, False, True]
    # After a quarter of the way logits are 0.5, 0, 1.25, -1.25, 0.875; zero is put halfway from 0 to 0.5.
    assert mask.logits.tolist() == [0.25, -0.25, 1.0, -1.5, 0.625]


def test_samples_that_came_to_zero_at_one_time_are_drawn_from():
    mask = mask_of(torch.full((6,), -1.0))
    assert mask.walk_back(torch.ones(6), 4) == 6 and int(mask.hard().sum()) == mask.num_kept == 4


def test_a_sample_that_rose_meanwhile_does_not_hinder_the_count():
    mask = mask_of([-1.0, -2.0, -3.0, 5.0])
    mask.walk_back(torch.tensor([1.0, 1.0, 1.0, -1.0]), 2)
    assert mask.num_kept == int(mask.hard().sum()) == 2


def test_logits_of_another_data_set_are_refused():
    with pytest.raises(ValueError, match="5 samples.*has 4"):
        Mask(4).load_state_dict(Mask(5).state_dict())
    with pytest.raises(ValueError, match="5 logits for a mask of 4"):
        Mask(4).replace(torch.ones(5))
