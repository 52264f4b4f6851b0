"""Every picture is decoded before training, whatever is wrong with it."""

import os

import numpy as np
import pytest
from detectron2.data import detection_utils
from PIL import Image

from adapruner_det.data.pictures import inspect_picture, inspect_pictures


@pytest.fixture
def noise(tmp_path):
    """Makes a picture of noise of that name, 64 x 48."""

    def make(name, **options):
        pixels = np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / name, **options)
        return tmp_path / name

    return make


@pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.bmp", "a.webp", "a.tif"])
@pytest.mark.parametrize("part", [0.0, 0.3, 0.9])
def test_pictures_that_were_cut_are_found(noise, name, part):
    path = noise(name)
    assert inspect_picture(str(path))[:3] == (64, 48, 1)
    path.write_bytes(path.read_bytes()[: int(part * path.stat().st_size)])
    with pytest.raises(ValueError, match="^not readable as an image: .+$"):
        inspect_picture(str(path))


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK"])
def test_modes_that_detectron2_reads_pass(tmp_path, mode):
    path = str(tmp_path / ("a.tif" if mode == "CMYK" else "a.png"))
    Image.new(mode, (6, 4)).save(path)
    assert inspect_picture(path)[:2] == (6, 4)
    assert detection_utils.read_image(path, "BGR").shape == (4, 6, 3)


@pytest.mark.parametrize("dtype, top, fault", [
    (np.uint16, 255, False), (np.uint16, 256, True), (np.int32, -1, True), (np.float32, 0.5, True),
])  # fmt: skip
def test_pixels_that_do_not_fit_into_a_byte_are_refused_by_name(tmp_path, dtype, top, fault):
    path = str(tmp_path / "a.tif")
    Image.fromarray(np.full((4, 6), top, dtype)).save(path)
    if fault:
        with pytest.raises(ValueError, match="mode [IF].*scale it to 8 bits"):
            inspect_picture(path)
    else:
        assert inspect_picture(path)[:2] == (6, 4) and detection_utils.read_image(path, "BGR").max() == top


@pytest.mark.parametrize("orientation", [3, 6])
def test_a_tiff_that_exif_turns_is_refused_as_detectron2_turns_it_twice(noise, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = noise("a.tif", exif=exif)
    with Image.open(path) as image, Image.open(noise("a.png", exif=exif)) as same:
        image.load()  # once the installed Pillow leaves it to others, this is no fault any more
        assert image.size != same.size if orientation == 6 else not np.array_equal(image, same)
    with pytest.raises(
        ValueError, match=f"^it is a TIFF with EXIF orientation {orientation}, .*: write the picture turned$"
    ):
        inspect_picture(str(path))
    assert inspect_picture(str(path.with_suffix(".png"))).orientation == orientation


def test_a_decompression_bomb_is_refused(noise, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 64 * 48 // 2 - 1)
    with pytest.raises(ValueError, match="could be decompression bomb"):
        inspect_picture(str(noise("a.png")))


def test_pictures_are_decoded_once_and_again_when_they_change(noise, monkeypatch):
    path = noise("a.jpg")
    inspect_pictures([str(path), str(path.with_name("none.jpg"))], "Pictures")
    with monkeypatch.context() as context:
        context.setattr(Image, "open", None)
        assert inspect_picture(str(path))[:2] == (64, 48)
    path.write_bytes(b"no picture")
    os.utime(path, (1, 1))
    with pytest.raises(ValueError, match="not readable"):
        inspect_picture(str(path))
    with pytest.raises(FileNotFoundError):
        inspect_picture(str(path.with_name("none.jpg")))
