import os
import zipfile

import numpy as np
import pytest
import torch
from image_files import picture, pixels, write_tree, write_zip
from PIL import Image
from torchvision.transforms import v2

from adapruner_det.data import images
from adapruner_det.data.images import drop_unreadable, open_archive, read_images
from adapruner_det.data.validation import InvalidDatasetError


def as_file(folder, name, data):
    write_tree(folder, {name: data})
    return {"image_id": name, "file_name": str(folder / name)}


def in_zip(path, member):
    return {"image_id": member, "file_name": str(path), "member": member}


def test_arrays_files_and_members_come_in_order(tmp_path):
    encoded = [picture(seed) for seed in range(150)]  # more than one thread's share
    archive = write_zip(tmp_path / "a.zip", {f"{i}.png": d for i, d in enumerate(encoded)}, zipfile.ZIP_DEFLATED)
    records = []
    for i, data in enumerate(encoded):
        records += [{"image": pixels(data)} if i % 2 else as_file(tmp_path, f"{i}.png", data)]
        records += [in_zip(archive, f"{i}.png")]
    read = read_images(records, 8)
    assert read.shape == (300, 8, 8, 3) and read.dtype == np.uint8
    for i, data in enumerate(encoded):
        np.testing.assert_array_equal(read[2 * i], pixels(data))
        np.testing.assert_array_equal(read[2 * i + 1], pixels(data))
    assert read_images([], 8).shape == (0, 8, 8, 3)
    grey = np.broadcast_to(np.arange(64, dtype=np.uint8).reshape(8, 8, 1), (8, 8, 3))  # a view, as of MNIST
    assert read_images([{"image": grey}], 12).shape == (1, 12, 12, 3)


@pytest.mark.parametrize(
    "format, mode", [("PNG", "RGB"), ("PNG", "L"), ("JPEG", "RGB"), ("JPEG", "L"), ("BMP", "RGB"), ("TIFF", "RGB")]
)
def test_pixels_are_pillows(tmp_path, format, mode):
    data = picture(3, (16, 16), mode, format)
    (image,) = read_images([as_file(tmp_path, "a", data)], 16)
    np.testing.assert_array_equal(image, pixels(data))


def test_sixteen_bits_are_scaled_not_clipped(tmp_path):
    grey = np.linspace(0, 65535, 64).astype(np.uint16).reshape(8, 8)
    Image.fromarray(grey).save(tmp_path / "a.png")
    (image,) = read_images([{"file_name": str(tmp_path / "a.png")}], 8)
    np.testing.assert_allclose(image[..., 1], grey / 257, atol=1)


def test_pixels_of_no_known_range_are_refused(tmp_path):
    Image.fromarray(np.full((8, 8), 0.5, np.float32)).save(tmp_path / "a.tif")
    with pytest.raises(InvalidDatasetError, match="a.tif: its pixels are of Pillow's mode F.*scale it to 8 bits"):
        read_images([{"file_name": str(tmp_path / "a.tif")}], 8)


@pytest.mark.parametrize("format", ["JPEG", "PNG"])
def test_pictures_are_turned_as_exif_says(tmp_path, format):
    wide = Image.fromarray(np.repeat(np.uint8([[0] * 8 + [255] * 8]), 8, axis=0))
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees clockwise: what is left comes to the top
    wide.save(tmp_path / "a", format, exif=exif)
    (image,) = read_images([{"file_name": str(tmp_path / "a")}], 8)
    assert image[0].max() < 60 and image[-1].min() > 195


@pytest.mark.parametrize("size", [(40, 20), (20, 40), (9, 9), (8, 12)])
def test_other_sizes_are_fitted_as_torchvision_does(tmp_path, size):
    data = picture(5, size)
    transform = v2.Compose([v2.Resize(8, v2.InterpolationMode.BICUBIC, antialias=True), v2.CenterCrop(8)])
    expected = transform(torch.tensor(pixels(data)).permute(2, 0, 1)).permute(1, 2, 0)
    for image in read_images([as_file(tmp_path, "a.png", data), {"image": pixels(data)}], 8):
        np.testing.assert_array_equal(image, expected)


def test_all_broken_pictures_are_named_with_file_and_member(tmp_path):
    whole, plain = picture(0, (64, 64), format="JPEG"), picture(0, (32, 32), format="BMP")
    path = write_zip(tmp_path / "a.zip", {"cut.jpg": whole[:1500], "good.jpg": whole, "crc.bmp": plain})
    content = bytearray(path.read_bytes())
    content[content.index(plain) + len(plain) // 2] ^= 255
    path.write_bytes(bytes(content))
    records = [in_zip(path, name) for name in ("good.jpg", "cut.jpg", "gone.jpg", "crc.bmp")]
    records += [as_file(tmp_path, "empty.png", b""), as_file(tmp_path, "text.png", b"<html>not found</html>")]
    records += [{"file_name": str(tmp_path / "vanished.png")}]
    with pytest.raises(InvalidDatasetError, match="6 of 7 images cannot be decoded") as caught:
        read_images(records, 64)
    assert [problem.file.removeprefix(f"{tmp_path}/") for problem in caught.value.problems] == [
        *("a.zip: cut.jpg", "a.zip: gone.jpg", "a.zip: crc.bmp"),
        *("empty.png", "text.png", "vanished.png"),
    ]
    assert "CRC" in caught.value.problems[2].message


def test_pictures_are_decoded_once_before_a_run(tmp_path, monkeypatch):
    whole = picture(0, (64, 64), format="JPEG")
    path = write_zip(tmp_path / "a.zip", {"cut.jpg": whole[:1500], "text.jpg": b"text", "empty.jpg": b""})
    records = [in_zip(path, "cut.jpg"), in_zip(path, "text.jpg"), as_file(tmp_path, "good.jpg", whole)]
    records += [in_zip(path, "empty.jpg"), as_file(tmp_path, "half.png", picture(0)[:20])]
    Image.fromarray(np.full((8, 8), 0.5, np.float32)).save(tmp_path / "float.tif")
    records += [{"file_name": str(tmp_path / "float.tif")}, {"file_name": "vanished.png"}]
    records = [{**record, "image_id": place} for place, record in enumerate(records)]
    with pytest.raises(InvalidDatasetError, match="6 problems in mine") as caught:
        drop_unreadable(records, "mine", "error")
    assert str(caught.value.problems[0]).startswith(f"{path}: cut.jpg: not readable as an image: image file is trunc")
    assert "mode F" in str(caught.value.problems[4])
    for on_invalid in ("skip_images", "skip_objects"):
        assert drop_unreadable(records, "mine", on_invalid) == [records[2]]
    monkeypatch.setattr(images, "_decode", lambda record: pytest.fail("decoded again"))
    assert drop_unreadable([records[2]], "mine", "skip_images") == [records[2]]


@pytest.mark.parametrize("content", [b"", b"not a zip", b"PK\x03\x04 cut off"])
def test_broken_archive_is_named(tmp_path, content):
    (tmp_path / "a.zip").write_bytes(content)
    with pytest.raises(ValueError, match="a.zip cannot be read as a zip archive.*anew"):
        open_archive(tmp_path / "a.zip")


def test_a_replaced_archive_is_read_anew(tmp_path):
    for seed in (1, 2):
        path = write_zip(tmp_path / "new.zip", {"a.png": picture(seed)}).replace(tmp_path / "a.zip")
        os.utime(path, ns=(0, seed))
        np.testing.assert_array_equal(read_images([in_zip(path, "a.png")], 8)[0], pixels(picture(seed)))
