import math
import pickle

import pytest
import torch

from adapruner_det.pruning import AdaPruner, Objective, RatioNotReachedError
from adapruner_det.pruning.mask import Mask
from adapruner_det.pruning.schedule import Schedule

N = 400
EPOCHS = 10
BATCH = 8
STEPS = EPOCHS * N // BATCH


def sample_losses(num=N):
    """Losses spread widely, so that the order of a pass cannot decide who goes."""
    return torch.logspace(-2, 1, num)[torch.randperm(num, generator=torch.Generator().manual_seed(9))]


def make_pruner(keep_ratio=0.8, num=N, warmup=STEPS // 5, **objective):
    return AdaPruner(
        num, keep_ratio, STEPS, warmup_steps=warmup, objective=Objective(**objective)
    )


def batches(seed, num=N, epochs=EPOCHS):
    generator = torch.Generator().manual_seed(seed)
    for _ in range(epochs):
        yield from torch.randperm(num, generator=generator).split(BATCH)


def run(pruner, losses, seed=0):
    for index in batches(seed):
        pruner.update(index, losses[index])
    return pruner.finish()


@pytest.mark.parametrize("keep_ratio", [0.5, 0.6, 0.7, 0.8, 0.9, 0.95])
def test_ratio_asked_for_is_the_ratio_reached(keep_ratio):
    kept = run(make_pruner(keep_ratio), sample_losses())
    assert abs(float(kept.float().mean()) - keep_ratio) <= 0.02


def test_order_of_the_loader_does_not_decide_who_is_pruned():
    losses = sample_losses()
    first, second = (run(make_pruner(0.7), losses, seed) for seed in (1, 2))
    assert int((first != second).sum()) <= N // 100


def test_renumbering_the_samples_renumbers_the_selection():
    losses = sample_losses()
    renumbered = torch.randperm(N, generator=torch.Generator().manual_seed(5))
    kept = run(make_pruner(0.7), losses)
    pruner = make_pruner(0.7)
    losses_renumbered = torch.empty(N)
    losses_renumbered[renumbered] = losses
    for index in batches(0):
        pruner.update(renumbered[index], losses[index])
    assert torch.equal(pruner.finish()[renumbered], kept)


def test_very_easy_samples_go_first_and_very_hard_ones_next():
    losses = torch.ones(N)
    losses[:40] = 0.01  # L - log L = 4.6
    losses[40:60] = 4.0  # 2.6
    kept = run(make_pruner(0.9), losses / losses.mean())
    assert not kept[:40].any()
    kept = run(make_pruner(0.85), losses / losses.mean())
    assert not kept[:60].any() and kept[60:].all()


@pytest.mark.parametrize("weight, order", [(0.1, [0, 1, 2, 3]), (1.0, [2, 1, 0, 3]), (10.0, [3, 2, 1, 0])])
def test_the_weight_of_the_selection_loss_says_how_hard_those_are_that_stay(weight, order):
    levels = torch.tensor([0.1, 0.5, 1.0, 4.0])  # 0.33, 0.57, 1, 3.9; 2.4, 1.2, 1, 2.6; 23, 7.4, 1, -9.9
    losses = levels.repeat_interleave(N // 4)
    pruner = make_pruner(0.7, loss_scale="none", selection_weight=weight)
    run(pruner, losses + 1e-3 * torch.rand(N))
    logits = pruner.mask.logits.reshape(4, -1).mean(dim=1)
    assert logits.argsort(descending=True).tolist() == order


@pytest.mark.parametrize("weight", [0.0, -1.0, math.inf, math.nan])
def test_weights_of_the_selection_loss_that_cannot_work_are_refused(weight):
    with pytest.raises(ValueError, match="selection_weight is a number above 0"):
        Objective(selection_weight=weight)


def test_a_pruned_sample_comes_back_when_the_model_forgets_it():
    losses = torch.linspace(0.8, 1.2, N)
    losses[:80] = torch.linspace(0.01, 0.02, 80)
    pruner = make_pruner(0.8)
    early_end = int(0.4 * STEPS)
    was_pruned = False
    for step, index in enumerate(batches(0)):
        if step == early_end:
            was_pruned = not pruner.mask.hard()[0]
            losses[0], losses[100:200] = 1.0, torch.linspace(0.1, 0.12, 100)
        pruner.update(index, losses[index])
    assert was_pruned and pruner.finish()[0]


def test_how_many_came_back_is_counted_at_the_end_of_each_epoch():
    losses, rng = sample_losses(), torch.Generator().manual_seed(3)
    # Held by a penalty, the number kept varies: by projection as many come back as go.
    pruner, kept, counts = make_pruner(0.7, ratio_control="penalty"), [], []
    for step, index in enumerate(batches(0)):
        pruner.update(index, losses[index] * torch.exp(0.5 * torch.randn(len(index), generator=rng)))
        if (step + 1) % (N // BATCH) == 0 and not pruner.warming_up and step >= STEPS // 5 + N // BATCH - 1:
            kept.append(pruner.mask.hard())
            counts.append(pruner.num_came_back)
    assert counts == [0] + [int((now & ~before).sum()) for before, now in zip(kept, kept[1:])]
    assert max(counts) > 0


def test_warm_up_weighs_everything_the_same_and_moves_nothing():
    pruner = make_pruner(warmup=20)
    losses = sample_losses()
    for step, index in enumerate(batches(0)):
        if step == 20:
            break
        assert torch.equal(pruner.weights(index), torch.ones(len(index)))
        pruner.update(index, losses[index])
    assert torch.equal(pruner.mask.logits, Mask(N).logits)
    assert not pruner.warming_up
    torch.testing.assert_close(
        pruner.weights(torch.tensor([0])), torch.sigmoid(torch.tensor([0.1]))
    )


def test_alpha_rises_once_an_epoch_from_first_to_last_value():
    pruner = make_pruner(warmup=0)
    losses = sample_losses()
    alphas = []
    for index in batches(0):
        alphas.append(pruner.alpha)
        pruner.update(index, losses[index])
    by_epoch = [alphas[i : i + N // BATCH] for i in range(0, STEPS, N // BATCH)]
    assert all(len(set(epoch)) == 1 for epoch in by_epoch)
    steps = [b[0] - a[0] for a, b in zip(by_epoch, by_epoch[1:])]
    assert by_epoch[0][0] == 0.1 and math.isclose(by_epoch[-1][0], 5.0)
    assert all(math.isclose(step, 4.9 / (EPOCHS - 1)) for step in steps)


def test_lambda_is_equation_7():
    pruner = make_pruner(0.75)
    assert math.isclose(pruner.compression_weight, 100 * 0.25)


def test_a_penalty_that_misses_the_ratio_ends_in_an_error():
    with pytest.raises(RatioNotReachedError, match="asked for were 0.700.*projection"):
        run(make_pruner(0.7, ratio_control="penalty"), sample_losses())


def test_samples_that_cannot_be_told_apart_end_in_an_error():
    pruner = AdaPruner(10, 0.5, 40)
    everything = torch.arange(10)
    for _ in range(40):
        pruner.update(everything, torch.ones(10))
    with pytest.raises(RatioNotReachedError, match="same mask logit"):
        pruner.finish()


def test_pruning_that_never_saw_everything_ends_in_an_error():
    pruner = AdaPruner(N, 0.8, 3)
    for index in list(batches(0))[:3]:
        pruner.update(index, torch.ones(len(index)))
    with pytest.raises(RatioNotReachedError, match="seen all 400 samples"):
        pruner.finish()


@pytest.mark.parametrize("off", ["classification", "selection"])
def test_a_term_switched_off_changes_who_is_pruned(off):
    losses = sample_losses()
    kept = run(make_pruner(0.7), losses)
    without = run(make_pruner(0.7, **{off: False}), losses)
    assert not torch.equal(kept, without)
    hardest_kept, easiest_kept = without[losses.argmax()], without[losses.argmin()]
    assert (hardest_kept, easiest_kept) == ((True, False) if off == "classification" else (False, True))


def test_without_compression_the_ratio_is_imposed_at_the_end_only():
    losses = sample_losses()
    pruner = make_pruner(0.7, compression=False)
    for index in batches(0):
        pruner.update(index, losses[index])
    assert abs(pruner.kept_ratio - 0.7) > 0.02
    assert abs(float(pruner.finish().float().mean()) - 0.7) <= 0.02


def test_mean_scale_makes_the_selection_free_of_the_unit_of_the_loss():
    losses = sample_losses()
    kept, kept_scaled = run(make_pruner(0.7), losses), run(make_pruner(0.7), 1000 * losses)
    assert torch.equal(kept, kept_scaled)
    unscaled = run(make_pruner(0.7, loss_scale="none"), 1000 * losses)
    assert not torch.equal(kept, unscaled)


def test_a_resumed_run_ends_with_the_same_mask():
    losses = sample_losses()
    whole, first, second = (make_pruner() for _ in range(3))
    for step, index in enumerate(batches(0)):
        whole.update(index, losses[index])
        (first if step < 217 else second).update(index, losses[index])
        if step == 216:
            second.load_state_dict(pickle.loads(pickle.dumps(first.state_dict())))
    assert torch.equal(whole.finish(), second.finish())
    assert torch.equal(whole.mask.logits, second.mask.logits)


@pytest.mark.parametrize("loss_scale", ["none", "mean", "expected", "quantile"])
def test_the_last_judgement_takes_the_place_of_what_the_visits_said(loss_scale):
    groups = torch.arange(N) % 2
    covariates = torch.stack([1 - groups, groups], dim=1)
    pruner = AdaPruner(N, 0.6, STEPS, groups=groups, num_covariates=2,
                       objective=Objective(selection=False, loss_scale=loss_scale))  # fmt: skip
    for index in batches(0):
        pruner.update(index, torch.ones(BATCH), covariates[index])
    losses = sample_losses() * (1 + 9 * groups)
    pruner.judge(losses, covariates)
    kept = pruner.finish()
    for group in (0, 1):
        own = losses[groups == group]
        assert torch.equal(kept[groups == group], own <= own.sort().values[119])  # 120 of 200


def test_a_judgement_is_brought_to_scale_by_its_own_losses(monkeypatch):
    monkeypatch.setattr("adapruner_det.pruning.adapruner._CHUNK", 7)
    losses = sample_losses()
    for unit in (1.0, 1000.0):
        pruner = make_pruner(0.7)
        for index in batches(0):
            pruner.update(index, torch.ones(BATCH))
        pruner.judge(unit * losses)
        scaled = losses / losses.mean()
        expected = -0.3 * (scaled - torch.log(scaled + 1e-5))
        torch.testing.assert_close(pruner.mask.logits, expected, rtol=1e-4, atol=1e-5)
    with pytest.raises(FloatingPointError, match=r"losses of samples \[3\]"):
        pruner.judge(losses.index_fill(0, torch.tensor([3]), math.nan))
    with pytest.raises(ValueError, match="takes ratio_control 'projection'"):
        make_pruner(ratio_control="penalty").judge(losses)


def test_resuming_with_other_settings_is_refused_with_the_setting_named():
    with pytest.raises(ValueError, match="keep_ratio was 0.8, is 0.9"):
        make_pruner(0.9).load_state_dict(make_pruner(0.8).state_dict())


def test_a_step_touches_only_the_batch(monkeypatch):
    """All N are touched in `project` alone, and that runs once an epoch."""
    projections = []
    original = Mask.project
    monkeypatch.setattr(Mask, "project", lambda self, n: (projections.append(n), original(self, n)))
    pruner = make_pruner(warmup=0)
    losses = sample_losses()
    for step, index in enumerate(batches(0)):
        before = pruner.mask.logits.clone()
        calls = len(projections)
        pruner.update(index, losses[index])
        if len(projections) == calls:
            others = torch.ones(N, dtype=torch.bool)
            others[index] = False
            assert torch.equal(pruner.mask.logits[others], before[others])
    assert len(projections) == EPOCHS


@pytest.mark.parametrize(
    "index, losses, error, message",
    [
        ([0, N], [1.0, 1.0], IndexError, "not all in"),
        ([0, -1], [1.0, 1.0], IndexError, "not all in"),
        ([0, 5], [1.0, float("nan")], FloatingPointError, r"\[5\] are not finite"),
        ([0, 5], [1.0, -2.0], ValueError, r"\[5\] are negative"),
        ([0, 5], [1.0], ValueError, "one loss a sample"),
    ],
)
def test_bad_input_is_refused_and_moves_nothing(index, losses, error, message):
    pruner = make_pruner(warmup=0)
    with pytest.raises(error, match=message):
        pruner.update(torch.tensor(index), torch.tensor(losses))
    assert torch.equal(pruner.mask.logits, Mask(N).logits) and pruner.step == 0


@pytest.mark.parametrize(
    "arguments, message",
    [
        (dict(num_samples=1), "too few"),
        (dict(keep_ratio=1.0), "keep_ratio"),
        (dict(keep_ratio=0.0), "keep_ratio"),
        (dict(warmup_steps=100), "leaves nothing"),
        (dict(alpha=(5.0, 0.1)), "alpha"),
    ],
)
def test_settings_that_cannot_work_are_refused(arguments, message):
    settings = {"num_samples": 10, "keep_ratio": 0.5, "total_steps": 100, **arguments}
    with pytest.raises(ValueError, match=message):
        AdaPruner(**settings)


def test_unknown_ratio_control_names_the_known_ones():
    with pytest.raises(ValueError, match="'projection' or 'penalty'"):
        Objective(ratio_control="hope")


def test_schedule_with_less_than_an_epoch_left_ends_at_the_last_alpha():
    assert Schedule(10, 0).alpha(5, steps_per_epoch=20) == 5.0


def classes(num=N):
    """Four classes of very unequal size; the losses of the last are the lowest by far."""
    groups = torch.zeros(num, dtype=torch.long)
    groups[num // 2 : num - 21] = 1
    groups[num - 21 : num - 1] = 2
    groups[num - 1] = 3
    losses = sample_losses(num) * torch.tensor([1.0, 2.0, 0.05, 0.01])[groups]
    return groups, losses


def run_with(groups, losses, keep_ratio=0.6, **objective):
    pruner = AdaPruner(
        N, keep_ratio, STEPS, warmup_steps=STEPS // 5, groups=groups, objective=Objective(**objective)
    )
    return pruner, run(pruner, losses)


@pytest.mark.parametrize("compression", [True, False])
def test_every_class_is_held_to_the_ratio(compression):
    groups, losses = classes()
    _, free = run_with(None, losses, compression=compression)
    assert int(free[groups == 2].sum()) < 6  # unbalanced, the easy class is pruned away
    pruner, kept = run_with(groups, losses, compression=compression)
    assert torch.bincount(groups[kept]).tolist() == [120, 107, 12, 1]
    assert int(kept.sum()) == 240 and pruner.kept_ratio == 0.6


def test_within_a_class_the_order_is_that_of_the_method():
    groups, losses = classes()
    losses = torch.where(groups == 2, torch.linspace(0.001, 0.02, N), losses)
    _, kept = run_with(groups, losses)
    assert losses[(groups == 2) & kept].min() > losses[(groups == 2) & ~kept].max()


def test_visits_do_not_decide_inside_a_class_whose_losses_lie_apart():
    """The multiplier is the class's own mean force, not that of all samples."""
    groups = torch.arange(N) % 2
    losses = torch.where(groups == 0, 1.0, 1e-4) * torch.linspace(0.9, 1.1, N)
    pruner = AdaPruner(N, 0.5, STEPS, groups=groups, alpha=(1.0, 1.0))
    for index in torch.arange(N).split(BATCH):
        pruner.update(index, losses[index])
    before = pruner.mask.logits.clone()
    middle = torch.arange(N // 2 - 4, N // 2 + 4)
    pruner.update(middle, losses[middle])
    moved = (pruner.mask.logits - before)[middle]
    # Their forces lie 3.5 above and below the mean of all, but near that of their own class.
    assert float(moved.abs().max()) < 0.02


def test_groups_of_one_change_nothing_to_the_last_bit():
    losses = sample_losses()
    plain, grouped = make_pruner(0.7), AdaPruner(
        N, 0.7, STEPS, warmup_steps=STEPS // 5, groups=torch.zeros(N, dtype=torch.long)
    )
    for index in batches(0):
        plain.update(index, losses[index])
        grouped.update(index, losses[index])
    assert torch.equal(plain.finish(), grouped.finish())
    torch.testing.assert_close(plain.mask.logits, grouped.mask.logits, rtol=1e-5, atol=1e-5)


def test_a_balanced_run_resumes_with_the_same_mask_and_refuses_other_groups():
    groups, losses = classes()
    make = lambda g: AdaPruner(N, 0.6, STEPS, groups=g)  # noqa: E731
    whole, first, second = make(groups), make(groups), make(groups)
    for step, index in enumerate(batches(0)):
        whole.update(index, losses[index])
        (first if step < 217 else second).update(index, losses[index])
        if step == 216:
            state = pickle.loads(pickle.dumps(first.state_dict()))
            second.load_state_dict(state)
    assert torch.equal(whole.mask.logits, second.mask.logits)
    for other in (None, groups.flip(0)):
        with pytest.raises(ValueError, match="other groups"):
            make(other).load_state_dict(state)
    assert torch.equal(whole.finish(), second.finish())


def test_a_class_whose_samples_cannot_be_told_apart_is_named():
    groups = torch.arange(20) % 2
    losses = torch.where(groups == 0, torch.linspace(0.1, 2.0, 20), torch.ones(20))
    pruner = AdaPruner(20, 0.5, 40, groups=groups)
    for _ in range(40):
        pruner.update(torch.arange(20), losses)
    with pytest.raises(RatioNotReachedError, match=r"1 groups, such as 1 \((0|10) of 10\)"):
        pruner.finish()


@pytest.mark.parametrize(
    "arguments, message",
    [
        (dict(groups=torch.arange(10)), "10 groups cannot each keep"),
        (dict(groups=torch.zeros(9, dtype=torch.long)), "one integer a sample"),
        (
            dict(groups=torch.arange(10) % 2, objective=Objective(ratio_control="penalty")),
            "projection",
        ),
        (dict(mask=Mask(11)), "11 samples, not for 10"),
        (dict(mask=Mask(10), groups=torch.arange(10) % 2), "give the groups to the mask"),
    ],
)
def test_groups_and_masks_that_cannot_work_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        AdaPruner(10, 0.5, 100, **arguments)
