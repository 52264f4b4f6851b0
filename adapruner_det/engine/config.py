"""The keys this project adds to Detectron2's config."""
import torch
from detectron2.config import CfgNode as CN

from ..classification.config import add_classification_config
from ..detection.config import add_efficientnet_lite_config, add_yolov3_tiny_config
from ..pruning.objective import COMPRESSION_SCALE


PRESETS = {
    # What classification was measured with (docs/results.md); the defaults are for detection.
    "classification": {
        "LOSS_SCALE": "mean",
        "SELECTION_WEIGHT": 1.0,
        "CLASS_BALANCE": False,
        "REDUNDANCY": 0.0,
        "OUTLIER_Z": 0.0,
        "CHANCE": 0.0,
        "RARE_CLASSES": 0.0,
        "LAST_LOOK": False,
    },
    "paper": {
        "LAST_LOOK": False,
        "RATIO_CONTROL": "penalty",
        "LOSS_SCALE": "none",
        "LOSS_TERMS": (),
        "SELECTION_WEIGHT": 1.0,
        "CLASSIFICATION_LOSS": True,
        "SELECTION_LOSS": True,
        "COMPRESSION_LOSS": True,
        "COMPRESSION_SCALE": COMPRESSION_SCALE,
        "ALPHA_START": 0.1,
        "ALPHA_END": 5.0,
        "TOLERANCE": 0.02,
        "CLASS_BALANCE": False,
        "REDUNDANCY": 0.0,
        "OUTLIER_Z": 0.0,
        "CHANCE": 0.0,
        "RARE_CLASSES": 0.0,
    },
}


# Options that came after the first results, at the values that change nothing (which need not be the defaults).
_OFF = {
    "LAST_LOOK": False,
    "LOSS_QUANTILE": 0.5,
    "LOSS_TERMS": (),
    "REDUNDANCY": 0.0,
    "SELECTION_WEIGHT": 1.0,
}
_OF_COMPARING = ("OUTLIER_Z", "CHANCE", "RARE_CLASSES")  # which do nothing with REDUNDANCY 0, whatever they are


def without_options_off(cfg: CN) -> CN:
    """A copy without the options that are off, nor the preset, whose keys count themselves.

    Its dump is that of before they were there, so that what was computed then is still known by it.
    """
    cfg = cfg.clone()
    cfg.defrost()
    del cfg.ADAPRUNER["PRESET"]
    if not cfg.ADAPRUNER.REDUNDANCY:
        for key in _OF_COMPARING:
            del cfg.ADAPRUNER[key]
    for key, off in _OFF.items():
        if cfg.ADAPRUNER[key] == off:
            del cfg.ADAPRUNER[key]
    if not cfg.SCORING.CLASS_BALANCE:
        del cfg.SCORING["CLASS_BALANCE"]
    return cfg


def apply_preset(cfg: CN, name: str) -> None:
    """Sets the keys of ADAPRUNER that a preset has; config files and pairs merged afterwards win.

    Raises:
        ValueError: no such preset.
    """
    if name not in PRESETS:
        raise ValueError(
            f"ADAPRUNER.PRESET is {name!r}; it can be {', '.join(map(repr, PRESETS))}, or empty for none"
        )
    cfg.ADAPRUNER.update(PRESETS[name])


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
    # names: "error" reports all of them before training, "skip_objects" or "skip_images" leave them out.
    cfg.DATASETS.ON_INVALID = "error"
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
    # Scale of the mask's sigmoid in the first and the last epoch of pruning.
    cfg.ADAPRUNER.ALPHA_START = 0.1
    cfg.ADAPRUNER.ALPHA_END = 5.0
    # Step of a mask logit at each visit of its image.
    cfg.ADAPRUNER.MASK_LR = 0.3
    # When pruning has ended, the finished model looks at every image once more, not augmented and in evaluation
    # mode, and the mask becomes what these losses say. Takes Detectron2's backbone and preprocess_image, as
    # REDUNDANCY does.
    cfg.ADAPRUNER.LAST_LOOK = True
    # How far the ratio reached may be from KEEP_RATIO.
    cfg.ADAPRUNER.TOLERANCE = 0.02
    # "projection" holds the ratio exactly; "penalty" is Eq. 6 and 7, with the kept ratio in Eq. 6 (without
    # CLASS_BALANCE and LAST_LOOK).
    cfg.ADAPRUNER.RATIO_CONTROL = "projection"
    # s_scale of Eq. 7.
    cfg.ADAPRUNER.COMPRESSION_SCALE = COMPRESSION_SCALE
    # What per-image losses are divided by before Eq. 5: "mean" by their mean; "none" is the paper's.
    # "expected": by what images with such boxes (classification: of such a class) usually cost.
    # "quantile": by the quantile LOSS_QUANTILE of the losses.
    cfg.ADAPRUNER.LOSS_SCALE = "expected"
    cfg.ADAPRUNER.LOSS_QUANTILE = 0.5
    # Names of the loss terms that move the mask, such as ("loss_cls",); empty: all. The model itself is
    # trained on all.
    cfg.ADAPRUNER.LOSS_TERMS = ()
    # w of Eq. 5's term; the paper's is 1. L - w log L is smallest at L = w: the lower, the easier the images
    # that stay.
    cfg.ADAPRUNER.SELECTION_WEIGHT = 0.25
    # Which terms move the mask (Table 5).
    cfg.ADAPRUNER.CLASSIFICATION_LOSS = True
    cfg.ADAPRUNER.SELECTION_LOSS = True
    cfg.ADAPRUNER.COMPRESSION_LOSS = True
    # While the mask learns, hold every class to KEEP_RATIO, not only the whole set (the paper does not). An image with
    # boxes of several classes counts for the one that the fewest images have. Where images are compared at the end
    # (REDUNDANCY), it is within their class, but all classes stand in one line.
    cfg.ADAPRUNER.CLASS_BALANCE = True
    # When pruning has ended, what an image loses if it is just like one that is kept, and less the less alike
    # they are to the trained model. 0: no images are compared and the mask alone decides, for models whose
    # features are not known (they need Detectron2's backbone).
    cfg.ADAPRUNER.REDUNDANCY = 0.7
    # How many robust standard deviations an image's score has to be worse than those of the ten images most like it
    # (with a low SELECTION_WEIGHT: its loss higher) to count against it; at twice as many it counts 1. The lower, the
    # more images go for their loss. 0: none does.
    cfg.ADAPRUNER.OUTLIER_Z = 1.75
    # Each image counts a number between 0 and CHANCE that SEED draws for it: between images that neither their loss
    # nor their likes speak against, chance decides, as in random selection. Like OUTLIER_Z, it does nothing with
    # REDUNDANCY 0.
    cfg.ADAPRUNER.CHANCE = 0.2
    # How much the draw favours images of rare classes, of which images without boxes are one: an image weighs the
    # share of images with its rarest class to the power of minus this. 1: a draw is as likely to be of one class as of
    # another, as long as there are images of both; 0: all images weigh the same. At most 10.
    cfg.ADAPRUNER.RARE_CLASSES = 1.0
    # Images without boxes: "prune" lets them compete like any other, "keep" keeps all of them,
    # "drop" leaves all of them out; KEEP_RATIO is then a share of the others.
    # DATALOADER.FILTER_EMPTY_ANNOTATIONS counts only for training without a selection.
    cfg.ADAPRUNER.EMPTY_IMAGES = "prune"

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
    # Hold every class to the ratio, as ADAPRUNER.CLASS_BALANCE does while AdaPruner's mask learns.
    cfg.SCORING.CLASS_BALANCE = False
