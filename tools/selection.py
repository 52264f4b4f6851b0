#!/usr/bin/env python
"""Looks at a selection, cuts or exports it, or makes a random one: `--help` shows the subcommands."""

from adapruner_det.commands.selection import main

if __name__ == "__main__":
    main()
