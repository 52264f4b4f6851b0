#!/usr/bin/env python
"""Prunes, trains and evaluates detectors and classifiers: `--help` shows the options."""

from adapruner_det.commands.train_net import main

if __name__ == "__main__":
    main()
