"""Every config file of the tree loads and builds."""

from importlib.util import find_spec
from pathlib import Path

import pytest
from detectron2.config import get_cfg
from detectron2.modeling import build_model
from detectron2.solver import build_lr_scheduler

from adapruner_det.engine import AdaPrunerTrainer, add_adapruner_config
from adapruner_det.modeling.per_image import return_per_image_losses

CONFIGS = Path(__file__).resolve().parents[1] / "configs"
# Experiments are lists of options, no configs: tests/comparison looks at them.
FILES = sorted(path for path in CONFIGS.rglob("*.yaml") if path.parent.name != "experiments")


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(CONFIGS)))
def test_config_builds(path):
    cfg = get_cfg()
    add_adapruner_config(cfg)
    cfg.merge_from_file(str(path))
    if "efficientnet_lite" in cfg.MODEL.BACKBONE.NAME and not find_spec("efficientnet_lite_pytorch"):
        pytest.skip("the extra `pretrained` is not installed")
    model = build_model(cfg)
    optimizer = AdaPrunerTrainer.build_optimizer(cfg, model)
    build_lr_scheduler(cfg, optimizer)
    frozen = [name for name, parameter in model.named_parameters() if not parameter.requires_grad]
    assert not frozen, f"training from random initialisation must not freeze {frozen[:3]}"
    if cfg.ADAPRUNER.ENABLED:
        return_per_image_losses(model)
        assert not cfg.DATASETS.TEST, "a pruning run has no business with a test list"


def test_there_are_configs():
    assert len(FILES) > 10
