#!/usr/bin/env python
"""Compares models trained on everything, on AdaPruner's selection, and on other methods': see `--help`."""

from adapruner_det.commands.compare import main

if __name__ == "__main__":
    main()
