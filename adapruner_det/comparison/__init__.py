"""Pruning methods side by side: the same detectors on everything, on a selection, on a random one."""
