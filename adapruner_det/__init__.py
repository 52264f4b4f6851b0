"""AdaPruner for Detectron2: learn which training images a detector can do without."""

import logging
import warnings
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .api import Selection, prune

__all__ = ["Selection", "prune"]
__version__ = "0.2.1"

# What recent torch says of Detectron2's code, on the console: nothing that a user of this package could act on.
warnings.filterwarnings("ignore", message=".torch.jit.script. is deprecated", category=FutureWarning)
warnings.filterwarnings("ignore", message="torch.meshgrid: in an upcoming release", category=UserWarning)
logging.getLogger("torch.fx._symbolic_trace").addFilter(lambda record: "is_fx_tracing will" not in record.getMessage())


def __getattr__(name: str) -> Any:
    """`prune` and `Selection` take torch, which is imported when they are first asked for."""
    if name in __all__:
        from . import api

        return getattr(api, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
