"""Our mapper gives what Detectron2's gives, bit for bit."""

import numpy as np
import pytest
import torch
from conftest import write_voc_folder
from detectron2.data import DatasetCatalog, DatasetMapper
from detectron2.data.transforms import ResizeTransform

from adapruner_det.data.detection_records import NumberedRecords
from adapruner_det.data.formats import register_voc
from adapruner_det.data.mapper import in_a_row, quick
from adapruner_det.data.sampling import ResumableSampler
from adapruner_det.engine import load_config
from adapruner_det.engine.detection import DetectionTask
from adapruner_det.engine.detection_statistics import batches_of


@pytest.mark.parametrize("image_format", ["BGR", "RGB", "L", "YUV-BT.601"])
@pytest.mark.parametrize("is_train", [True, False])
def test_the_same_images_and_boxes_as_detectron2_s(tmp_path, clean_catalogs, is_train, image_format):
    register_voc("data", write_voc_folder(tmp_path, {"train": ["a", "b", "c"]}), "train")
    settings = "INPUT.MIN_SIZE_TRAIN (48,) INPUT.CROP.ENABLED True INPUT.MIN_SIZE_TEST 48 INPUT.FORMAT"
    cfg = load_config(opts=[*settings.split(), image_format])
    plain, ours = (
        NumberedRecords(DatasetCatalog.get("data"), mapper, seed=1)
        for mapper in (DatasetMapper(cfg, is_train=is_train), quick(DatasetMapper(cfg, is_train=is_train)))
    )
    for draw in range(12):
        one, other = plain[draw], ours[draw]
        assert one.keys() == other.keys() and torch.equal(one["image"], other["image"])
        if is_train:
            assert torch.equal(one["instances"].gt_boxes.tensor, other["instances"].gt_boxes.tensor)


@pytest.mark.parametrize("crop", [True, False])
def test_pillow_gets_bytes_in_a_row(tmp_path, clean_catalogs, monkeypatch, crop):
    """Images to train on, to evaluate on and to look at for the last time; cropped, if at all, before."""
    got = []
    resize = ResizeTransform.apply_image
    monkeypatch.setattr(ResizeTransform, "apply_image", lambda *a: got.append(a[1].flags.c_contiguous) or resize(*a))
    register_voc("data", write_voc_folder(tmp_path, {"train": ["a", "b", "c"]}), "train")
    settings = "INPUT.MIN_SIZE_TRAIN (48,) INPUT.MIN_SIZE_TEST 48 DATALOADER.NUM_WORKERS 0 SOLVER.IMS_PER_BATCH 3"
    cfg = load_config(opts=[*settings.split(), "INPUT.CROP.ENABLED", str(crop), "DATASETS.TRAIN", "('data',)"])
    records = DetectionTask.load_records(cfg)
    next(iter(DetectionTask.train_loader(cfg, records, ResumableSampler(3, seed=0))))
    next(iter(DetectionTask.test_loader(cfg, "data")))
    next(batches_of(cfg, records[:1], "Images"))
    assert got == [True] * 5


def test_bytes_are_put_in_a_row_and_stay_where_they_are():
    image = np.random.default_rng(0).integers(0, 256, (5, 7, 3)).astype(np.uint8)
    for turned in (image[..., ::-1], image[:, ::2], image.transpose(1, 0, 2), image[..., 0], image[::-1, :, :1]):
        row = in_a_row(turned)
        assert row.flags.c_contiguous and row.dtype == np.uint8 and np.array_equal(row, turned)
    assert in_a_row(image) is image
