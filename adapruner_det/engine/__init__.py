"""Detectron2's training loop with AdaPruner in it."""

from .config import add_adapruner_config
from .hooks import AdaPrunerHook
from .setup import load_config, setup
from .trainer import AdaPrunerTrainer

__all__ = [
    "AdaPrunerHook",
    "AdaPrunerTrainer",
    "add_adapruner_config",
    "load_config",
    "setup",
]
