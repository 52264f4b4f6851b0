"""Detection on top of `pruning`: importing this package registers its models with Detectron2."""

from .efficientnet_lite import EfficientNetLite
from .yolov3_tiny import YOLOv3Tiny

__all__ = ["EfficientNetLite", "YOLOv3Tiny"]
