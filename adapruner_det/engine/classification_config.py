"""Config keys of image classification."""

from detectron2.config import CfgNode


def add_classification_config(cfg: CfgNode) -> None:
    """Adds the node ``MODEL.CLASSIFIER``, and keys to ``INPUT``, in place.

    INPUT.RANDOM_FLIP is Detectron2's own: "horizontal", or "none".
    """
    cfg.MODEL.CLASSIFIER = CfgNode()
    # "small_resnet", made for CPUs, or the name of any ResNet of torchvision.
    cfg.MODEL.CLASSIFIER.NAME = "resnet18"
    # "cifar" (3x3 convolution, stride 1) or "imagenet" (7x7, stride 2, then max-pooling); small_resnet
    # has its own.
    cfg.MODEL.CLASSIFIER.STEM = "cifar"
    # Set to that of the data sets by the command line.
    cfg.MODEL.CLASSIFIER.NUM_CLASSES = 10
    # Weights of torchvision to start from, such as "IMAGENET1K_V2", which are downloaded if need be.
    # Weights of one's own go into MODEL.WEIGHTS.
    cfg.MODEL.CLASSIFIER.PRETRAINED = ""

    # Side of the (square) images in pixels; images of another size are resized.
    cfg.INPUT.IMAGE_SIZE = 32
    # Black border an image gets before a random crop of its own size is cut. 0: no crop.
    cfg.INPUT.CROP_PADDING = 4
    # Side of the square that Cutout blanks in every training image. 0: none.
    cfg.INPUT.CUTOUT = 0
