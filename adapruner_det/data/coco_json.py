"""A COCO JSON file as a whole: reading it, and leaving images out of it.

The format: https://cocodataset.org/#format-data
"""

import gc
import json
import os
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

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
        content = json.loads(Path(path).read_bytes())
    except ValueError as error:  # of the JSON or of its UTF-8
        raise ValueError(f"{path} is not readable as JSON: {error}. Write the file anew") from error
    lists: dict[str, Any] = content if isinstance(content, dict) else {}
    missing = [key for key in LISTS if not isinstance(lists.get(key), list)]
    if missing:
        raise ValueError(
            f"{path} has no list {', '.join(map(repr, missing))}: a COCO file of boxes is an object with "
            f"the lists {', '.join(map(repr, LISTS))}"
        )
    return lists


def only_images(content: dict[str, Any], image_ids: Collection[str]) -> dict[str, Any]:
    """The content with the images of these ids and their annotations alone, all else as it was.

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
        more = ", ..." if len(missing) > 5 else ""
        raise ValueError(f"{len(missing)} images are not in it ({', '.join(missing[:5])}{more})")
    annotations = [a for a in content["annotations"] if a["image_id"] in own]
    return {**content, "images": images, "annotations": annotations}
