"""The keys this project adds to Detectron2's config."""

import torch
from detectron2.config import CfgNode as CN

from ..pruning.objective import COMPRESSION_SCALE
from .classification_config import add_classification_config
from .detection_config import add_efficientnet_lite_config, add_yolov3_tiny_config

PRESETS = {
    # What classification was measured with (docs/results.md); the defaults are for detection.
    "classification": {"DIFFICULTY": 0.1, "RARE_CLASSES": 0.0, "MASK.LOSS_SCALE": "mean", "MASK.SELECTION_WEIGHT": 1.0},
    # The equations as printed: the mask that moves while the model trains is the selection.
    "paper": {
        "SOLVE_AT_END": False,
        "MASK.RATIO_CONTROL": "penalty",
        "MASK.LOSS_SCALE": "none",
        "MASK.SELECTION_WEIGHT": 1.0,
        "MASK.CLASSIFICATION_LOSS": True,
        "MASK.SELECTION_LOSS": True,
        "MASK.COMPRESSION_LOSS": True,
        "MASK.COMPRESSION_SCALE": COMPRESSION_SCALE,
        "MASK.ALPHA_START": 0.1,
        "MASK.ALPHA_END": 5.0,
        "MASK.TOLERANCE": 0.02,
    },
}


_MOVED = (
    "ALPHA_START ALPHA_END TOLERANCE RATIO_CONTROL COMPRESSION_SCALE LOSS_SCALE SELECTION_WEIGHT CLASSIFICATION_LOSS "
    "SELECTION_LOSS COMPRESSION_LOSS"
).split()
# Keys that configs of former versions may have, and what to do instead.
RENAMED_OR_GONE = {
    **{f"ADAPRUNER.{key}": f"use ADAPRUNER.MASK.{key}" for key in _MOVED},
    "ADAPRUNER.MASK_LR": "use ADAPRUNER.MASK.LR",
    "ADAPRUNER.LAST_LOOK": "use ADAPRUNER.SOLVE_AT_END",
    "ADAPRUNER.REDUNDANCY": "use ADAPRUNER.LIKENESS",
    "ADAPRUNER.OUTLIER_Z": "leave it out; what counts against an image for its loss is ADAPRUNER.DOUBT (0: nothing does)",
    "ADAPRUNER.LOSS_TERMS": "leave it out: the mask goes by the sum of all terms of the loss",
    "ADAPRUNER.CLASS_BALANCE": "leave it out: classes are no longer held to the ratio while the mask learns; what favours "
    "images of rare classes is ADAPRUNER.RARE_CLASSES",
    "ADAPRUNER.LOSS_QUANTILE": "leave it out, and use ADAPRUNER.MASK.LOSS_SCALE mean or expected",
}


def without_preset(cfg: CN) -> CN:
    """A copy without the name of the preset, whose keys count themselves."""
    cfg = cfg.clone()
    cfg.defrost()
    del cfg.ADAPRUNER["PRESET"]
    return cfg


def apply_preset(cfg: CN, name: str) -> None:
    """Sets the keys of ADAPRUNER that a preset has; config files and pairs merged afterwards win.

    Raises:
        ValueError: no such preset.
    """
    if name not in PRESETS:
        raise ValueError(f"ADAPRUNER.PRESET is {name!r}; it can be {', '.join(map(repr, PRESETS))}, or empty for none")
    cfg.merge_from_list([part for key, value in PRESETS[name].items() for part in (f"ADAPRUNER.{key}", value)])


def add_adapruner_config(cfg: CN) -> None:
    """Adds the keys of adapruner_det to `cfg`, in place.

    It also sets MODEL.DEVICE to what this machine has; a config or the command line may still name
    another.
    """
    cfg.MODEL.DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
    add_yolov3_tiny_config(cfg)
    add_efficientnet_lite_config(cfg)
    add_classification_config(cfg)

    # Data sets to register before anything else: "NAME=voc:DIR:SPLIT" and other formats, as --register.
    cfg.DATASETS.REGISTER = ()
    # What to do about broken images and boxes of data sets registered here, and of Detectron2's own VOC
    # names: all of them are reported before training. "clip" cuts boxes that stick out at the border, "error" reports
    # these too; "skip_objects" and "skip_images" leave images out (datasets/README.md).
    cfg.DATASETS.ON_INVALID = "clip"
    # Folder of a selection: the data sets of DATASETS.TRAIN it covers are reduced to what it keeps.
    cfg.DATASETS.SELECTION = ""

    # Passes over the images that are trained on; sets SOLVER.MAX_ITER. 0: MAX_ITER is what it says.
    cfg.SOLVER.MAX_EPOCHS = 0.0

    # "SGD", Detectron2's, or "AdamW", which learns faster from ImageNet weights; BASE_LR and the others of SOLVER count
    # for both, MOMENTUM and NESTEROV for SGD alone.
    cfg.SOLVER.OPTIMIZER = "SGD"

    cfg.ADAPRUNER = CN()
    # Other values than those here for the keys (see PRESETS) that neither config files nor the command line
    # set. "paper": what comes closest to the equations as printed. "classification": what the configs for
    # that have. Read by engine.load_config; in Python, see `apply_preset`.
    cfg.ADAPRUNER.PRESET = ""
    # Learn a mask over the training images while the detector trains.
    cfg.ADAPRUNER.ENABLED = False
    # Share of the images that stays (c; the paper's compression ratio).
    cfg.ADAPRUNER.KEEP_RATIO = 0.9
    # Share of SOLVER.MAX_ITER that trains on everything before pruning starts. 0: no warm-up (Table 4).
    cfg.ADAPRUNER.WARMUP = 0.3
    # Images without boxes: "prune" lets them compete like any other, "keep" keeps all of them,
    # "drop" leaves all of them out; KEEP_RATIO is then a share of the others.
    # DATALOADER.FILTER_EMPTY_ANNOTATIONS counts only for training without a selection.
    cfg.ADAPRUNER.EMPTY_IMAGES = "prune"
    # When training has ended, ask the finished model about every image, and bring the mask to rest on that: E of
    # pruning/energy.py, whose terms the next five keys weigh. It takes Detectron2's backbone and preprocess_image.
    # False: the mask that moved while the model trained is the selection, and these keys do nothing.
    cfg.ADAPRUNER.SOLVE_AT_END = True
    # What counts against an image, each 0 to switch it off:
    # Eq. 4 and 5 of the finished model's loss, over what such boxes let expect.
    cfg.ADAPRUNER.DIFFICULTY = 0.0
    # Labels that the finished model is at odds with; 1 is about what a label that is clearly wrong counts.
    cfg.ADAPRUNER.DOUBT = 1.0
    # What an image counts against another of its class that is just like it; less, the less alike they are.
    cfg.ADAPRUNER.LIKENESS = 0.7
    # A lot from 0 to 1 that SEED draws for each image: between images that nothing else tells apart, chance decides.
    cfg.ADAPRUNER.CHANCE = 0.2
    # How much the draw favours images of rare classes, of which images without boxes are one: an image weighs the
    # share of images with its rarest class to the power of minus this. 1: a draw is as likely to be of one class as of
    # another, as long as there are images of both. At most 10.
    cfg.ADAPRUNER.RARE_CLASSES = 1.0

    # The mask while the model trains: it weights each image's loss (Eq. 4), and the losses move it (Eq. 5-7).
    cfg.ADAPRUNER.MASK = CN()
    # "projection" holds the ratio exactly; "penalty" is Eq. 6 and 7, with the kept ratio in Eq. 6, until the ratio
    # comes to KEEP_RATIO, where the mask then stays.
    cfg.ADAPRUNER.MASK.RATIO_CONTROL = "projection"
    # s_scale of Eq. 7, and how far the ratio reached may be from KEEP_RATIO, with a penalty.
    cfg.ADAPRUNER.MASK.COMPRESSION_SCALE = COMPRESSION_SCALE
    cfg.ADAPRUNER.MASK.TOLERANCE = 0.02
    # Scale of the sigmoid in the first and the last epoch of pruning.
    cfg.ADAPRUNER.MASK.ALPHA_START = 0.1
    cfg.ADAPRUNER.MASK.ALPHA_END = 5.0
    # Step of a logit at each visit of its image.
    cfg.ADAPRUNER.MASK.LR = 0.3
    # What per-image losses are divided by before Eq. 5: "mean" by their mean; "none" is the paper's.
    # "expected": by what images with such boxes (classification: of such a class) usually cost.
    cfg.ADAPRUNER.MASK.LOSS_SCALE = "expected"
    # w of Eq. 5's term, and of DIFFICULTY; the paper's is 1. L - w log L is smallest at L = w: the lower, the easier
    # the images that stay.
    cfg.ADAPRUNER.MASK.SELECTION_WEIGHT = 0.25
    # Which terms move the mask (Table 5).
    cfg.ADAPRUNER.MASK.CLASSIFICATION_LOSS = True
    cfg.ADAPRUNER.MASK.SELECTION_LOSS = True
    cfg.ADAPRUNER.MASK.COMPRESSION_LOSS = True

    # The other methods, random selection among them. Most look at a proxy: a network that trains on all
    # images, without pruning.
    cfg.SCORING = CN()
    # Share of SOLVER.MAX_ITER after which the early weights are kept, but at least an epoch (Paul et al.
    # 2021: epochs 10 to 20 of 200). In trainings of few epochs take more, such as 0.25.
    cfg.SCORING.EARLY = 0.1
    # Networks that train up to there, each with a seed of its own; what is early is their mean (Paul et
    # al.: 10). One of them goes on to the end.
    cfg.SCORING.NETWORKS = 1
    # Detection: how often, spread evenly over the training, it is measured which boxes are found. A box
    # can be forgotten half as often at most.
    cfg.SCORING.SNAPSHOTS = 10
    # Gradients that GraNd takes the norm of: "full" (of all parameters), "last_layer", or "auto": full for
    # small classifiers.
    cfg.SCORING.GRAND = "auto"
    # Hold every class to the ratio; an image with boxes of several counts for the one that the fewest images have.
    cfg.SCORING.CLASS_BALANCE = False
