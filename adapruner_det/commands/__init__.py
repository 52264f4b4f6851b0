"""What each command does; `adapruner_det.cli` and tools/*.py call their mains."""

import sys
from pathlib import Path


def program() -> str:
    """What the user has called, for messages: `adapruner prune`, or a tool such as `train_net.py`."""
    return Path(sys.argv[0]).name
