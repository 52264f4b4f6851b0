"""Pictures of a selection: which images went, which stayed, and how their scores are distributed.

Figures are made as `matplotlib.figure.Figure`, so that neither pyplot nor the caller's backend is
touched.
"""

import math
import os
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import matplotlib.patheffects as patheffects
import numpy as np
from detectron2.structures import BoxMode
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from PIL import Image

ScoredImage = tuple[dict[str, Any], float]
ReadImage = Callable[[dict[str, Any]], np.ndarray]

# Okabe and Ito's palette, which colour-blind readers can tell apart, without black
CLASS_COLOURS = "#56B4E9 #E69F00 #009E73 #F0E442 #D55E00 #CC79A7 #0072B2".split()
CLASS_LINES = ("-", "--", ":")  # the colours come round once with each, enough for VOC's 20 classes
KEPT_COLOUR, PRUNED_COLOUR = "#0072B2", "#E69F00"

MAX_IMAGES = 18  # of each block: more are not looked at, and would make the captions too small
MAX_BYTES = 1_500_000
DPI = 120

# Inches on the sheet
CELL = 1.9
CAPTION = 0.56
TITLE = 0.5
GAP = 0.1
MIN_WIDTH = 5.0  # what a title needs
CAPTION_CHARS = 24
NAME_SIZE = 6  # points
FEW_BOXES = 3  # with so few, a name is drawn above a box that is too small to hold it


class _Thumbnail(NamedTuple):
    """A picture to draw: width and height are the original's, in pixels."""

    dataset_dict: dict[str, Any]
    score: float
    image: Image.Image
    width: int
    height: int


class _Block(NamedTuple):
    """One half of the sheet: its images in rows."""

    title: str
    colour: str
    rows: list[list[_Thumbnail]]


def save_selection_sheet(
    path: str,
    kept: Sequence[ScoredImage],
    pruned: Sequence[ScoredImage],
    class_names: Sequence[str],
    read_image: ReadImage,
    columns: int = 6,
) -> None:
    """Writes one PNG with the images pruned first and the images kept most firmly.

    Both lists may be complete: each block is sorted by score and shows its first `MAX_IMAGES`
    images, and its title says how many there are. Ground-truth boxes are drawn in the colour of
    their class, with its name where there is room for it; an image's own class stands below it. The
    resolution is lowered until the file is at most `MAX_BYTES` long.

    Args:
        path: of the PNG; written atomically.
        kept: (dataset dict, score) of the images that were kept. Why an image goes or stays, in the dict's `reason`,
            stands below it.
        pruned: the same of those that were pruned.
        class_names: indexed by `category_id`, of the annotations or of a classification image.
        read_image: from a dataset dict to its (H, W, 3) uint8 RGB pixels.
        columns: thumbnails in a row.

    Raises:
        ValueError: both lists are empty, or an annotation's class has no name.
        FileNotFoundError: an image is not there.
    """
    if not kept and not pruned:
        raise ValueError(f"{path}: neither kept nor pruned images were given to draw")
    blocks = [
        _make_block("Pruned (lowest scores first)", PRUNED_COLOUR, pruned, columns, False, read_image),
        _make_block("Kept (highest scores first)", KEPT_COLOUR, kept, columns, True, read_image),
    ]
    blocks = [block for block in blocks if block.rows]
    used = _used_classes(blocks, class_names)

    in_a_row = max(len(row) for block in blocks for row in block.rows)
    width = max(GAP + in_a_row * (CELL + GAP), MIN_WIDTH)
    legend_columns = max(1, int(width / 1.4))
    legend_height = 0.1 + 0.25 * math.ceil(len(used) / legend_columns)
    height = sum(_block_height(block) for block in blocks) + legend_height
    figure = Figure(figsize=(width, height), facecolor="white")
    top = height
    for block in blocks:
        _draw_block(figure, top, block, class_names)
        top -= _block_height(block)
    if used:
        figure.legend(
            handles=[Line2D([], [], lw=2.5, label=class_names[c], **_line(c)) for c in used],
            loc="lower center",
            ncols=min(legend_columns, len(used)),
            frameon=False,
            fontsize=9,
        )
    save_png(figure, path)


def save_score_histogram(path: str, scores: Sequence[float], kept: Sequence[bool]) -> None:
    """Writes a PNG with the distribution of the mask logits, kept and pruned in two colours.

    The threshold is drawn where one separates the two: at 0, where the mask is binarised, or, for
    a selection cut at another ratio, half-way between the highest pruned and the lowest kept.

    Args:
        path: of the PNG; written atomically.
        scores: (N,) mask logits.
        kept: (N,) whether the image was kept.

    Raises:
        ValueError: no scores, a score that is not finite, or the lengths differ.
    """
    scores, kept = np.asarray(scores, np.float64), np.asarray(kept, bool)
    if scores.ndim != 1 or scores.shape != kept.shape or len(scores) == 0:
        raise ValueError(
            f"{path}: needs one score and one kept flag an image, got shapes {scores.shape} and {kept.shape}"
        )
    if not np.isfinite(scores).all():
        raise ValueError(f"{path}: {int((~np.isfinite(scores)).sum())} scores are not finite")

    figure = Figure(figsize=(7.5, 3.8), layout="constrained")
    threshold = _threshold(scores, kept)
    ax = figure.add_subplot()
    groups = (("pruned", PRUNED_COLOUR, scores[~kept]), ("kept", KEPT_COLOUR, scores[kept]))
    ax.hist(
        [values for _, _, values in groups],
        bins=_bin_edges(scores, threshold),
        stacked=True,
        color=[colour for _, colour, _ in groups],
        label=[f"{n}: {len(v):,} ({len(v) / len(scores):.1%})" for n, _, v in groups],
    )
    if threshold is not None:
        ax.axvline(threshold, color="black", ls="--", lw=1.2, label=f"threshold {threshold:.4g}")
    ax.set_xlabel("mask logit")
    ax.set_ylabel("images")
    ax.set_title(f"{len(scores):,} images", loc="left", fontsize=11)
    ax.spines[["top", "right"]].set_visible(False)
    figure.legend(loc="outside upper right", ncols=3, frameon=False)
    save_png(figure, path)


def _threshold(scores: np.ndarray, kept: np.ndarray) -> float | None:
    if kept.all() or not kept.any():
        return None
    highest_pruned, lowest_kept = scores[~kept].max(), scores[kept].min()
    if highest_pruned > lowest_kept:
        return None
    return 0.0 if highest_pruned <= 0 < lowest_kept else (highest_pruned + lowest_kept) / 2


def _bin_edges(scores: np.ndarray, threshold: float | None) -> np.ndarray:
    """About 50 bins, one of which begins at the threshold, so that no bar straddles it."""
    step = np.ptp(scores) / 50 or 1.0
    origin = scores.min() if threshold is None else threshold
    first, last = np.floor((scores.min() - origin) / step), np.ceil((scores.max() - origin) / step)
    # One to spare on either side, where rounding would leave the extremes out
    return origin + step * np.arange(first - 1, last + 2)


def _make_block(
    title: str, colour: str, images: Sequence[ScoredImage], columns: int, highest_first: bool, read_image: ReadImage
) -> _Block:
    ordered = sorted(images, key=lambda i: (i[1], str(i[0]["image_id"])), reverse=highest_first)
    shown = [_make_thumbnail(d, score, read_image) for d, score in ordered[:MAX_IMAGES]]
    count = f"{len(images):,} image" + ("s" if len(images) != 1 else "")
    if len(shown) < len(images):
        count = f"{len(shown)} of {count}"
    rows = [shown[i : i + columns] for i in range(0, len(shown), columns)]
    return _Block(f"{title}: {count}", colour, rows)


def _make_thumbnail(d: dict[str, Any], score: float, read_image: ReadImage) -> _Thumbnail:
    image = Image.fromarray(read_image(d))
    width, height = image.size
    image.thumbnail((round(CELL * DPI),) * 2)
    return _Thumbnail(d, score, image, width, height)


def _row_height(row: list[_Thumbnail]) -> float:
    """Inches the pictures of a row need, each scaled to fit a square of CELL inches."""
    return CELL * max(t.height / max(t.width, t.height) for t in row)


def _block_height(block: _Block) -> float:
    return TITLE + sum(_row_height(row) + CAPTION + GAP for row in block.rows)


def _line(category_id: int) -> dict[str, str]:
    turn, colour = divmod(category_id, len(CLASS_COLOURS))
    return {"color": CLASS_COLOURS[colour], "linestyle": CLASS_LINES[turn % len(CLASS_LINES)]}


def _used_classes(blocks: Sequence[_Block], class_names: Sequence[str]) -> list[int]:
    used = set()
    for d in (t.dataset_dict for block in blocks for row in block.rows for t in row):
        for annotation in d.get("annotations", []):
            if not 0 <= annotation["category_id"] < len(class_names):
                raise ValueError(
                    f"image {d['image_id']!r}: category_id {annotation['category_id']} has no "
                    f"name among the {len(class_names)} class names given"
                )
            used.add(annotation["category_id"])
    return sorted(used)


def _draw_block(figure: Figure, top: float, block: _Block, class_names: Sequence[str]) -> None:
    """Draws title and thumbnails downwards from `top`, in inches from the figure's lower edge."""
    width, height = figure.get_size_inches()
    figure.text(GAP / width, (top - 0.6 * TITLE) / height, block.title, fontsize=13, fontweight="bold", va="center")
    y = (top - 0.9 * TITLE) / height
    figure.add_artist(Line2D([GAP / width, 1 - GAP / width], [y, y], color=block.colour, lw=3))
    top -= TITLE
    for row in block.rows:
        row_height = _row_height(row)
        top -= GAP + row_height
        for column, thumbnail in enumerate(row):
            left = GAP + column * (CELL + GAP)
            ax = figure.add_axes((left / width, top / height, CELL / width, row_height / height), anchor="S")
            _draw_thumbnail(ax, thumbnail, class_names)
        top -= CAPTION


def _draw_thumbnail(ax, thumbnail: _Thumbnail, class_names: Sequence[str]) -> None:
    # The extent keeps the axes in the original's pixels, so boxes need no scaling
    ax.imshow(thumbnail.image, extent=(0, thumbnail.width, thumbnail.height, 0))
    ax.set(xticks=[], yticks=[])
    ax.spines[:].set_visible(False)
    image_id = _shorten(str(thumbnail.dataset_dict["image_id"]))
    category = thumbnail.dataset_dict.get("category_id")
    own_class = "" if category is None else f"{class_names[category]} "
    reason = thumbnail.dataset_dict.get("reason")
    caption = f"{image_id}\n{own_class}{thumbnail.score:+.3f}" + (f"\n{reason}" if reason else "")
    ax.set_xlabel(caption, fontsize=8, labelpad=3, parse_math=False)
    points_per_pixel = 72 * CELL / max(thumbnail.width, thumbnail.height)
    annotations = thumbnail.dataset_dict.get("annotations", [])
    for annotation in annotations:
        box = BoxMode.convert(annotation["bbox"], annotation["bbox_mode"], BoxMode.XYXY_ABS)
        name, line = class_names[annotation["category_id"]], _line(annotation["category_id"])
        _draw_box(ax, box, line)
        if _has_room(box, name, points_per_pixel):
            _draw_name(ax, box, name, line["color"], above=False)
        elif len(annotations) <= FEW_BOXES:
            _draw_name(ax, box, name, line["color"], above=True)


def _draw_box(ax, box: Sequence[float], line: dict[str, str]) -> None:
    x0, y0, x1, y1 = box
    # Dark edges make the light colours visible on light images
    halo = [patheffects.withStroke(linewidth=2.0, foreground="black", alpha=0.6)]
    ax.add_patch(Rectangle((x0, y0), x1 - x0, y1 - y0, fill=False, lw=1.0, path_effects=halo, **line))


def _has_room(box: Sequence[float], name: str, points_per_pixel: float) -> bool:
    width, height = (box[2] - box[0]) * points_per_pixel, (box[3] - box[1]) * points_per_pixel
    return width >= 0.65 * NAME_SIZE * len(name) + 1 and height >= 1.6 * NAME_SIZE


def _draw_name(ax, box: Sequence[float], name: str, colour: str, above: bool) -> None:
    ax.text(
        box[0],
        box[1],
        name,
        fontsize=NAME_SIZE,
        va="bottom" if above else "top",
        parse_math=False,
        clip_on=True,
        bbox=dict(facecolor=colour, edgecolor="none", pad=0.6, alpha=0.85),
    )


def _shorten(image_id: str) -> str:
    """Cuts a long id in the middle: its end is what tells it from its neighbours."""
    if len(image_id) <= CAPTION_CHARS:
        return image_id
    return image_id[:7] + "…" + image_id[8 - CAPTION_CHARS :]


def save_png(figure: Figure, path: str) -> None:
    """Writes a figure of at most `MAX_BYTES`, whole or not at all; lowers the resolution if need be."""
    partial = path + ".partial"
    os.makedirs(os.path.dirname(os.path.abspath(path)), exist_ok=True)
    dpi = DPI
    figure.savefig(partial, format="png", dpi=dpi)
    while os.path.getsize(partial) > MAX_BYTES:
        # Bytes grow with the pixels, a little slower than dpi squared
        dpi *= 0.95 * math.sqrt(MAX_BYTES / os.path.getsize(partial))
        figure.savefig(partial, format="png", dpi=dpi)
    os.replace(partial, path)
