import math
import pickle

import pytest
import torch
from test_adapruner import EPOCHS, STEPS, N, batches, make_pruner, run, sample_losses

from adapruner_det.pruning.loss_scale import FLOOR, LossScale, RunningMean, non_negative_fit


def boxes():
    """Boxes of three classes: the first in every image, the last in none."""
    counts = torch.randint(0, 6, (N, 3), generator=torch.Generator().manual_seed(3))
    counts[:, 0] += 1
    counts[:, 2] = 0
    return counts


def linear_losses(counts):
    return 0.5 + 2.0 * counts[:, 0] + 0.25 * counts[:, 1]


def expecting(keep_ratio=0.7):
    return make_pruner(keep_ratio, num_classes=3, loss_scale="expected")


def fitted(losses, counts):
    scale = LossScale("expected", len(losses), counts.shape[1])
    scale.add(losses, counts)
    scale.next_epoch()
    return scale


def test_mean_so_far_then_that_of_the_last_whole_epoch():
    mean = RunningMean(4)
    assert math.isnan(mean.value())
    for added, so_far, afterwards in (([1, 5], 3.0, 3.0), ([100], 3.0, 3.0), ([4, 6], 3.0, 5.0), ([], 5.0, 5.0)):
        mean.add(torch.tensor(added, dtype=torch.float32))
        assert mean.value() == so_far
        mean.next_epoch()  # one of four values is no whole epoch
        assert mean.value() == afterwards


def test_losses_that_are_what_boxes_cost_become_ones():
    counts, scale = boxes(), LossScale("expected", N, 3)
    losses = linear_losses(counts)
    for index in torch.arange(N).split(17):
        scale.add(losses[index], counts[index])
        so_far = scale.scaled(losses[index], counts[index])  # by the mean, before an epoch has ended
        torch.testing.assert_close(so_far, losses[index] / scale.mean.value())
    scale.next_epoch()
    torch.testing.assert_close(scale.coefficients, torch.tensor([0.5, 2.0, 0.25, 0.0]))
    torch.testing.assert_close(scale.scaled(losses, counts), torch.ones(N))


def test_no_coefficient_is_negative_and_the_others_make_up_for_it():
    # y = 3 - x at x = 0, 1, 2: of the fits that do not fall, the best is the mean.
    x = torch.tensor([0.0, 1.0, 2.0]).double()
    rows = torch.stack([torch.ones(3).double(), x, 3 - x], dim=1)
    torch.testing.assert_close(non_negative_fit(rows.T @ rows), torch.tensor([2.0, 0.0]))


def test_one_class_an_image_gives_the_mean_of_each_class():
    """Ones and one-hot classes cannot be told apart, and do not have to be."""
    labels = torch.arange(60) % 4
    losses = torch.tensor([1.0, 3.0, 0.5, 2.0])[labels] * (1 + 0.5 * torch.cos(torch.arange(60.0)))
    classes = torch.nn.functional.one_hot(labels, 5)  # the fifth is in no image
    means = torch.stack([losses[labels == c].mean() for c in range(4)])
    torch.testing.assert_close(fitted(losses, classes).scaled(losses, classes), losses / means[labels])


def test_what_is_expected_to_cost_nothing_is_divided_by_a_share_of_the_mean():
    counts, losses = torch.tensor([[0], [1], [2]]), torch.tensor([0.0, 3.0, 6.0])
    divided = fitted(losses, counts).scaled(torch.ones(3), counts)
    torch.testing.assert_close(1 / divided, torch.tensor([3.0 * FLOOR, 3.0, 6.0]))


def test_a_remnant_of_an_epoch_does_not_replace_a_whole_one():
    scale = LossScale("expected", 10, 1)
    for value, number, expected in ((2.0, 10, 2.0), (50.0, 4, 2.0), (8.0, 5, 8.0), (0.0, 0, 8.0)):
        scale.add(torch.full((number,), value), torch.ones(number, 1))
        scale.next_epoch()
        assert 1 / scale.scaled(torch.ones(1), torch.ones(1, 1)).item() == pytest.approx(expected)


def test_how_many_boxes_an_image_has_no_longer_decides():
    """The loss is a factor of its own times what the boxes cost: the factor alone has to decide."""
    counts, factors = boxes(), 0.5 + torch.rand(N, generator=torch.Generator().manual_seed(4))
    factors[:100] *= 0.1  # easy for what is in them
    losses = factors * linear_losses(counts)
    kept = run(expecting(0.75), losses, counts)
    assert kept.logical_not().nonzero().flatten().tolist() == list(range(100))
    assert int(run(make_pruner(0.75), losses)[:100].sum()) >= 10  # by the mean, many boxes look as hard as others


def test_the_scale_changes_once_an_epoch_and_a_saved_state_does_not():
    counts, losses, pruner = boxes(), sample_losses(), expecting()
    seen = []
    for index in batches(0):
        seen.append(str(pruner._loss_scale.coefficients.tolist()))
        pruner.update(index, losses[index] * (1 + pruner.step), counts[index])
        if pruner.step == 60:
            state = pruner.state_dict()
            saved = pickle.dumps(state)
    assert len(set(seen)) == EPOCHS and pruner.step == STEPS and pickle.dumps(state) == saved


def test_resuming_with_another_number_of_classes_is_refused():
    with pytest.raises(ValueError, match="has 3 classes, here are 2"):
        LossScale("expected", N, 2).load_state_dict(LossScale("expected", N, 3).state_dict())


@pytest.mark.parametrize("counts", [None, torch.ones(2, 2), -torch.ones(2, 3), math.nan * torch.ones(2, 3)], ids=str)
def test_class_counts_that_are_missing_or_wrong_are_refused_and_move_nothing(counts):
    pruner = expecting()
    with pytest.raises(ValueError, match="class_counts"):
        pruner.update(torch.arange(2), torch.ones(2), counts)
    assert pruner.step == 0 and not pruner._loss_scale.moments.any()
