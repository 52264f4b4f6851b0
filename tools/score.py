#!/usr/bin/env python
"""Selects images by one of the other pruning methods: `--help` shows the options."""

from adapruner_det.commands.score import main

if __name__ == "__main__":
    main()
