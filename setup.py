"""All that is to say about the package is in pyproject.toml."""

from setuptools import setup

setup()
