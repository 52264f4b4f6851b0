"""What each command does; `adapruner_det.cli` and tools/*.py call their mains."""

import argparse
import sys
from pathlib import Path
from typing import NoReturn


def program() -> str:
    """What the user has called, for messages: `adapruner prune`, or a tool such as `train_net.py`."""
    return Path(sys.argv[0]).name


class Parser(argparse.ArgumentParser):
    """Shows the text of a module as it is, and says in one line what is wrong with a command."""

    def __init__(self, **options):
        super().__init__(formatter_class=argparse.RawDescriptionHelpFormatter, **options)

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: error: {message} ({self.prog} --help shows the options)\n")
