"""A COCO JSON file as a whole: reading it, and leaving images out of it.

The format: https://cocodataset.org/#format-data
"""

import gc
import json
import os
import re
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ..pruning.names import first_few

LISTS = ("images", "annotations", "categories")


@contextmanager
def without_garbage_collection() -> Iterator[None]:
    """For building millions of objects: looking through them for cycles takes longer than making them."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


@without_garbage_collection()
def read_coco_json(path: "str | os.PathLike[str]") -> dict[str, Any]:
    """The content of a COCO file with its lists of images, annotations and categories.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is not JSON, or one of the three lists is missing.
    """
    try:
        if not Path(path).is_file() and Path(path).exists():
            raise ValueError("it is no regular file")
        content = json.loads(Path(path).read_bytes())
    except (ValueError, RecursionError) as error:  # of the JSON or of its UTF-8
        raise ValueError(f"{path} is not readable as JSON: {error}. Write the file anew") from error
    lists: dict[str, Any] = content if isinstance(content, dict) else {}
    missing = [key for key in LISTS if not isinstance(lists.get(key), list)]
    if missing:
        raise ValueError(
            f"{path} has no list {', '.join(map(repr, missing))}: a COCO file of boxes is an object with "
            f"the lists {', '.join(map(repr, LISTS))}"
        )
    return with_plain_ids(lists)


def with_plain_ids(content: dict[str, Any]) -> dict[str, Any]:
    """The content with ids that refer to each other by what they say, in place: tools put some into quotes.

    Category ids that are numbers in quotes become numbers. An annotation's image id becomes that of the image, where
    one of the two is in quotes.
    """
    image_ids = {str(i["id"]): i["id"] for i in content["images"] if isinstance(i, dict) and _is_id(i.get("id"))}
    for entries, key in (("categories", "id"), ("annotations", "category_id")):
        for entry in content[entries]:
            value = entry.get(key) if isinstance(entry, dict) else None
            if isinstance(value, str) and re.fullmatch("[0-9]{1,18}", value):
                entry[key] = int(value)
    for entry in content["annotations"]:
        if isinstance(entry, dict) and _is_id(entry.get("image_id")):
            entry["image_id"] = image_ids.get(str(entry["image_id"]), entry["image_id"])
    return content


def _is_id(value: Any) -> bool:
    return isinstance(value, (int, str))


def has_no_area(annotation: dict[str, Any]) -> bool:
    """Whether its box has width or height 0. No such object is read, whatever `on_invalid` says."""
    box = annotation.get("bbox")
    return isinstance(box, list) and len(box) == 4 and 0 in box[2:]


def only_images(content: dict[str, Any], image_ids: Collection[str]) -> dict[str, Any]:
    """The content with the images of these ids and their annotations alone, all else as it was.

    Objects without area, which DATASETS.ON_INVALID left out, go too, so that the content can be read as it is.

    Args:
        image_ids: ids as strings, as a Selection has them.

    Raises:
        ValueError: an id that the content lacks.
    """
    wanted = set(image_ids)
    images = [image for image in content["images"] if str(image["id"]) in wanted]
    own = {image["id"] for image in images}
    missing = sorted(wanted - set(map(str, own)))
    if missing:
        raise ValueError(f"{len(missing)} images are not in it ({first_few(missing)})")
    annotations = [a for a in content["annotations"] if a["image_id"] in own and not has_no_area(a)]
    return {**content, "images": images, "annotations": annotations}
