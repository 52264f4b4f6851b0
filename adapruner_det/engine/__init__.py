"""Detectron2's training loop with AdaPruner in it."""

from ..garbage import without_garbage_collection

with without_garbage_collection():  # which takes a quarter of the imports' time
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
