"""AdaPruner for Detectron2: learn which training images a detector can do without."""

import warnings

__version__ = "0.1.0"

# Detectron2 scripts two functions while it is imported, which recent torch calls deprecated: nothing
# that a user of this package could act on.
warnings.filterwarnings("ignore", message=".torch.jit.script. is deprecated", category=FutureWarning)
