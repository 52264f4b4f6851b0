import math
import pickle
from pathlib import Path

import pytest
import torch

from adapruner_det.pruning import AdaPruner, Objective, RatioNotReachedError
from adapruner_det.pruning.mask import Mask

N = 400
EPOCHS = 10
BATCH = 8
STEPS = EPOCHS * N // BATCH


def sample_losses():
    """Losses spread widely, so that the order of a pass cannot decide who goes."""
    return torch.logspace(-2, 1, N)[torch.randperm(N, generator=torch.Generator().manual_seed(9))]


def make_pruner(keep_ratio=0.8, warmup=STEPS // 5, num_classes=0, **objective):
    return AdaPruner(
        N, keep_ratio, STEPS, warmup_steps=warmup, objective=Objective(**objective), num_classes=num_classes
    )


def batches(seed=0):
    generator = torch.Generator().manual_seed(seed)
    for _ in range(EPOCHS):
        yield from torch.randperm(N, generator=generator).split(BATCH)


def run(pruner, losses, counts=None, seed=0):
    for index in batches(seed):
        pruner.update(index, losses[index], None if counts is None else counts[index])
    return pruner.finish()


def test_the_loop_of_the_readme_runs_and_keeps_the_ratio():
    readme = (Path(__file__).resolve().parents[2] / "README.md").read_text()
    code = readme.split("In any PyTorch loop, without Detectron2:\n\n```python\n")[1].split("```")[0].splitlines()
    imported, made, weighted, updated, finished = filter(None, code)
    model, dataset = torch.nn.Linear(3, 2), torch.randn(40, 3)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    names = dict(dataset=dataset, device="cpu", steps=50)
    exec(f"{imported}\n{made}", names)
    for index in torch.arange(40).repeat(10).split(8):
        names["index"] = index
        names["per_sample_loss"] = torch.nn.functional.cross_entropy(model(dataset[index]), index % 2, reduction="none")
        exec(weighted, names)
        optimizer.zero_grad()
        names["loss"].backward()
        optimizer.step()
        exec(updated, names)
    exec(finished, names)
    assert names["kept"].dtype == torch.bool and int(names["kept"].sum()) == 36


@pytest.mark.parametrize("keep_ratio", [0.5, 0.8, 0.95])
def test_ratio_asked_for_is_the_ratio_reached(keep_ratio):
    assert int(run(make_pruner(keep_ratio), sample_losses()).sum()) == N * keep_ratio


def test_neither_the_order_of_the_loader_nor_numbers_decide_who_is_pruned():
    losses = sample_losses()
    kept = run(make_pruner(0.7), losses)
    assert int((kept != run(make_pruner(0.7), losses, seed=1)).sum()) <= N // 100
    renumbered = torch.randperm(N, generator=torch.Generator().manual_seed(5))
    pruner = make_pruner(0.7)
    for index in batches():
        pruner.update(renumbered[index], losses[index])
    assert torch.equal(pruner.finish()[renumbered], kept)


@pytest.mark.parametrize("weight, order", [(0.1, [0, 1, 2, 3]), (1.0, [2, 1, 0, 3]), (10.0, [3, 2, 1, 0])])
def test_the_weight_of_the_selection_loss_says_how_hard_those_are_that_stay(weight, order):
    levels = torch.tensor([0.1, 0.5, 1.0, 4.0])  # 0.33, 0.57, 1, 3.9; 2.4, 1.2, 1, 2.6; 23, 7.4, 1, -9.9
    pruner = make_pruner(0.7, loss_scale="none", selection_weight=weight)
    run(pruner, levels.repeat_interleave(N // 4) + 1e-3 * torch.rand(N))
    assert pruner.mask.logits.reshape(4, -1).mean(dim=1).argsort(descending=True).tolist() == order


def test_a_pruned_sample_comes_back_when_the_model_forgets_it():
    losses = torch.linspace(0.8, 1.2, N)
    losses[:80] = torch.linspace(0.01, 0.02, 80)
    pruner = make_pruner(0.8)
    for step, index in enumerate(batches()):
        if step == int(0.4 * STEPS):
            assert not pruner.mask.hard()[0]
            losses[0], losses[100:200] = 1.0, torch.linspace(0.1, 0.12, 100)
        pruner.update(index, losses[index])
    assert pruner.finish()[0]


def test_warm_up_weighs_everything_the_same_and_moves_nothing():
    pruner, losses = make_pruner(warmup=20), sample_losses()
    for index in list(batches())[:20]:
        assert torch.equal(pruner.weights(index), torch.ones(len(index)))
        pruner.update(index, losses[index])
    assert torch.equal(pruner.mask.logits, Mask(N).logits) and not pruner.warming_up
    torch.testing.assert_close(pruner.weights(torch.tensor([0])), torch.sigmoid(torch.tensor([0.1])))


def alphas_of(pruner, steps):
    """(alpha at the first step, [(step after which it changed, to what)])."""
    first, changes = pruner.alpha, []
    for index in steps:
        before = pruner.alpha
        pruner.update(index, torch.ones(len(index)))
        changes += [(pruner.step, pruner.alpha)] if pruner.alpha != before else []
    return first, changes


def test_alpha_rises_once_an_epoch_from_first_to_last_value():
    first, changes = alphas_of(make_pruner(warmup=0), batches())
    assert first == 0.1 and [step for step, _ in changes] == list(range(50, 451, 50))
    assert [alpha for _, alpha in changes] == pytest.approx([0.1 + 4.9 * i / 9 for i in range(1, 10)])


def test_epochs_end_where_the_loaders_do_whenever_the_warm_up_ends():
    _, changes = alphas_of(make_pruner(warmup=130), batches())
    assert [step for step, _ in changes] == list(range(150, 451, 50))
    _, changes = alphas_of(AdaPruner(10, 0.5, 100), [torch.arange(4)] * 20)
    assert [step for step, _ in changes] == [3, 5, 8, 10, 13, 15, 18, 20]  # what is left of a batch counts for the next
    assert alphas_of(AdaPruner(20, 0.5, 30, warmup_steps=15), [torch.arange(20)] * 16)[1][-1][1] == pytest.approx(
        0.1 + 4.9 / 14
    )


def test_pruning_that_never_saw_everything_ends_in_an_error():
    pruner = AdaPruner(N, 0.8, 3)
    for index in list(batches())[:3]:
        pruner.update(index, torch.ones(len(index)))
    with pytest.raises(RatioNotReachedError, match="seen all 400 samples"):
        pruner.finish()


@pytest.mark.parametrize("off, hardest_and_easiest", [("classification", (True, False)), ("selection", (False, True))])
def test_a_term_switched_off_changes_who_is_pruned(off, hardest_and_easiest):
    losses = sample_losses()
    kept = run(make_pruner(0.7, **{off: False}), losses)
    assert (kept[losses.argmax()], kept[losses.argmin()]) == hardest_and_easiest


def test_without_compression_the_ratio_is_imposed_at_the_end_only():
    losses, pruner = sample_losses(), make_pruner(0.7, compression=False)
    for index in batches():
        pruner.update(index, losses[index])
    assert abs(pruner.kept_ratio - 0.7) > 0.02
    assert int(pruner.finish().sum()) == 0.7 * N


def test_mean_scale_makes_the_selection_free_of_the_unit_of_the_loss():
    losses = sample_losses()
    kept = run(make_pruner(0.7), losses)
    assert torch.equal(kept, run(make_pruner(0.7), 1000 * losses))
    assert not torch.equal(kept, run(make_pruner(0.7, loss_scale="none"), 1000 * losses))


@pytest.mark.parametrize("loss_scale", ["mean", "expected"])
def test_a_resumed_run_ends_with_the_same_mask(loss_scale):
    losses, counts = sample_losses(), torch.arange(N)[:, None] % 3
    whole, first, second = (make_pruner(loss_scale=loss_scale, num_classes=1) for _ in range(3))
    for step, index in enumerate(batches()):
        whole.update(index, losses[index], counts[index])
        (first if step < 217 else second).update(index, losses[index], counts[index])
        if step == 216:
            second.load_state_dict(pickle.loads(pickle.dumps(first.state_dict())))
    assert torch.equal(whole.finish(), second.finish()) and torch.equal(whole.mask.logits, second.mask.logits)


def test_resuming_with_other_settings_is_refused_with_the_setting_named():
    with pytest.raises(ValueError, match="keep_ratio was 0.8, is 0.9"):
        make_pruner(0.9).load_state_dict(make_pruner(0.8).state_dict())


def test_a_step_touches_only_the_batch(monkeypatch):
    """All N are touched in `project` alone, and that runs once an epoch."""
    projections, project = [], Mask.project
    monkeypatch.setattr(Mask, "project", lambda self, n: (projections.append(n), project(self, n)))
    pruner, losses = make_pruner(warmup=0), sample_losses()
    for index in batches():
        before, calls = pruner.mask.logits.clone(), len(projections)
        pruner.update(index, losses[index])
        if len(projections) == calls:
            rest = torch.ones(N, dtype=torch.bool)
            rest[index] = False
            assert torch.equal(pruner.mask.logits[rest], before[rest])
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
        (dict(num_samples=7, keep_ratio=0.95), "0.95 of 7 samples is all of them: use a ratio from 0.14 to 0.857143"),
        (dict(num_samples=2, keep_ratio=0.8), "0.8 of 2 samples is all of them: use a ratio from 0.5 to 0.5, or more"),
        (dict(num_samples=30, keep_ratio=0.999), "0.999 of 30 samples is all of them"),
        (dict(warmup_steps=100), "leaves nothing"),
        (dict(alpha=(5.0, 0.1)), "alpha"),
    ],
)
def test_settings_that_cannot_work_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        AdaPruner(**{"num_samples": 10, "keep_ratio": 0.5, "total_steps": 100, **arguments})


@pytest.mark.parametrize("name", ["selection_weight", "learning_rate", "compression_scale"])
@pytest.mark.parametrize("value", [0.0, -1.0, math.inf, math.nan])
def test_factors_that_cannot_work_are_refused(name, value):
    with pytest.raises(ValueError, match=f"{name} is a number above 0"):
        Objective(**{name: value})


def test_unknown_ratio_control_names_the_known_ones():
    with pytest.raises(ValueError, match="'projection' or 'penalty'"):
        Objective(ratio_control="hope")
