"""Small data sets in COCO's format for the tests."""

import json
from pathlib import Path

import cv2
import numpy as np

CATEGORIES = [
    {"id": 7, "name": "white", "supercategory": "square"},
    {"id": 3, "name": "black", "supercategory": "square"},
]


def annotation(number, image_id, bbox, category_id=3, **more):
    """A valid annotation."""
    return {
        "id": number,
        "image_id": image_id,
        "category_id": category_id,
        "bbox": bbox,
        "area": bbox[2] * bbox[3],
        "iscrowd": 0,
        "segmentation": [],
        **more,
    }


def coco_content(num_images=4, seed=0):
    """Images 10, 20, ... in falling order, with one or two squares each, black (3) or white (7)."""
    rng = np.random.default_rng(seed)
    images, annotations = [], []
    for image_id in range(10 * num_images, 0, -10):
        images.append({"id": image_id, "file_name": f"sub/{image_id}.jpg", "width": 64, "height": 48, "license": 1})
        for x in (2.5, 34.25)[: rng.integers(1, 3)]:
            side = float(rng.integers(14, 26))
            box = [x, float(rng.integers(1, 48 - int(side))), side, side]
            annotations.append(annotation(100 + len(annotations), image_id, box, int(rng.choice([3, 7])), note="kept"))
    return {
        "info": {"description": "squares", "year": 2026},
        "licenses": [{"id": 1, "name": "none", "url": ""}],
        "images": images,
        "annotations": annotations,
        "categories": CATEGORIES,
        "extra": {"anything": [1, 2]},
    }


def write_coco(folder: Path, content: dict, name="instances.json") -> Path:
    """Writes the JSON, and pictures of what it says; returns the JSON's path."""
    for place, image in enumerate(content["images"]):
        picture = np.full((image["height"], image["width"], 3), (60 + 20 * place) % 256, np.uint8)
        for entry in content["annotations"]:
            if entry["image_id"] == image["id"]:
                x, y, w, h = map(int, entry["bbox"])
                picture[y : y + h, x : x + w] = 0 if entry["category_id"] == 3 else 255
        file = folder / "images" / image["file_name"]
        file.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(file), picture)
    path = folder / name
    path.write_text(json.dumps(content))
    return path
