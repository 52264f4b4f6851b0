import math
import pickle
from pathlib import Path

import pytest
import torch
from adapruner_det.pruning.schedule import Schedule

from adapruner_det.pruning import AdaPruner, Objective, RatioNotReachedError
from adapruner_det.pruning.mask import Mask

N = 400
EPOCHS = 10
BATCH = 8
STEPS = EPOCHS * N // BATCH


def sample_losses(num=N):
    """Losses spread widely, so that the order of a pass cannot decide who goes."""
    return torch.logspace(-2, 1, num)[torch.randperm(num, generator=torch.Generator().manual_seed(9))]


def make_pruner(keep_ratio=0.8, num=N, warmup=STEPS // 5, **objective):
    return AdaPruner(num, keep_ratio, STEPS, warmup_steps=warmup, objective=Objective(**objective))


def batches(seed, num=N, epochs=EPOCHS):
    generator = torch.Generator().manual_seed(seed)
    for _ in range(epochs):
        yield from torch.randperm(num, generator=generator).split(BATCH)


def run(pruner, losses, seed=0):
    for index in batches(seed):
        pruner.update(index, losses[index])
    return pruner.finish()


def test_the_loop_of_the_readme_runs_and_keeps_the_ratio():
    readme = (Path(__file__).resolve().parents[2] / "README.md").read_text()
    code = readme.split("In any PyTorch loop, without Detectron2:\n\n```python\n")[1].split("```")[0].splitlines()
    imported, made, weighted, updated, finished = filter(None, code)
    model, dataset, device = torch.nn.Linear(3, 2), torch.randn(40, 3), "cpu"
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    names = dict(dataset=dataset, device=device, steps=50)
    exec(f"{imported}\n{made}", names)
    for index in torch.arange(40).repeat(10).split(8):
        names |= dict(index=index)
        names["per_sample_loss"] = torch.nn.functional.cross_entropy(model(dataset[index]), index % 2, reduction="none")
        exec(weighted, names)
        optimizer.zero_grad()
        names["loss"].backward()
        optimizer.step()
        exec(updated, names)
    exec(finished, names)
    assert names["kept"].dtype == torch.bool and int(names["kept"].sum()) == 36


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


@pytest.mark.parametrize("name", ["selection_weight", "learning_rate", "compression_scale"])
@pytest.mark.parametrize("value", [0.0, -1.0, math.inf, math.nan])
def test_factors_that_cannot_work_are_refused(name, value):
    with pytest.raises(ValueError, match=f"{name} is a number above 0"):
        Objective(**{name: value})


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
    torch.testing.assert_close(pruner.weights(torch.tensor([0])), torch.sigmoid(torch.tensor([0.1])))


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


def test_samples_that_cannot_be_told_apart_are_drawn_from():
    pruner = AdaPruner(10, 0.5, 40)
    everything = torch.arange(10)
    for _ in range(40):
        pruner.update(everything, torch.ones(10))
    assert int(pruner.finish().sum()) == 5 and pruner.num_tied == 10


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
        (dict(keep_ratio=0.96), "0.96 of 10 samples is all of them: use a ratio from 0.1 to 0.9, or more"),
        (dict(keep_ratio=0.04), "0.04 of 10 samples is none of them"),
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


def test_epochs_end_where_the_loaders_do_whenever_the_warm_up_ends():
    pruner = AdaPruner(N, 0.8, STEPS, warmup_steps=130)
    ends = []
    for step, index in enumerate(batches(0)):
        alpha = pruner.alpha
        pruner.update(index, torch.ones(BATCH))
        ends += [step + 1] if pruner.alpha != alpha else []
    assert ends == list(range(150, 451, 50))


def test_what_a_batch_takes_of_the_next_epoch_counts_there():
    pruner, ends = AdaPruner(10, 0.5, 100), []
    for step in range(20):
        alpha = pruner.alpha
        pruner.update(torch.arange(4), torch.ones(4))
        ends += [step + 1] if pruner.alpha != alpha else []
    assert ends == [3, 5, 8, 10, 13, 15, 18, 20]


def test_schedule_with_less_than_an_epoch_left_ends_at_the_last_alpha():
    assert Schedule(10, 0).alpha(5, steps_per_epoch=20) == 5.0
