"""Near-copies: what is one picture twice, and what is not."""

import numpy as np
import pytest
from PIL import Image, ImageEnhance, ImageFilter, ImageOps

from adapruner_det.report.near_copies import ALIKE, Pair, describe, leaks, likeness, most_alike


def picture(seed):
    blocks = np.random.default_rng(seed).integers(0, 255, (20, 20, 3), dtype=np.uint8)
    return Image.fromarray(blocks).resize((300, 300))


def described(*pictures):
    records = [{"image_id": str(i), "image": np.asarray(own)} for i, own in enumerate(pictures)]
    return describe(records, lambda record: record["image"])[0]


@pytest.mark.parametrize(
    "change",
    [
        lambda own: own.crop((3, 0, 300, 298)),
        ImageOps.mirror,
        lambda own: ImageEnhance.Brightness(own).enhance(0.8),
        lambda own: ImageEnhance.Contrast(own).enhance(1.2),
        lambda own: own.convert("L").convert("RGB"),
        lambda own: own.resize((90, 60)),
        lambda own: own.filter(ImageFilter.GaussianBlur(2)),
    ],
)
def test_a_copy_is_known_and_another_picture_is_not(change):
    one, copy, other = described(picture(0), change(picture(0)), picture(1))
    assert likeness(one, copy) > ALIKE > 0.5 > likeness(one, other)


def test_blank_pages_are_copies_and_unreadable_files_of_nothing(tmp_path):
    white, grey, drawn = described(*(Image.new("RGB", (50, 50), (v, v, v)) for v in (255, 90)), picture(0))
    assert likeness(white, grey) == pytest.approx(1) and likeness(white, drawn) < 0.3
    (tmp_path / "broken.jpg").write_bytes(b"no picture")
    found, unreadable = describe([{"file_name": str(tmp_path / "broken.jpg"), "image_id": "0"}] * 2, None)
    assert unreadable == [0, 1] and most_alike(found, np.arange(2), np.arange(2)) == []


def test_leaks_are_between_lists_and_the_first_is_trained_on():
    pictures = [picture(i) for i in (0, 1, 2, 1, 3, 2, 3)]
    rows, lists = described(*pictures), ["a", "a", "b", "b", "b", "c", "c"]
    assert [tuple(pair) for pair in leaks(rows, lists)] == [(3, 1, 1.0), (5, 2, 1.0), (6, 4, 1.0)]
    assert {pair[:2] for pair in leaks(rows, lists, trained_on=5)} == {(5, 2), (6, 4)}
    assert most_alike(rows, np.array([1]), np.arange(7)) == [Pair(1, 3, 1.0)]
