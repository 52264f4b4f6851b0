import pytest
import torch

from adapruner_det.pruning import objective

N = 50
ALPHA = 1.7
KEEP_RATIO = 0.7


@pytest.fixture
def logits():
    return torch.randn(N, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def losses():
    return 3 * torch.rand(N, dtype=torch.float64, generator=torch.Generator().manual_seed(1)) + 0.01


def oracle_loss(logits, losses, compression_ratio, terms):
    """Eq. 4-7 written down once more, straight from the paper, for autograd to differentiate."""
    s = 1 / (1 + torch.exp(-ALPHA * logits))
    kept = float((logits > 0).double().mean())
    scale = 100 * abs(kept - KEEP_RATIO)
    loss = torch.zeros((), dtype=torch.float64)
    if "classification" in terms:
        loss = loss + sum(s[i] * losses[i] for i in range(N)) / N
    if "selection" in terms:
        loss = loss + sum(-s[i] * torch.log(losses[i] + 1e-5) for i in range(N)) / N
    if "compression" in terms:
        loss = loss + scale * (compression_ratio(s, kept) - KEEP_RATIO) ** 2
    return loss


def soft_ratio(s, kept):
    return s.sum() / N


def straight_through_ratio(s, kept):
    return s.sum() / N + (kept - s.sum() / N).detach()


def closed_form(logits, losses, ratio, terms):
    grad_soft = torch.zeros(N, dtype=torch.float64)
    if "classification" in terms:
        grad_soft += losses
    if "selection" in terms:
        grad_soft += objective.selection_cost(losses)
    if "compression" in terms:
        weight = objective.compression_weight(float((logits > 0).double().mean()), KEEP_RATIO)
        grad_soft += 2 * weight * (ratio - KEEP_RATIO)
    return objective.mask_gradient(logits, ALPHA, grad_soft) / N


ALL_TERMS = ("classification", "selection", "compression")


@pytest.mark.parametrize("terms", [ALL_TERMS, *((term,) for term in ALL_TERMS)])
@pytest.mark.parametrize("compression_ratio", [soft_ratio, straight_through_ratio])
def test_closed_form_gradient_is_autograds(logits, losses, compression_ratio, terms):
    m = logits.clone().requires_grad_()
    oracle_loss(m, losses, compression_ratio, terms).backward()
    s = objective.soft_mask(logits, ALPHA)
    ratio = float(compression_ratio(s, float((logits > 0).double().mean())))
    torch.testing.assert_close(closed_form(logits, losses, ratio, terms), m.grad, rtol=1e-10, atol=0)


def test_loss_functions_add_up_to_the_oracle(logits, losses):
    s = objective.soft_mask(logits, ALPHA)
    kept = float((logits > 0).double().mean())
    total = (
        objective.classification_loss(s, losses)
        + objective.selection_loss(s, losses)
        + objective.compression_weight(kept, KEEP_RATIO) * objective.compression_loss(s.mean(), KEEP_RATIO)
    )
    torch.testing.assert_close(total, oracle_loss(logits, losses, soft_ratio, ALL_TERMS))


def test_selection_loss_sends_no_gradient_to_the_model(logits, losses):
    losses.requires_grad_()
    loss = objective.selection_loss(objective.soft_mask(logits.requires_grad_(), ALPHA), losses)
    loss.backward()
    assert losses.grad is None


def test_a_loss_of_zero_costs_a_finite_price():
    assert torch.isfinite(objective.selection_cost(torch.zeros(1))).all()
