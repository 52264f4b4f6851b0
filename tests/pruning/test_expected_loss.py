import math
import pickle

import pytest
import torch
from test_adapruner import EPOCHS, STEPS, N, batches, make_pruner, run, sample_losses

from adapruner_det.pruning import AdaPruner, Objective
from adapruner_det.pruning.expected_loss import FLOOR, ExpectedLoss, non_negative_fit


def boxes(num=N):
    """Boxes of three classes: the first in every image, the last in none."""
    generator = torch.Generator().manual_seed(3)
    counts = torch.randint(0, 6, (num, 3), generator=generator)
    counts[:, 0] += 1
    counts[:, 2] = 0
    return counts


def linear_losses(counts):
    return 0.5 + 2.0 * counts[:, 0] + 0.25 * counts[:, 1]


def expecting(keep_ratio=0.7, **options):
    objective = Objective(loss_scale="expected", **options)
    return AdaPruner(N, keep_ratio, STEPS, warmup_steps=STEPS // 5, objective=objective, num_classes=3)


def run_expecting(pruner, losses, counts, start=0, stop=STEPS):
    for index in list(batches(0))[start:stop]:
        pruner.update(index, losses[index], counts[index])


def test_losses_that_are_what_boxes_cost_become_ones():
    counts = boxes()
    losses, scale = linear_losses(counts), ExpectedLoss(3, N)
    for index in torch.arange(N).split(17):
        assert scale.of(counts[index], 4.5) == 4.5  # nothing is known before an epoch has ended
        scale.add(losses[index], counts[index])
    scale.next_epoch()
    torch.testing.assert_close(scale.coefficients, torch.tensor([0.5, 2.0, 0.25, 0.0]))
    torch.testing.assert_close(losses / scale.of(counts, float(losses.mean())), torch.ones(N))


def test_no_coefficient_is_negative_and_the_others_make_up_for_it():
    # y = 3 - x at x = 0, 1, 2: of the fits that do not fall, the best is the mean.
    x = torch.tensor([0.0, 1.0, 2.0]).double()
    rows = torch.stack([torch.ones(3).double(), x, 3 - x], dim=1)
    torch.testing.assert_close(non_negative_fit(rows.T @ rows), torch.tensor([2.0, 0.0]))


def test_one_class_an_image_gives_the_mean_of_each_class():
    """Ones and one-hot classes cannot be told apart, and do not have to be."""
    labels = torch.arange(60) % 4
    losses = torch.tensor([1.0, 3.0, 0.5, 2.0])[labels] * (1 + 0.5 * torch.cos(torch.arange(60.0)))
    scale = ExpectedLoss(5, 60)  # the fifth class is in no image
    classes = torch.nn.functional.one_hot(labels, 5)
    scale.add(losses, classes)
    scale.next_epoch()
    means = torch.stack([losses[labels == c].mean() for c in range(4)])
    torch.testing.assert_close(scale.of(classes, 1.0), means[labels])


def test_what_is_expected_to_cost_nothing_is_divided_by_a_share_of_the_mean():
    counts = torch.tensor([[0], [1], [2]])
    scale = ExpectedLoss(1, 3)
    scale.add(torch.tensor([0.0, 3.0, 6.0]), counts)
    scale.next_epoch()
    torch.testing.assert_close(scale.of(counts, 3.0), torch.tensor([3.0 * FLOOR, 3.0, 6.0]))


def test_a_remnant_of_an_epoch_does_not_replace_a_whole_one():
    scale = ExpectedLoss(1, 10)
    ones = torch.ones(10)
    for losses, expected in ((2 * ones, 2.0), (50 * ones[:4], 2.0), (8 * ones[:5], 8.0), ([], 8.0)):
        losses = torch.as_tensor(losses, dtype=torch.float32)
        scale.add(losses, torch.ones(len(losses), 1))
        scale.next_epoch()
        found = torch.as_tensor(scale.of(torch.ones(1, 1), 1.0)).item()
        assert found == pytest.approx(expected)


def test_how_many_boxes_an_image_has_no_longer_decides():
    """The loss is a factor of its own times what the boxes cost: the factor alone has to decide."""
    counts, factors = boxes(), 0.5 + torch.rand(N, generator=torch.Generator().manual_seed(4))
    factors[:100] *= 0.1  # easy for what is in them
    losses = factors * linear_losses(counts)
    pruner = expecting(0.75)
    run_expecting(pruner, losses, counts)
    assert pruner.finish().logical_not().nonzero().flatten().tolist() == list(range(100))
    by_mean = run(make_pruner(0.75), losses)
    assert int(by_mean[:100].sum()) >= 10  # of images with many boxes, which look as hard as others


def test_a_resumed_run_ends_with_the_same_mask():
    counts, losses = boxes(), sample_losses()
    whole, first, second = (expecting() for _ in range(3))
    run_expecting(whole, losses, counts)
    run_expecting(first, losses, counts, 0, 217)
    second.load_state_dict(pickle.loads(pickle.dumps(first.state_dict())))
    run_expecting(second, losses, counts, 217)
    assert torch.equal(whole.mask.logits, second.mask.logits)
    assert torch.equal(whole.finish(), second.finish())


def test_the_state_is_a_copy():
    counts, losses, pruner = boxes(), sample_losses(), expecting()
    run_expecting(pruner, losses, counts, 0, 60)
    state = pruner.state_dict()
    before = pickle.dumps(state["expected_loss"])
    run_expecting(pruner, losses, counts, 60, 120)
    assert pickle.dumps(state["expected_loss"]) == before


def test_resuming_with_another_number_of_classes_is_refused():
    state = ExpectedLoss(3, N).state_dict()
    with pytest.raises(ValueError, match="has 3 class_counts, here are 2"):
        ExpectedLoss(2, N).load_state_dict(state)


@pytest.mark.parametrize(
    "class_counts", [None, torch.ones(2, 2), -torch.ones(2, 3), math.nan * torch.ones(2, 3)], ids=str
)
def test_class_counts_that_are_missing_or_wrong_are_refused_and_move_nothing(class_counts):
    pruner = expecting()
    with pytest.raises(ValueError, match="class_counts"):
        pruner.update(torch.arange(2), torch.ones(2), class_counts)
    assert pruner.step == 0 and not pruner._expected_loss.moments.any()


def test_the_scale_changes_once_an_epoch():
    counts, losses, pruner = boxes(), sample_losses(), expecting()
    seen = []
    for index in batches(0):
        seen.append(pruner._expected_loss.coefficients.tolist())
        pruner.update(index, losses[index] * (1 + pruner.step), counts[index])
    assert len({str(c) for c in seen}) == EPOCHS
