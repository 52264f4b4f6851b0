"""Every picture is decoded once; what is read from then on is what Detectron2's mapper reads, bit for bit."""

import os
import pickle

import numpy as np
import pytest
import torch
from conftest import write_voc_folder
from detectron2.data import DatasetMapper, detection_utils
from PIL import Image

from adapruner_det.data.detection_records import NumberedRecords
from adapruner_det.data.formats import register_voc
from adapruner_det.data.mapper import QuickMapper
from adapruner_det.data.pictures import copied_to, inspect_picture
from adapruner_det.data.small_copies import SmallCopies, copies_of, make_copies
from adapruner_det.engine import load_config
from adapruner_det.engine.detection import DetectionTask
from adapruner_det.engine.trainer import small_copies


@pytest.fixture
def config(tmp_path, clean_catalogs):
    """The config of a run on three pictures, 64 x 48, one turned by EXIF, that reads at the given sizes."""
    folder = write_voc_folder(tmp_path / "data", {"train": ["a", "b", "c"]})
    turned = Image.Exif()
    turned[0x0112] = 3
    file = folder / "JPEGImages" / "b.jpg"
    noise = np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8)
    Image.fromarray(noise).save(file, exif=turned)
    register_voc("data", folder, "train")

    def make(train=(31,), test=31, **settings):
        pairs = [part for key, value in settings.items() for part in (key.replace("__", "."), str(value))]
        sizes = ["INPUT.MIN_SIZE_TRAIN", str(train), "INPUT.MIN_SIZE_TEST", str(test)]
        return load_config(opts=["DATASETS.TRAIN", "('data',)", "OUTPUT_DIR", str(tmp_path / "run"), *sizes, *pairs])

    return make


def loaded(cfg):
    with small_copies(cfg):
        return DetectionTask.load_records(cfg)


@pytest.mark.parametrize("image_format", ["BGR", "RGB", "L"])
@pytest.mark.parametrize("size", [31, 100])
def test_pictures_are_decoded_once_and_come_as_detectron2_reads_them(config, monkeypatch, size, image_format):
    cfg = config((size,), size, INPUT__FORMAT=image_format)
    records = loaded(cfg)
    plain = NumberedRecords(records, DatasetMapper(cfg, is_train=True), seed=1)
    wanted = [plain[draw] for draw in range(12)]
    ours = NumberedRecords(records, QuickMapper(cfg, is_train=True).reading(copies_of(cfg)), seed=1)
    monkeypatch.setattr(Image, "open", None)
    for draw, one in enumerate(wanted):
        other = ours[draw]
        assert torch.equal(one["image"], other["image"]) and one.keys() == other.keys()
        assert torch.equal(one["instances"].gt_boxes.tensor, other["instances"].gt_boxes.tensor)


def test_neither_the_room_nor_the_process_changes_what_is_read(config, tmp_path):
    files = [record["file_name"] for record in DetectionTask.load_records(config())]
    copy = 3 * 40 * 53
    read = {}
    for room in (0, copy, 2.5 * copy, 1e9):
        copies = SmallCopies(tmp_path / f"{room}", [(20, 99), (40, 99)], "RGB", room)
        copies.fill(files)
        stored = min(3, int(room // copy))
        assert (tmp_path / f"{room}").exists() == (stored > 0) and copies.full == (stored < 3)
        assert not stored or os.path.getsize(tmp_path / f"{room}") == stored * copy
        worker = pickle.loads(pickle.dumps(copies))
        read[room] = [own.read(file)[0] for own in (copies, worker) for file in files]
        assert copies.read(files[0])[1] == (48, 64)
        for mine, first in zip(read[room], read[0], strict=True):
            assert mine.shape == (40, 53, 3) and np.array_equal(mine, first)
    del copies
    assert not (tmp_path / "1000000000.0").exists()


def test_a_full_disk_costs_time_and_no_run(config, tmp_path, monkeypatch, caplog):
    def full(*arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "pwrite", full)
    files = [record["file_name"] for record in DetectionTask.load_records(config())]
    copies = SmallCopies(tmp_path / "copies", [(20, 99)], "RGB", 1e9)
    copies.fill(files)
    assert copies.full and copies.read(files[0])[0].shape == (20, 27, 3)
    assert caplog.text.count("No space left on device; images without a copy are decoded in each pass") >= 1


def photograph(height, width, mode="RGB"):
    """Smooth, as photographs are nearly everywhere: a picture of noise has no smaller one."""
    waves = np.sin(np.linspace(0, 9, height))[:, None, None] + np.cos(np.linspace(0, 7, width))[:, None] + np.arange(3)
    return Image.fromarray((40 * waves + 85).clip(0, 255).astype(np.uint8)).convert(mode)


def both(tmp_path, file, image_format="BGR"):
    """What is read of a file at 20 pixels, by the check before a pruning run and by that of others."""
    read = []
    for scaled in (True, False):
        copies = SmallCopies(tmp_path / f"copies_{scaled}", [(20, 99)], image_format, 1e9, scaled)
        with Image.open(file) as picture:
            copies.add(str(file), picture)
        pixels, size = copies.read(str(file))
        read.append((np.array(pixels, int), size, picture.size))
    (pixels, size, decoded), (plain, own, _) = read
    assert size == own and pixels.shape == plain.shape
    return np.abs(pixels - plain).max(), decoded


def test_a_jpeg_of_which_a_copy_would_have_no_side_is_refused_as_pillow_does(tmp_path):
    file = str(tmp_path / "strip.jpg")
    Image.new("RGB", (4001, 3)).save(file)
    with Image.open(file) as picture, pytest.raises(ValueError, match="height and width must be > 0"):
        SmallCopies(tmp_path / "copies", [(64, 200)], "BGR", 2**20, scaled=True).add(file, picture)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("height, width, decoded", [
    (160, 240, (60, 40)), (161, 163, (41, 41)), (159, 158, (79, 80)), (320, 333, (84, 80)), (320, 336, (42, 40)), (80, 84, (42, 40))
])  # fmt: skip
def test_large_jpegs_are_decoded_at_a_fraction_of_their_size(tmp_path, height, width, decoded, orientation):
    turned = Image.Exif()
    turned[0x0112] = orientation
    photograph(height, width).save(tmp_path / "a.jpg", exif=turned, quality=95)
    difference, size = both(tmp_path, tmp_path / "a.jpg")
    assert size == decoded and 0 < difference <= 4


@pytest.mark.parametrize("mode, image_format", [("L", "L"), ("L", "RGB"), ("CMYK", "BGR"), ("RGB", "L")])
def test_jpegs_of_other_colours_are_decoded_at_a_fraction_too(tmp_path, mode, image_format):
    photograph(160, 200, mode).save(tmp_path / "a.jpg", quality=95)
    difference, size = both(tmp_path, tmp_path / "a.jpg", image_format)
    assert size == (50, 40) and difference <= 4


@pytest.mark.parametrize("height, width, name", [(79, 100, "a.jpg"), (160, 200, "a.png"), (160, 200, "a.webp")])
def test_smaller_jpegs_and_others_stay_as_they_are_to_the_bit(tmp_path, height, width, name):
    photograph(height, width).save(tmp_path / name)
    assert both(tmp_path, tmp_path / name) == (0, (width, height))


@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("part", [0.3, 0.9, 0.99])
def test_jpegs_that_were_cut_are_found_at_a_fraction_of_their_size(tmp_path, part, progressive):
    file = tmp_path / "a.jpg"
    photograph(160, 200).save(file, progressive=progressive)
    file.write_bytes(file.read_bytes()[: int(part * file.stat().st_size)])
    copies = SmallCopies(tmp_path / "copies", [(20, 99)], "BGR", 1e9, scaled=True)
    with copied_to(copies), pytest.raises(ValueError, match="^not readable as an image: .*truncated"):
        inspect_picture(str(file))


def test_only_pruning_runs_read_other_pixels_than_detectron2(config, tmp_path):
    file = tmp_path / "a.jpg"
    photograph(160, 200).save(file)
    wanted = DatasetMapper(config((20,), 20), is_train=True).augmentations.augs[0].get_transform(np.zeros((160, 200)))
    wanted = wanted.apply_image(detection_utils.read_image(str(file), "BGR"))
    for pruning in (False, True):
        copies = make_copies(config((20,), 20, ADAPRUNER__ENABLED=pruning))
        assert np.array_equal(copies.read(str(file))[0], wanted) == (not pruning)


@pytest.mark.parametrize("settings, made", [
    ({}, True),
    ({"test": 40}, False),  # pixels would change
    ({"test": 40, "ADAPRUNER__ENABLED": True}, True),
    ({"INPUT__CROP__ENABLED": True}, False),
    ({"INPUT__FORMAT": "YUV-BT.601"}, False),
])  # fmt: skip
def test_which_runs_read_copies(config, settings, made):
    assert (make_copies(config(**settings)) is not None) == made
    assert (copies_of(config(**settings)) is not None) == made
