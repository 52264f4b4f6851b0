"""Small pictures of images and of boxes in them, and where an image's own file is."""

import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps

FOLDER = "thumbnails"
SIDE, CROP_SIDE = 192, 256  # pixels of the longer side
_MARGIN = 0.8  # around a doubtful box, of its longer side
_LEAST_CROP = 48  # pixels of the image
_ROTATION, _TURNED = 0x0112, 5  # EXIF's tag, and the first of its values that swap width and height
_FORMATS = (".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp")  # what a browser shows

ReadImage = Callable[[dict[str, Any]], np.ndarray]


def own_file(record: Mapping[str, Any]) -> str:
    """The file of an image that a browser can open; empty for one in an archive, in memory or of another format."""
    path = record.get("file_name", "")
    return os.path.abspath(path) if "member" not in record and path.lower().endswith(_FORMATS) else ""


def save_thumbnails(
    records: Mapping[int, dict], read_image: "ReadImage | None", folder: Path
) -> dict[int, tuple[int, int]]:
    """Writes <number>.jpg for each record.

    Returns:
        Width and height of the originals by number; images that cannot be read are left out.
    """

    def save(number: int) -> tuple[int, int] | None:
        try:
            image, size = open_image(records[number], read_image, draft=SIDE)
        except OSError:
            return None
        image.thumbnail((SIDE, SIDE))
        image.save(folder / f"{number}.jpg", quality=82)
        return size

    with ThreadPoolExecutor(4) as threads:
        return {number: size for number, size in zip(records, threads.map(save, records)) if size}


def save_crops(
    doubts: Sequence[dict[str, Any]], records: Sequence[dict], read_image: "ReadImage | None", folder: Path
) -> list[dict[str, Any]]:
    """Writes box_<number>.jpg around each doubtful box.

    Returns:
        The doubts, with the picture's address and `view`, the part of the image it shows (XYWH); those of images that
        cannot be read are left out.
    """
    cards: list[dict[str, Any]] = [{} for _ in doubts]
    by_image: dict[int, list[int]] = {}
    for number, doubt in enumerate(doubts):
        by_image.setdefault(doubt["i"], []).append(number)
    for place, numbers in by_image.items():
        try:
            image, _ = open_image(records[place], read_image)
        except OSError:
            continue
        for number in numbers:
            left, top, right, bottom = _around(doubts[number], *image.size)
            crop = image.crop((left, top, right, bottom))
            crop.thumbnail((CROP_SIDE, CROP_SIDE))
            crop.save(folder / f"box_{number}.jpg", quality=85)
            view = [left, top, right - left, bottom - top]
            cards[number] = {**doubts[number], "src": f"{FOLDER}/box_{number}.jpg", "view": view}
    return [card for card in cards if card]


def _around(doubt: dict[str, Any], width: int, height: int) -> tuple[int, int, int, int]:
    """XYXY of a square around its boxes, cut at the image's edge; the whole image where there is no box."""
    boxes = np.array([box for box in map(doubt.get, ("label_box", "seen_box", "other_box")) if box])
    if not len(boxes):
        return 0, 0, width, height
    low, high = boxes[:, :2].min(axis=0), boxes[:, 2:].max(axis=0)
    half = max((0.5 + _MARGIN) * (high - low).max(), _LEAST_CROP / 2)
    left, top = np.clip((low + high) / 2 - half, 0, (width - 1, height - 1)).astype(int).tolist()
    right, bottom = np.clip((low + high) / 2 + half, (left + 1, top + 1), (width, height)).astype(int).tolist()
    return left, top, right, bottom


def open_image(record: dict, read_image: "ReadImage | None", draft: int = 0) -> tuple[Image.Image, tuple[int, int]]:
    """An RGB image turned as its EXIF says, and its size; of a JPEG no more is decoded than `draft` pixels need."""
    file = own_file(record)
    if not file:
        if read_image is None:
            raise OSError(f"{record['image_id']} is no file that Pillow reads")
        image = Image.fromarray(read_image(record))
        return image, image.size
    with Image.open(file) as opened:
        size = opened.size[::-1] if opened.getexif().get(_ROTATION, 1) >= _TURNED else opened.size
        if draft:
            opened.draft("RGB", (draft, draft))
        return ImageOps.exif_transpose(opened).convert("RGB"), size
