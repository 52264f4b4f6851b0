"""Image classification: importing this package registers its model with Detectron2."""

from .models import ImageClassifier

__all__ = ["ImageClassifier"]
