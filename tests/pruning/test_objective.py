import pytest
import torch

from adapruner_det.pruning import objective

N, ALPHA, KEEP_RATIO = 50, 1.7, 0.7
LOGITS = torch.randn(N, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
LOSSES = 3 * torch.rand(N, dtype=torch.float64, generator=torch.Generator().manual_seed(1)) + 0.01
KEPT = float((LOGITS > 0).double().mean())
ALL_TERMS = ("classification", "selection", "compression")


def soft_ratio(s):
    return s.sum() / N


def straight_through_ratio(s):
    return s.sum() / N + (KEPT - s.sum() / N).detach()


def oracle_loss(logits, compression_ratio, terms):
    """Eq. 4-7 written down once more, straight from the paper, for autograd to differentiate."""
    s = 1 / (1 + torch.exp(-ALPHA * logits))
    loss = torch.zeros((), dtype=torch.float64)
    if "classification" in terms:
        loss = loss + sum(s[i] * LOSSES[i] for i in range(N)) / N
    if "selection" in terms:
        loss = loss + sum(-s[i] * torch.log(LOSSES[i] + 1e-5) for i in range(N)) / N
    if "compression" in terms:
        loss = loss + 100 * abs(KEPT - KEEP_RATIO) * (compression_ratio(s) - KEEP_RATIO) ** 2
    return loss


def closed_form(ratio, terms):
    grad_soft = torch.zeros(N, dtype=torch.float64)
    if "classification" in terms:
        grad_soft += LOSSES
    if "selection" in terms:
        grad_soft += objective.selection_cost(LOSSES)
    if "compression" in terms:
        grad_soft += 2 * objective.compression_weight(KEPT, KEEP_RATIO) * (ratio - KEEP_RATIO)
    return objective.mask_gradient(LOGITS, ALPHA, grad_soft) / N


@pytest.mark.parametrize("terms", [ALL_TERMS, *((term,) for term in ALL_TERMS)])
@pytest.mark.parametrize("compression_ratio", [soft_ratio, straight_through_ratio])
def test_closed_form_gradient_is_autograds(compression_ratio, terms):
    m = LOGITS.clone().requires_grad_()
    oracle_loss(m, compression_ratio, terms).backward()
    ratio = float(compression_ratio(objective.soft_mask(LOGITS, ALPHA)))
    torch.testing.assert_close(closed_form(ratio, terms), m.grad, rtol=1e-10, atol=0)


def test_loss_functions_add_up_to_the_oracle():
    s = objective.soft_mask(LOGITS, ALPHA)
    total = (
        objective.classification_loss(s, LOSSES)
        + objective.selection_loss(s, LOSSES)
        + objective.compression_weight(KEPT, KEEP_RATIO) * objective.compression_loss(s.mean(), KEEP_RATIO)
    )
    torch.testing.assert_close(total, oracle_loss(LOGITS, soft_ratio, ALL_TERMS))


def test_selection_loss_sends_no_gradient_to_the_model_and_a_loss_of_zero_costs_a_finite_price():
    losses, logits = LOSSES.clone().requires_grad_(), LOGITS.clone().requires_grad_()
    objective.selection_loss(objective.soft_mask(logits, ALPHA), losses).backward()
    assert losses.grad is None and logits.grad is not None
    assert torch.isfinite(objective.selection_cost(torch.zeros(1))).all()
