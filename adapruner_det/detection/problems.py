"""Stands in data/problems.py, as both tasks need it: import it from there."""
from ..data.problems import *  # noqa: F401,F403
