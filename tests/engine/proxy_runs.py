"""Small data of both tasks, with configs that train a proxy on them in moments."""

import cv2
import numpy as np
import pytest
from conftest import write_voc_folder
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.engine import HookBase

from adapruner_det.engine import load_config

BRIGHTNESS = {"dark": 70, "light": 160}
EACH = 12

PICTURES = {
    "SOLVER.IMS_PER_BATCH": 8,
    "SOLVER.MAX_EPOCHS": 4,
    "SOLVER.WARMUP_ITERS": 0,
    "SOLVER.BASE_LR": 0.02,
    "SCORING.EARLY": 0.25,
    "SCORING.NETWORKS": 1,
    "MODEL.DEVICE": "cpu",
}
BOXES = {
    "SOLVER.IMS_PER_BATCH": 4,
    "SOLVER.MAX_ITER": 10,
    "SOLVER.WARMUP_ITERS": 0,
    "SCORING.EARLY": 0.4,
    "SCORING.SNAPSHOTS": 2,
    "INPUT.MIN_SIZE_TRAIN": (64,),
    "INPUT.MIN_SIZE_TEST": 64,
    "MODEL.DEVICE": "cpu",
}


@pytest.fixture(scope="session")
def folders(tmp_path_factory):
    """A folder of two class folders with 12 pictures each, and a VOC folder of 10, one without boxes."""
    root = tmp_path_factory.mktemp("scoring")
    rng = np.random.default_rng(0)
    for name, brightness in BRIGHTNESS.items():
        folder = root / "pictures" / name
        folder.mkdir(parents=True)
        for number in range(EACH):
            image = rng.normal(rng.normal(brightness, 30), 20, (32, 32, 3))
            cv2.imwrite(str(folder / f"{number:02d}.png"), np.clip(image, 0, 255).astype(np.uint8))
    ids = [f"i{number}" for number in range(10)]
    write_voc_folder(root / "boxes", {"all": ids}, empty=ids[3:4])
    return root


@pytest.fixture(scope="module")
def config(folders):
    """Makes the config of a pruning run of either task, with other settings if asked to."""
    before = set(DatasetCatalog), set(MetadataCatalog)

    def make(task="classification", **settings):
        if task == "classification":
            file, spec, own = "cifar10/prune_small.yaml", f"mine=images:{folders / 'pictures'}", PICTURES
        else:
            file, spec, own = "bccd/prune_yolov3_tiny_R18.yaml", f"boxes=voc:{folders / 'boxes'}:all", BOXES
        pairs = {**own, **settings}
        return load_config(f"configs/{file}", [spec], [str(part) for pair in pairs.items() for part in pair])

    yield make
    for catalog, names in zip((DatasetCatalog, MetadataCatalog), before):
        for name in set(catalog) - names:
            catalog.remove(name)


class StopAt(HookBase):
    """Ends a training behind an iteration, as a user would."""

    def __init__(self, iteration):
        self.iteration = iteration

    def after_step(self):
        if self.trainer.iter == self.iteration:
            raise KeyboardInterrupt
