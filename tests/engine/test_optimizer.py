import pytest
import torch
from detectron2.config import get_cfg
from torch import nn

from adapruner_det.engine import AdaPrunerTrainer, add_adapruner_config

build_optimizer = AdaPrunerTrainer.build_optimizer


def config(name):
    cfg = get_cfg()
    add_adapruner_config(cfg)
    cfg.SOLVER.OPTIMIZER = name or cfg.SOLVER.OPTIMIZER
    cfg.SOLVER.BASE_LR, cfg.SOLVER.WEIGHT_DECAY = 0.001, 0.05
    return cfg


def test_sgd_is_the_default_and_others_are_refused():
    assert isinstance(build_optimizer(config(None), nn.Linear(2, 1)), torch.optim.SGD)
    with pytest.raises(ValueError, match="SOLVER.OPTIMIZER is 'Adam'; it can be 'SGD' or 'AdamW'"):
        build_optimizer(config("Adam"), nn.Linear(2, 1))


def test_adamw_takes_detectron2s_groups():
    """A norm's weight has a weight decay of its own, and Detectron2's is zero."""
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4))
    optimizer = build_optimizer(config("AdamW"), model)
    assert isinstance(optimizer, torch.optim.AdamW)
    decay = {id(p): group["weight_decay"] for group in optimizer.param_groups for p in group["params"]}
    assert decay[id(model[0].weight)] == 0.05 and decay[id(model[1].weight)] == 0
    assert {group["lr"] for group in optimizer.param_groups} == {0.001}


@pytest.mark.parametrize("clip", [False, True])
def test_adamw_clips_gradients_if_asked_to(clip):
    model = nn.Linear(2, 1)
    cfg = config("AdamW")
    cfg.SOLVER.CLIP_GRADIENTS.ENABLED = clip
    cfg.SOLVER.CLIP_GRADIENTS.CLIP_TYPE, cfg.SOLVER.CLIP_GRADIENTS.CLIP_VALUE = "norm", 1.0
    optimizer = build_optimizer(cfg, model)
    (1000 * model(torch.ones(1, 2))).sum().backward()
    optimizer.step()
    assert (model.weight.grad.norm() < 1.01) == clip
