import io
import logging
import zipfile
from collections import Counter

import numpy as np
import pytest
import torch
from image_files import picture, pixels, write_tree, write_zip
from PIL import Image
from torchvision.transforms import v2

from adapruner_det.data import images
from adapruner_det.data.images import find_unreadable, open_archive, read_images
from adapruner_det.data.validation import InvalidDatasetError


def in_memory(array, image_id="0"):
    return {"image_id": image_id, "category_id": 0, "image": array}


def as_file(folder, name, data):
    write_tree(folder, {name: data})
    return {"image_id": name, "category_id": 0, "file_name": str(folder / name)}


def test_arrays_files_and_members_come_in_order(tmp_path):
    encoded = [picture(seed) for seed in range(300)]  # more than one thread's share
    archives = [
        write_zip(tmp_path / "a.zip", {f"x/{i}.png": d for i, d in enumerate(encoded)}),
        write_zip(tmp_path / "b.zip", {f"x/{i}.png": d for i, d in enumerate(encoded[::-1])}, zipfile.ZIP_DEFLATED),
    ]
    records = []
    for i, data in enumerate(encoded):
        records.append([in_memory(pixels(data)), as_file(tmp_path, f"{i}.png", data)][i % 2])
        member = f"x/{i}.png"
        records.append({"image_id": member, "file_name": str(archives[i % 2]), "member": member})
    read = read_images(records, 8)
    assert read.shape == (600, 8, 8, 3) and read.dtype == np.uint8 and read.flags.c_contiguous
    for i, data in enumerate(encoded):
        np.testing.assert_array_equal(read[2 * i], pixels(data))
        np.testing.assert_array_equal(read[2 * i + 1], pixels(encoded[-1 - i] if i % 2 else data))


def test_an_archive_is_opened_once_for_all_threads(tmp_path, monkeypatch):
    path = write_zip(tmp_path / "a.zip", {f"{i}.png": picture(i) for i in range(300)})
    opened = Counter()

    def counting(path):
        opened[path] += 1
        return open_archive(path)

    monkeypatch.setattr(images, "open_archive", counting)
    records = [{"image_id": str(i), "file_name": str(path), "member": f"{i}.png"} for i in range(300)]
    assert read_images(records, 8).mean() > 0
    assert opened == {str(path): 1}


@pytest.mark.parametrize(
    "format, mode",
    [("PNG", "RGB"), ("PNG", "L"), ("JPEG", "RGB"), ("JPEG", "L"), ("BMP", "RGB"), ("TIFF", "RGB")],
)
def test_pixels_are_pillows(tmp_path, format, mode):
    data = picture(3, (16, 16), mode, format)
    (image,) = read_images([as_file(tmp_path, f"a.{format.lower()}", data)], 16)
    np.testing.assert_array_equal(image, pixels(data))


@pytest.mark.parametrize("format", ["PNG", "TIFF"])
def test_sixteen_bits_are_scaled_not_clipped(tmp_path, format):
    grey = np.linspace(0, 65535, 64).astype(np.uint16).reshape(8, 8)
    buffer = io.BytesIO()
    Image.fromarray(grey).save(buffer, format)
    (image,) = read_images([as_file(tmp_path, "a.png", buffer.getvalue())], 8)
    np.testing.assert_allclose(image[..., 1], grey / 257, atol=1)


@pytest.mark.parametrize("format", ["JPEG", "PNG"])
def test_pictures_are_turned_as_exif_says(tmp_path, format):
    wide = Image.fromarray(np.repeat(np.uint8([[0] * 8 + [255] * 8]), 8, axis=0))
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees clockwise: what is left comes to the top
    buffer = io.BytesIO()
    wide.save(buffer, format, exif=exif)
    (image,) = read_images([as_file(tmp_path, "a.jpg", buffer.getvalue())], 8)
    assert image[0].max() < 60 and image[-1].min() > 195


@pytest.mark.parametrize("size", [(40, 20), (20, 40), (9, 9), (8, 12)])
def test_other_sizes_are_fitted_as_torchvision_does(tmp_path, size):
    data = picture(5, size)
    transform = v2.Compose([v2.Resize(8, v2.InterpolationMode.BICUBIC, antialias=True), v2.CenterCrop(8)])
    expected = transform(torch.tensor(pixels(data)).permute(2, 0, 1)).permute(1, 2, 0)
    records = [as_file(tmp_path, "a.png", data), in_memory(pixels(data))]
    for image in read_images(records, 8):
        np.testing.assert_array_equal(image, expected)


def test_right_size_is_not_resampled_and_views_serve():
    grey = np.arange(28 * 28, dtype=np.uint16).reshape(28, 28).astype(np.uint8)
    view = np.broadcast_to(grey[..., None], (28, 28, 3))
    np.testing.assert_array_equal(read_images([in_memory(view)], 28)[0], view)
    assert read_images([in_memory(view)], 32).shape == (1, 32, 32, 3)


def test_no_record_gives_an_empty_array():
    assert read_images([], 8).shape == (0, 8, 8, 3)


def test_all_broken_pictures_are_named_with_file_and_member(tmp_path):
    whole = picture(0, (64, 64), format="JPEG")
    path = write_zip(tmp_path / "a.zip", {"x/cut.jpg": whole[:1500], "x/good.jpg": whole})
    records = [
        {"image_id": "1", "file_name": str(path), "member": "x/good.jpg"},
        {"image_id": "2", "file_name": str(path), "member": "x/cut.jpg"},
        {"image_id": "3", "file_name": str(path), "member": "x/gone.jpg"},
        as_file(tmp_path, "empty.png", b""),
        as_file(tmp_path, "text.png", b"<html>not found</html>"),
        {"image_id": "6", "file_name": str(tmp_path / "vanished.png")},
        in_memory(np.zeros((8, 8), np.uint8), "grey"),
        in_memory(np.zeros((8, 8, 3), np.float32), "float"),
    ]
    with pytest.raises(InvalidDatasetError, match="7 of 8 images cannot be decoded") as caught:
        read_images(records, 64)
    files = [problem.file for problem in caught.value.problems]
    named = ["empty.png", "text.png", "vanished.png"]
    assert files == [
        f"{path}: x/cut.jpg",
        f"{path}: x/gone.jpg",
        *(str(tmp_path / name) for name in named),
        "image grey",
        "image float",
    ]
    assert "not uint8 of (H, W, 3)" in str(caught.value)


def test_member_with_a_wrong_checksum_is_named(tmp_path):
    data = picture(0, (32, 32), format="BMP")
    path = write_zip(tmp_path / "a.zip", {"x/a.bmp": data})
    content = path.read_bytes()
    place = content.index(data) + len(data) // 2
    path.write_bytes(content[:place] + bytes([content[place] ^ 255]) + content[place + 1 :])
    with pytest.raises(InvalidDatasetError, match="a.zip: x/a.bmp: .*CRC"):
        read_images([{"image_id": "1", "file_name": str(path), "member": "x/a.bmp"}], 32)


def test_headers_are_checked_without_decoding(tmp_path):
    whole = picture(0, (64, 64), format="JPEG")
    path = write_zip(tmp_path / "a.zip", {"cut.jpg": whole[:1500], "text.jpg": b"text", "empty.jpg": b""})
    records = [
        {"image_id": "1", "file_name": str(path), "member": "cut.jpg"},
        {"image_id": "2", "file_name": str(path), "member": "text.jpg"},
        as_file(tmp_path, "good.jpg", whole),
        {"image_id": "4", "file_name": str(path), "member": "empty.jpg"},
        as_file(tmp_path, "half.png", picture(0)[:20]),
    ]
    problems = find_unreadable(records, "test")
    assert list(problems) == [1, 3, 4]  # the pixels of the cut one are not looked at
    assert str(problems[1]).startswith(f"{path}: text.jpg: not readable as an image")


@pytest.mark.parametrize("content", [b"", b"not a zip", b"PK\x03\x04 cut off"])
def test_broken_archive_is_named(tmp_path, content):
    path = tmp_path / "a.zip"
    path.write_bytes(content)
    with pytest.raises(ValueError, match="a.zip cannot be read as a zip archive.*anew"):
        read_images([{"image_id": "1", "file_name": str(path), "member": "x.png"}], 8)


def test_memory_that_will_be_short_is_announced(monkeypatch, caplog):
    record = in_memory(np.zeros((8, 8, 3), np.uint8))
    monkeypatch.setattr(images, "_available_memory", lambda: 2 * 3 * 8 * 8 * 3)
    with caplog.at_level(logging.WARNING):
        read_images([record] * 3, 8)
        assert not caplog.records
        read_images([record] * 4, 8)
    assert "GiB of memory" in caplog.text and "INPUT.IMAGE_SIZE" in caplog.text


def test_available_memory_is_the_systems():
    free = images._available_memory()
    assert free is None or 2**20 < free < 2**50
