"""What each command does; `adapruner_det.cli` and tools/*.py call their mains."""

import os
import sys
from pathlib import Path

if not sys.stderr.isatty():
    os.environ.setdefault("TQDM_DISABLE", "1")  # its bars would fill a file with carriage returns


def program() -> str:
    """What the user has called, for messages: `adapruner prune`, or a tool such as `train_net.py`."""
    return Path(sys.argv[0]).name
