"""Settings that are chosen from the data."""

import numpy as np
import pytest
from detectron2.structures import BoxMode

from adapruner_det.data.images import read_sizes
from adapruner_det.engine import defaults, load_config


def records(num, size=(320, 240), box=(20, 20)):
    annotation = {"bbox": [0, 0, *box], "bbox_mode": BoxMode.XYWH_ABS}
    return [{"width": size[0], "height": size[1], "annotations": [annotation]} for _ in range(num)]


def chosen(data, *opts, file=defaults.DETECTION):
    cfg = load_config(str(file), opts=["MODEL.DEVICE", "cpu", *opts])
    return defaults.choose(cfg, data, opts[::2])


PRUNE = ("ADAPRUNER.ENABLED", "True")


@pytest.mark.parametrize(
    "data, opts, side, features",
    [
        (records(300, box=(20, 20)), PRUNE, 96, ["res3", "res4"]),
        (records(300, box=(12, 12)), PRUNE, 160, ["res3", "res4"]),  # 8 pixels of 12 at 240
        (records(300, box=(12, 12)), (), 256, ["res4", "res5"]),  # twice as large, up to what there is
        (records(300, (1920, 1080), (20, 20)), PRUNE, 224, ["res2", "res3"]),
        (records(300, (64, 48)), PRUNE, 64, ["res3", "res4"]),
        (records(300), (*PRUNE, "INPUT.MIN_SIZE_TRAIN", "(128,)"), 128, ["res3", "res4"]),
    ],
)
def test_image_size_and_strides_follow_the_boxes(data, opts, side, features):
    pairs = chosen(data, *opts).pairs
    assert pairs.get("INPUT.MIN_SIZE_TRAIN", (side,)) == (side,) and pairs["INPUT.MIN_SIZE_TEST"] == side
    assert pairs["MODEL.YOLO.IN_FEATURES"] == pairs["MODEL.RESNETS.OUT_FEATURES"] == features


@pytest.mark.parametrize("num, epochs, batch", [(292, 20, 8), (30, 80, 8), (3000, 20, 16), (100_000, 6, 32)])
def test_small_data_is_seen_more_often_and_large_data_on_a_cpu_less(num, epochs, batch):
    found = chosen(records(num), *PRUNE).pairs
    assert (found["SOLVER.MAX_EPOCHS"], found["SOLVER.IMS_PER_BATCH"]) == (epochs, batch)


def test_what_was_written_out_is_not_chosen():
    found = chosen(records(30), *PRUNE, "SOLVER.MAX_ITER", "9", "SOLVER.IMS_PER_BATCH", "4").pairs
    assert not {"SOLVER.MAX_EPOCHS", "SOLVER.MAX_ITER", "SOLVER.IMS_PER_BATCH"} & set(found)


def test_anchors_are_the_sizes_there_are():
    sizes = np.array([[10, 10], [20, 40], [40, 20], [60, 60], [100, 50], [120, 120]], float)
    noisy = np.repeat(sizes, 50, axis=0) * np.random.default_rng(0).uniform(0.95, 1.05, (300, 1))
    np.testing.assert_allclose(sorted(defaults.anchors(noisy)), sorted(sizes.tolist()), atol=2)
    assert len(defaults.anchors(sizes[:2])) == len(defaults.anchors(sizes[:0])) == 6


def test_a_classifier_gets_the_size_of_its_pictures():
    data = [{"image": np.zeros((40, 30, 3), np.uint8), "category_id": 0}] * 50
    assert read_sizes(data)[0] == (30, 40)
    pairs = chosen(data, *PRUNE, file=defaults.CLASSIFICATION).pairs
    assert (pairs["INPUT.IMAGE_SIZE"], pairs["MODEL.CLASSIFIER.NAME"]) == (32, "small_resnet")
