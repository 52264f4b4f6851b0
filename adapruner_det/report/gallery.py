"""What every page shows of N images: their cards, as columns for the script, and thumbnails beside the page."""

import os
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined

from ..data.pruned_datasets import corners
from ..files import write_text
from .thumbnails import ReadImage, own_file, save_thumbnails

ALL_THUMBNAILS = 3000  # images: of more, those in no section are shown from their own files


def write_page(path: Path, template: str, data: Mapping[str, Any], **facts: Any) -> Path:
    """Renders a template with `data`, which its script reads, and `facts`; returns the path.

    Args:
        data: as `columns` and `pictures` give it, and the reasons, numbers and sections of this page (templates/page.js).
    """
    environment = Environment(
        loader=PackageLoader("adapruner_det.report"), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    environment.policies["json.dumps_kwargs"] = {"separators": (",", ":"), "allow_nan": False}
    write_text(path, environment.get_template(template).render(data=data, **facts))
    return path


def columns(records: Sequence[dict], class_names: Sequence[str]) -> dict[str, Any]:
    """Names and labels of the images, each list by the place of an image."""
    datasets = list(dict.fromkeys(record["dataset_name"] for record in records))
    return {
        "datasets": datasets,
        "classes": list(class_names),
        "id": [str(record["image_id"]) for record in records],
        "dataset": [datasets.index(record["dataset_name"]) for record in records],
        "label": [record.get("category_id", -1) for record in records],
        "boxes": [np.rint(boxes_of(record)).astype(int).ravel().tolist() for record in records],
    }


def pictures(
    records: Sequence[dict], needed: Collection[int], read_image: "ReadImage | None", beside: Path, place: Path
) -> tuple[dict[str, Any], int]:
    """Writes thumbnails; of more than ALL_THUMBNAILS images only those that are `needed` or are no files of their own.

    Args:
        needed: places of images that are shown at once.
        beside: an empty folder for them, which will take the place of `place`.
        place: the folder beside the page that will hold them.

    Returns:
        "src", addresses, none of those that cannot be read, and "size", width and height, of the images; how many
        could not be read.
    """
    files = [own_file(record) for record in records]
    shown = set(range(len(files)))
    if len(files) > ALL_THUMBNAILS:
        shown = {int(i) for i in needed}
    read = save_thumbnails({i: records[i] for i in sorted(shown)}, read_image, beside)
    sizes = [read.get(i) or (r.get("width", 0), r.get("height", 0)) for i, r in enumerate(records)]
    addresses = [quote(os.path.relpath(file, place.parent)) if file else "" for file in files]
    addresses = [f"{place.name}/{i}.jpg" if i in read else "" if i in shown else own for i, own in enumerate(addresses)]
    return {"src": addresses, "size": sizes}, len(shown) - len(read)


def boxes_of(record: dict[str, Any]) -> np.ndarray:
    """(M, 5) class and XYXY corners of an image's labels, crowds left out; (0, 5) for classification."""
    rows = [
        [label["category_id"], *corners(label)]
        for label in record.get("annotations", [])
        if not label.get("iscrowd", 0)
    ]
    return np.array(rows, float).reshape(-1, 5)


def rounded(values: Sequence) -> list:
    """Numbers for the script: four decimals, None for none."""
    return [None if value is None else round(float(value), 4) for value in values]
