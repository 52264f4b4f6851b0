"""Pruning methods side by side: the same models on everything, on a selection, on a random one."""
