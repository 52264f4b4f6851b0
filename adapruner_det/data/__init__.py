"""Registered data sets of both tasks: their records, the order they come in, selections over them."""
