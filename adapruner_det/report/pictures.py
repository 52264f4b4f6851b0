"""A picture of a selection: which images went, and which stayed."""

import io
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib.patheffects as patheffects
from detectron2.structures import BoxMode
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from PIL import Image

from ..files import write_bytes
from ..pruning import Selection
from ..pruning.decision import REASON_COLUMN, SIMILAR_TO_COLUMN
from .thumbnails import ReadImage

# Okabe and Ito's palette, which colour-blind readers can tell apart, without black
CLASS_COLOURS = "#56B4E9 #E69F00 #009E73 #F0E442 #D55E00 #CC79A7 #0072B2".split()
KEPT_COLOUR, PRUNED_COLOUR = "#0072B2", "#E69F00"

MAX_IMAGES = 18  # of each block: more are not looked at, and would make the captions too small
MAX_BYTES = 1_500_000
DPI = 120
# Inches on the sheet
CELL, CAPTION, TITLE = 1.9, 0.6, 0.5
COLUMNS = 6
MIN_WIDTH = 5.0  # what a title needs
CAPTION_CHARS = 24


def save_selection_sheet(
    path: "str | Path",
    selection: Selection,
    records: Sequence[dict[str, Any]],
    class_names: Sequence[str],
    read_image: ReadImage,
) -> None:
    """Writes one PNG with the images pruned first and the images kept most firmly.

    Each block is sorted by score and shows its first `MAX_IMAGES` images, and its title says how many
    there are. Ground-truth boxes are drawn with their class; an image's own class stands below it, and
    why it goes or stays. Images that did not compete are in no block.

    Args:
        path: of the PNG, at most `MAX_BYTES` long; written atomically.
        records: dataset dicts of the images of the selection, in its order.
        class_names: indexed by `category_id`, of the annotations or of a classification image.
        read_image: from a dataset dict to its (H, W, 3) uint8 RGB pixels.

    Raises:
        ValueError: no image competed, or an annotation's class has no name.
        FileNotFoundError: an image is not there.
    """
    scores, reasons = selection.scores, _reasons(selection)
    competed = ((score, selection.ids[i], i) for i, score in enumerate(scores) if score is not None)
    order = [i for *_, i in sorted(competed)]
    if not order:
        raise ValueError(f"{path}: neither kept nor pruned images were given to draw")
    blocks = [
        ("Pruned (lowest scores first)", PRUNED_COLOUR, [i for i in order if not selection.kept[i]]),
        ("Kept (highest scores first)", KEPT_COLOUR, [i for i in order[::-1] if selection.kept[i]]),
    ]
    blocks = [block for block in blocks if block[2]]
    columns = min(COLUMNS, max(len(images) for *_, images in blocks))
    rows = [math.ceil(min(len(images), MAX_IMAGES) / columns) for *_, images in blocks]
    heights = [TITLE + (CELL + CAPTION) * number for number in rows]
    figure = Figure(figsize=(max(columns * CELL, MIN_WIDTH), sum(heights)), layout="constrained")
    subfigures = figure.subfigures(len(blocks), 1, squeeze=False, height_ratios=heights)[:, 0]
    for subfigure, number, (title, colour, images) in zip(subfigures, rows, blocks):
        subfigure.suptitle(f"{title}: {_count(images)}", color=colour, fontsize=13, fontweight="bold")
        axes = subfigure.subplots(number, columns, squeeze=False)
        for ax in axes.flat[min(len(images), MAX_IMAGES) :]:
            ax.remove()
        for ax, i in zip(axes.flat, images[:MAX_IMAGES]):
            _draw_image(ax, records[i], f"{scores[i]:+.3f}", reasons[i], class_names, read_image)
    save_png(figure, path)


def _reasons(selection: Selection) -> list[str]:
    if REASON_COLUMN not in selection.columns:
        return [""] * len(selection)
    told = zip(selection.columns[REASON_COLUMN], selection.columns[SIMILAR_TO_COLUMN])
    return [f"like {like}" if like else reason or "" for reason, like in told]


def _count(images: Sequence[int]) -> str:
    count = f"{len(images):,} image" + ("s" if len(images) != 1 else "")
    return f"{MAX_IMAGES} of {count}" if len(images) > MAX_IMAGES else count


def _draw_image(
    ax, record: dict[str, Any], score: str, reason: str, class_names: Sequence[str], read_image: ReadImage
) -> None:
    """Draws a thumbnail with its boxes and, below, its id, class, score and reason."""
    image = Image.fromarray(read_image(record))
    width, height = image.size
    image.thumbnail((round(CELL * DPI),) * 2)
    # The extent keeps the axes in the original's pixels, so boxes need no scaling
    ax.imshow(image, extent=(0, width, height, 0))
    ax.set(xticks=[], yticks=[], frame_on=False, anchor="S")
    own_class = f"{class_names[record['category_id']]} " if "category_id" in record else ""
    lines = [_shorten(str(record["image_id"])), f"{own_class}{score}", reason]
    ax.set_xlabel("\n".join(lines).rstrip(), fontsize=8, labelpad=3, parse_math=False)
    for annotation in record.get("annotations", []):
        number = annotation["category_id"]
        if not 0 <= number < len(class_names):
            raise ValueError(
                f"image {record['image_id']!r}: category_id {number} has no name among the {len(class_names)} "
                "class names given"
            )
        box = BoxMode.convert(annotation["bbox"], annotation["bbox_mode"], BoxMode.XYXY_ABS)
        _draw_box(ax, box, class_names[number], CLASS_COLOURS[number % len(CLASS_COLOURS)])


def _draw_box(ax, box: Sequence[float], name: str, colour: str) -> None:
    x0, y0, x1, y1 = box
    # Dark edges make the light colours visible on light images
    halo = [patheffects.withStroke(linewidth=2.0, foreground="black", alpha=0.6)]
    ax.add_patch(Rectangle((x0, y0), x1 - x0, y1 - y0, fill=False, lw=1.0, color=colour, path_effects=halo))
    background = {"facecolor": colour, "edgecolor": "none", "pad": 0.6, "alpha": 0.85}
    ax.text(x0, y0, name, fontsize=6, va="top", parse_math=False, clip_on=True, bbox=background)


def _shorten(image_id: str) -> str:
    """Cuts a long id in the middle: its end is what tells it from its neighbours."""
    if len(image_id) <= CAPTION_CHARS:
        return image_id
    return image_id[:7] + "…" + image_id[8 - CAPTION_CHARS :]


def save_png(figure: Figure, path: "str | Path", dpi: float = DPI) -> None:
    """Writes a figure of at most `MAX_BYTES`, whole or not at all; lowers the resolution if need be."""
    content = _png(figure, dpi)
    while len(content) > MAX_BYTES:
        # Bytes grow with the pixels, a little slower than dpi squared
        dpi *= 0.95 * math.sqrt(MAX_BYTES / len(content))
        content = _png(figure, dpi)
    write_bytes(path, content)


def _png(figure: Figure, dpi: float) -> bytes:
    picture = io.BytesIO()
    figure.savefig(picture, format="png", dpi=dpi)
    return picture.getvalue()
