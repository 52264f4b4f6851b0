"""One step: what the model draws at random."""

import torch
from detectron2.utils import comm
from detectron2.utils.events import EventStorage
from torch import nn

from adapruner_det.engine.train_loop import MixedPrecisionTrainer


class Drawing(nn.Module):
    """Notes what it draws; its loss needs a parameter."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))
        self.drawn = []

    def forward(self, data):
        self.drawn.append(float(torch.rand(())))
        return {"loss": (self.weight**2).sum()}


def draws(start, stop, seed=3):
    model = Drawing()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    step = MixedPrecisionTrainer(model, iter(range(100)), optimizer, seed=seed)
    with EventStorage(start):
        for step.iter in range(start, stop):
            step.run_step()
    return model.drawn


def test_a_resumed_run_draws_what_an_uninterrupted_one_does():
    whole = draws(0, 6)
    torch.rand(17)  # whatever came in between
    assert draws(3, 6) == whole[3:]
    assert len(set(whole)) == 6
    assert draws(0, 6, seed=4) != whole


def test_processes_draw_differently(monkeypatch):
    first = draws(0, 3)
    monkeypatch.setattr(comm, "get_rank", lambda: 1)
    assert not set(draws(0, 3)) & set(first)


def test_without_a_seed_torchs_own_state_counts():
    torch.manual_seed(0)
    expected = [float(torch.rand(())) for _ in range(3)]
    torch.manual_seed(0)
    assert draws(0, 3, seed=None) == expected
