"""AdaPruner for Detectron2: learn which training images a detector can do without."""

import warnings
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .api import Selection, prune

__all__ = ["Selection", "prune"]
__version__ = "0.2.1"

# Detectron2 scripts two functions while it is imported, which recent torch calls deprecated: nothing
# that a user of this package could act on.
warnings.filterwarnings("ignore", message=".torch.jit.script. is deprecated", category=FutureWarning)


def __getattr__(name: str) -> Any:
    """`prune` and `Selection` take torch, which is imported when they are first asked for."""
    if name in __all__:
        from . import api

        return getattr(api, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
