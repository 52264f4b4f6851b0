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
