"""Models and what they say of each image; importing this package registers the models with Detectron2."""

from .efficientnet_lite import EfficientNetLite
from .image_classifier import ImageClassifier
from .yolov3_tiny import YOLOv3Tiny

__all__ = ["EfficientNetLite", "ImageClassifier", "YOLOv3Tiny"]
