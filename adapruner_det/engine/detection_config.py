"""Config keys of the detectors this package adds to Detectron2."""

from detectron2.config import CfgNode


def add_yolov3_tiny_config(cfg: CfgNode) -> None:
    """Adds the node ``MODEL.YOLO``, read by :class:`YOLOv3Tiny`, to a Detectron2 config.

    The defaults are those of darknet's ``yolov3-tiny.cfg`` where it has them.

    Args:
        cfg: changed in place.
    """
    cfg.MODEL.YOLO = CfgNode()
    # Number of foreground classes.
    cfg.MODEL.YOLO.NUM_CLASSES = 80
    # The backbone's two maps to detect on, fine one first; the coarse one has twice its stride.
    # A ResNet has to list them in MODEL.RESNETS.OUT_FEATURES too.
    cfg.MODEL.YOLO.IN_FEATURES = ["res4", "res5"]
    # (width, height) of every anchor, in pixels of the network's input: made for inputs of 416,
    # and to be scaled with the input size or replaced by k-means centres of the training boxes.
    cfg.MODEL.YOLO.ANCHORS = [[10, 14], [23, 27], [37, 58], [81, 82], [135, 169], [344, 319]]
    # For each of IN_FEATURES, which of ANCHORS it predicts.
    cfg.MODEL.YOLO.ANCHOR_MASK = [[0, 1, 2], [3, 4, 5]]
    # A prediction that overlaps any ground truth by more than this IoU, and is assigned to none,
    # is not taught to be background. Darknet has 0.5 in yolov3-voc.cfg.
    cfg.MODEL.YOLO.IGNORE_THRESHOLD = 0.7
    # Norm of the neck's convolutions, see detectron2.layers.get_norm.
    cfg.MODEL.YOLO.NORM = "BN"
    # Objectness that every prediction starts training with. Darknet starts at 0.5, where the
    # thousands of background cells outweigh the boxes for many iterations; a small prior as in
    # RetinaNet is what makes training from random initialisation quick.
    cfg.MODEL.YOLO.PRIOR_PROB = 0.01
    # Lowest objectness x class probability of a detection. The number of detections of an image
    # is limited by TEST.DETECTIONS_PER_IMAGE.
    cfg.MODEL.YOLO.SCORE_THRESH_TEST = 0.01
    # IoU above which the lower-scoring of two boxes of one class goes.
    cfg.MODEL.YOLO.NMS_THRESH_TEST = 0.45


def add_efficientnet_lite_config(cfg: CfgNode) -> None:
    """Adds the node ``MODEL.EFFICIENTNET_LITE``, read by the backbones of `efficientnet_lite`.

    Args:
        cfg: changed in place.
    """
    cfg.MODEL.EFFICIENTNET_LITE = CfgNode()
    # Start from the weights of ImageNet that the extra `pretrained` brings. They want INPUT.FORMAT RGB,
    # MODEL.PIXEL_MEAN [127, 127, 127] and MODEL.PIXEL_STD [128, 128, 128]. MODEL.WEIGHTS wins over them.
    cfg.MODEL.EFFICIENTNET_LITE.PRETRAINED = True
    # The maps that are put out, of res2 to res5 with strides 4, 8, 16 and 32.
    cfg.MODEL.EFFICIENTNET_LITE.OUT_FEATURES = ["res4", "res5"]
