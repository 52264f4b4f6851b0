#!/usr/bin/env python
"""The main job on the embedded demo set: `--help` says more. `make demo` runs it."""

from adapruner_det.commands.demo import main

if __name__ == "__main__":
    main()
