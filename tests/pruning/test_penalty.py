"""The paper's form: Eq. 6 and 7 as a penalty, until the ratio comes to c."""

import math
import pickle

import pytest
import torch

from adapruner_det.pruning import AdaPruner, Objective, RatioNotReachedError
from adapruner_det.pruning.objective import mask_gradient
from adapruner_det.pruning.reach import check_reach, fewest_visits


def penalty(**terms):
    return Objective(ratio_control="penalty", loss_scale="none", **terms)


def stream(num=2000, epochs=10, batch=50):
    """(indices, losses) of steps: lognormal losses, each sample's about its own level, that fall from 8 to 0.5."""
    generator = torch.Generator().manual_seed(0)
    levels = 0.8 * torch.randn(num, generator=generator)
    steps = epochs * num // batch
    for step in range(steps):
        if step % (num // batch) == 0:
            order = torch.randperm(num, generator=generator).split(batch)
        index = order[step % (num // batch)]
        level = math.log(8) + math.log(0.5 / 8) * step / steps + levels[index]
        yield index, torch.exp(level + 0.3 * torch.randn(batch, generator=generator))


def learned(keep_ratio=0.8, warmup=120, stop=400):
    pruner = AdaPruner(2000, keep_ratio, 400, warmup_steps=warmup, objective=penalty())
    for index, losses in list(stream())[:stop]:
        pruner.update(index, losses)
    return pruner


@pytest.mark.parametrize("keep_ratio", [0.5, 0.8, 0.95])
@pytest.mark.parametrize("warmup", [0, 135])
def test_the_ratio_is_reached_to_the_sample(keep_ratio, warmup):
    pruner = learned(keep_ratio, warmup)
    kept = pruner.finish()
    assert int(kept.sum()) == round(2000 * keep_ratio) and pruner.settled_at is not None
    assert torch.equal(kept, pruner.mask.logits > 0) and pruner._epoch_start is None


def by_hand(losses, keep_ratio, learning_rate, alpha, steps):
    """Every sample once a step: (gaps checked, logits before the step that takes r to c or below, logits after it)."""
    logits, gaps = torch.ones(len(losses)), []
    for step in range(steps):
        scale = alpha[0] + (alpha[1] - alpha[0]) * step / (steps - 1)
        gaps.append(float((logits > 0).float().mean()) - keep_ratio)
        grad_soft = losses - torch.log(losses + 1e-5) + 2 * 100 * abs(gaps[-1]) * gaps[-1]
        after = logits - learning_rate * mask_gradient(logits, scale, grad_soft)
        if (after > 0).sum() <= round(keep_ratio * len(losses)):
            return gaps, logits, after
        logits = after
    raise AssertionError("never")


@pytest.mark.parametrize("keep_ratio, within", [(0.7, False), (0.85, True)])
def test_the_mask_that_counts_is_on_the_way_of_the_epoch_that_comes_to_c_and_stays(keep_ratio, within):
    """Whether or not an epoch before had ended within 2% above c."""
    num, steps = 200, 60
    losses = torch.linspace(0.5, 20.0, num)[torch.randperm(num, generator=torch.Generator().manual_seed(2))]
    gaps, start, end = by_hand(losses, keep_ratio, 0.01, (0.1, 5.0), steps)
    at, to_go = len(gaps), num - round(keep_ratio * num)
    assert len(set(gaps)) >= 3 and (min(gaps) <= 0.02) == within and (end > 0).sum() < num - to_go
    pruner = AdaPruner(num, keep_ratio, steps, objective=penalty(learning_rate=0.01))
    for step in range(steps):
        assert (pruner.settled_at is None) == (step < at) and math.isclose(pruner.alpha, 0.1 + 4.9 * step / (steps - 1))
        pruner.update(torch.arange(num), losses)
        if step + 1 == at:
            settled = pruner.mask.logits.clone()
    assert pruner.settled_at == at and torch.equal(pruner.mask.logits, settled)
    assert torch.equal(pruner.finish(), settled > 0)
    crossing = torch.where(start <= 0, 0.0, start / (start - end))[end <= 0].sort().values
    then = start + crossing[to_go - 1] * (end - start)  # the last of those that go is at zero
    then = then - then.sort().values[to_go - 1 : to_go + 1].mean()  # zero lies halfway between it and the next
    torch.testing.assert_close(settled, then, rtol=1e-4, atol=1e-5)
    assert set((settled <= 0).nonzero().flatten().tolist()) == set(losses.argsort(descending=True)[:to_go].tolist())


def test_whose_turn_came_first_does_not_decide():
    """Within an epoch the ratio passes c when only some had their step: those are not the ones to go."""
    losses = torch.linspace(2.0, 6.0, 100)
    masks = []
    for order in (torch.arange(100), torch.arange(100).flip(0)):
        pruner, ratios = AdaPruner(100, 0.8, 100, objective=penalty(learning_rate=1.0)), []
        for index in order.repeat(10).split(10):
            pruner.update(index, losses[index])
            ratios.append(pruner.kept_ratio)
        assert min(ratios) < 0.8 and torch.equal(pruner.finish(), torch.arange(100) < 80)
        masks.append(pruner.mask.logits)
    torch.testing.assert_close(*masks)


def test_all_samples_have_had_a_step_before_a_mask_counts():
    """The warm-up ends within an epoch, in whose rest one step is enough to go."""
    losses = torch.linspace(2.0, 6.0, 100)[torch.randperm(100, generator=torch.Generator().manual_seed(1))]
    pruner = AdaPruner(100, 0.8, 40, warmup_steps=5, objective=penalty(learning_rate=100.0))
    for step in range(40):
        index = torch.arange(100).split(10)[step % 10]
        pruner.update(index, losses[index])
        assert step != 9 or pruner.mask.num_kept == 50  # of the other half none has moved
    assert pruner.settled_at == 20 and int(pruner.finish().sum()) == 80


def test_the_last_part_of_an_epoch_counts_too():
    """The run ends before the epoch does that takes the ratio below c."""
    stop = learned().settled_at - 3
    pruner = learned(stop=stop)
    assert pruner.settled_at is None and pruner.kept_ratio < 0.8
    assert int(pruner.finish().sum()) == 1600 and pruner.settled_at == stop
    assert torch.equal(pruner.finish(), pruner.mask.hard())


@pytest.mark.parametrize("stop", [90, 240, 250, 319, 320, 350])
def test_a_resumed_run_ends_with_the_same_mask(stop):
    whole, resumed = (AdaPruner(2000, 0.8, 400, warmup_steps=120, objective=penalty(learning_rate=0.1)) for _ in "ab")
    for step, (index, losses) in enumerate(stream()):
        whole.update(index, losses)
        if step >= stop:
            resumed.update(index, losses)
        elif step == stop - 1:
            state = whole.state_dict()
            saved = pickle.dumps(state)
            resumed.load_state_dict(pickle.loads(saved))
    assert pickle.dumps(state) == saved  # a copy, whatever came after it
    assert torch.equal(whole.mask.logits, resumed.mask.logits) and whole.alpha == resumed.alpha
    assert torch.equal(whole.finish(), resumed.finish()) and whole.settled_at == resumed.settled_at == 320


def test_a_ratio_that_ends_within_the_tolerance_counts_as_it_is():
    pruner = AdaPruner(100, 0.8, 10, objective=penalty())
    for _ in range(10):
        pruner.update(torch.arange(100), torch.ones(100))
    pruner.mask.replace(torch.where(torch.arange(100) < 81, 1.0, -1.0))
    before = pruner.mask.logits.clone()
    assert int(pruner.finish().sum()) == 81 and torch.equal(pruner.mask.logits, before)


def test_a_ratio_that_is_not_reached_ends_in_an_error_that_says_how_far_it_was():
    pruner = AdaPruner(100, 0.8, 10, objective=penalty(learning_rate=0.01))
    for _ in range(10):
        pruner.update(torch.arange(100), torch.linspace(1, 2, 100))
    lowest_in = float(pruner.mask.logits.sort().values[19])
    message = f"keeps 1.000 of the samples, asked for were 0.800 .. 0.020: .* came from 1 to {lowest_in:.2f}: raise"
    with pytest.raises(RatioNotReachedError, match=message):
        pruner.finish()


def test_fewest_visits_by_hand():
    # At alpha 1, s (1 - s) is 0.19661 at 1: one step of 2 is 0.39322, then 0.22847 at 0.60678: 0.45694, then 0.24860.
    assert fewest_visits(2.0, 1.0, (1.0, 1.0)) == 3
    assert fewest_visits(6.0, 1.0, (1.0, 1.0)) == 1
    assert fewest_visits(0.0, 1.0, (1.0, 1.0)) == math.inf


@pytest.mark.parametrize(
    "terms, largest",
    [
        (dict(selection=False), 0.5),
        (dict(selection_weight=0.5), 0.5 + 0.5 * math.log(1e5)),
        (dict(selection=False, compression_scale=10.0), 0.05),
    ],
)
def test_what_cannot_reach_its_ratio_is_refused_with_the_number_of_visits(terms, largest):
    alone = penalty(classification=False, **terms)
    needed = fewest_visits(largest, 0.3, (0.1, 5.0))
    check_reach(alone, 0.95, (0.1, 5.0), 100 * (needed - 1), 100)
    with pytest.raises(ValueError, match=f"keep_ratio 0.95: .* fewer than {needed} visits, and .* {needed - 1} times"):
        check_reach(alone, 0.95, (0.1, 5.0), 100 * (needed - 2), 100)


def test_with_eq_4_or_a_projection_every_ratio_can_be_reached():
    for objective in (penalty(), Objective(classification=False, selection=False)):
        check_reach(objective, 0.95, (0.1, 5.0), 100, 100)
