#!/usr/bin/env python3
"""Splits a list of a PASCAL VOC folder into parts that have about the same share of every class.

    python datasets/split_voc.py /data/mine trainval --parts train=0.8 val=0.2 --output /data/mine_split
    python tools/train_net.py --register my_train=voc:/data/mine_split:train ...

The new folder holds a list a part, and links to the images and annotations of the old one. The lists it had
are there as well, except those that a new list replaces. Frames of a video: --blocks 100 keeps every 100
consecutive ones (ids sorted by name) on one side, since neighbours that nearly repeat each other would
make a validation list say too much good. To see what a method does to rare classes: --imbalance 6 thins out the
first part, until its rarest class has a sixth of the images of the most frequent one (an image counts for the
rarest class it has a box of).
"""

import argparse
import json
import re
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from stratified_split import stratified_parts
from tabulate import tabulate
from voc_folder import FILE_FOLDERS, list_path, make_folder, other_lists, put

from adapruner_det.data.validation import ON_INVALID
from adapruner_det.data.voc import collect_class_names, load_voc_dataset
from adapruner_det.pruning.class_balance import rarest_class

MAKER = "adapruner_det/datasets/split_voc.py"
VERSION = 1  # raise it whenever the same settings give other lists
NO_BOXES = "(no boxes)"


def split_records(
    records: Sequence[dict], num_classes: int, parts: dict[str, float], seed: int = 0, blocks: int = 1
) -> dict[str, list[dict]]:
    """Divides the records of a data set.

    Args:
        records: as of `load_voc_dataset`; their order does not matter.
        parts: name -> share of the images; the shares sum to 1.
        blocks: how many consecutive records, by id, stay together.

    Returns:
        name -> the records of the part, sorted by id.

    Raises:
        ValueError: a part would get no image.
    """
    records = sorted(records, key=lambda record: record["image_id"])
    starts = np.arange(0, len(records), blocks)
    counts = np.add.reduceat(np.array([_classes_present(r, num_classes) for r in records]), starts)
    sizes = np.diff(starts, append=len(records))
    chosen = stratified_parts(counts, sizes, list(parts.values()), np.random.default_rng(seed))
    part_of = np.repeat(chosen, sizes)
    result = {
        name: [record for record, part in zip(records, part_of) if part == place] for place, name in enumerate(parts)
    }
    empty = [name for name, own in result.items() if not own]
    if empty:
        raise ValueError(
            f"no image for {', '.join(empty)}: {len(records)} images in {len(starts)} blocks of up to "
            f"{blocks} are too few; ask for a larger share, or smaller --blocks"
        )
    return result


def long_tail(records: Sequence[dict], num_classes: int, imbalance: float, rng: np.random.Generator) -> list[dict]:
    """Those of the records that stay when classes are thinned out exponentially.

    Of K classes, in a random order, class k from 0 to K - 1 keeps as many images as the smallest class has, times
    imbalance^(-k / (K - 1)), as in the long-tailed CIFAR of Cui et al. ("Class-Balanced Loss Based on Effective
    Number of Samples", 2019). An image counts for the rarest class it has a box of; those without boxes all stay.

    Raises:
        ValueError: fewer than two classes have images, or the last one would keep none.
    """
    rarest = rarest_class(np.array([_classes_present(r, num_classes)[:num_classes] for r in records]))
    sizes = np.bincount(rarest, minlength=num_classes)[:num_classes]
    classes = rng.permutation(np.flatnonzero(sizes))
    if len(classes) < 2:
        raise ValueError("--imbalance: fewer than two classes have images in the first part")
    smallest = int(sizes[classes].min())
    staying = np.floor(smallest * imbalance ** -np.linspace(0, 1, len(classes)) + 0.5 + 1e-9).astype(int)
    if staying[-1] < 1:
        raise ValueError(f"--imbalance {imbalance:g} leaves nothing of a class: it can be at most {2 * smallest}")
    places = [np.flatnonzero(rarest == num_classes)]
    places += [rng.permutation(np.flatnonzero(rarest == c))[:number] for c, number in zip(classes, staying)]
    return [records[place] for place in np.sort(np.concatenate(places))]


def _classes_present(record: dict, num_classes: int) -> list[int]:
    """1 for each class that the image has a box of; the last entry is for images without boxes."""
    present = {annotation["category_id"] for annotation in record["annotations"]} or {num_classes}
    return [int(c in present) for c in range(num_classes + 1)]


def split_voc(
    data: Path,
    split: str,
    parts: dict[str, float],
    output: Path,
    seed: int = 0,
    blocks: int = 1,
    copy: bool = False,
    on_invalid: str = "clip",
    imbalance: float = 1.0,
) -> str:
    """Makes the folder of the parts, unless it is there already; returns what to tell about it.

    Raises:
        ValueError, FileNotFoundError: the data cannot be read (see `load_voc_dataset`), or the settings
            cannot be met.
        FileExistsError: `output` holds something else.
    """
    check_settings(parts, seed, blocks, imbalance)
    classes = collect_class_names(data)
    records = load_voc_dataset(data, split, classes, on_invalid)
    divided = split_records(records, len(classes), parts, seed, blocks)
    if imbalance > 1:
        first = next(iter(parts))
        divided[first] = long_tail(divided[first], len(classes), imbalance, np.random.default_rng(seed))
    settings = {"list": split, "parts": parts, "seed": seed, "blocks": blocks, "copy": copy}
    settings["on_invalid"] = on_invalid
    if imbalance > 1:
        settings["imbalance"] = imbalance
    record = {"made_by": MAKER, "version": VERSION, "settings": settings}
    texts = {list_path(name): _lines(own) for name, own in divided.items()}
    texts["split.json"] = json.dumps(record, indent=1) + "\n"

    def fill(folder: Path) -> None:
        for name in FILE_FOLDERS:
            put(data / name, folder / name, copy)
        for name in [split, *other_lists(data, split)]:
            # a list of VOC's by class, such as dog_train, belongs to the train that was
            if not any(name == part or name.endswith(f"_{part}") for part in parts):
                shutil.copyfile(data / list_path(name), folder / list_path(name))

    made = make_folder(output, texts, fill)
    return f"{output}{'' if made else ' (was there already)'}\n{table(divided, classes)}"


def check_settings(parts: dict[str, float], seed: int, blocks: int, imbalance: float) -> None:
    """Raises ValueError, naming the setting."""
    unfit = [name for name in parts if not re.fullmatch(r"\w[\w.-]*", name)]
    if unfit:
        raise ValueError(f"--parts: {unfit[0]!r} is no name for a list: letters, digits, '_', '-' and '.'")
    if len(parts) < 2 or min(parts.values()) <= 0 or abs(sum(parts.values()) - 1) > 1e-6:
        given = " ".join(f"{name}={share:g}" for name, share in parts.items())
        raise ValueError(f"--parts {given}: two parts or more, each above 0, 1 together")
    if seed < 0:
        raise ValueError(f"--seed is {seed}; it has to be 0 or more")
    if blocks < 1:
        raise ValueError(f"--blocks is {blocks}; it has to be at least 1")
    if not 1 <= imbalance < float("inf"):
        raise ValueError(f"--imbalance is {imbalance:g}; it is a ratio, at least 1 (off)")


def _lines(records: Sequence[dict]) -> str:
    return "".join(f"{record['image_id']}\n" for record in records)


def table(divided: dict[str, list[dict]], classes: Sequence[str]) -> str:
    """Images of each part that have a box of each class, and their share of the part."""
    present = {
        name: np.sum([_classes_present(record, len(classes)) for record in own], axis=0)
        for name, own in divided.items()
    }
    rows = [["images", *(f"{len(own)}" for own in divided.values())]]
    for place, label in enumerate([*classes, NO_BOXES]):
        counts = {name: own[place] for name, own in present.items()}
        if any(counts.values()):
            rows.append([label, *(f"{n} ({n / len(divided[name]):.3f})" for name, n in counts.items())])
    return tabulate(rows, headers=["images with", *divided], tablefmt="github", disable_numparse=True)


def part(text: str) -> "tuple[str, float]":
    """NAME=SHARE of the command line."""
    name, _, share = text.rpartition("=")
    try:
        return name, float(share)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=SHARE, such as train=0.8") from None


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, metavar="DATA", help="the VOC folder")
    parser.add_argument("split", metavar="LIST", help="a list in its ImageSets/Main, without .txt")
    parser.add_argument(
        "--parts", type=part, nargs="+", required=True, metavar="NAME=SHARE", help="such as train=0.8 val=0.2"
    )
    parser.add_argument("--output", type=Path, required=True, metavar="DIR", help="the folder to make")
    parser.add_argument("--seed", type=int, default=0, help="same seed, same parts [%(default)s]")
    parser.add_argument(
        "--blocks", type=int, default=1, metavar="K", help="consecutive images kept together [%(default)s]"
    )
    parser.add_argument(
        "--imbalance",
        type=float,
        default=1.0,
        metavar="X",
        help="thin out the classes of the first part exponentially, to a ratio of X between the most frequent and the "
        "rarest [%(default)s, off]",
    )
    parser.add_argument("--copy", action="store_true", help="copy images and annotations; default: link them")
    parser.add_argument(
        "--on-invalid", default="clip", choices=ON_INVALID, help="what to do about broken images and boxes"
    )
    args = parser.parse_args()
    if len(dict(args.parts)) < len(args.parts):
        parser.error("--parts names a part twice")
    args.parts = dict(args.parts)
    return args


def main() -> None:
    try:
        print(split_voc(**vars(parse_args())))
    except (ValueError, OSError) as error:
        raise SystemExit(f"split_voc.py: {error}") from error


if __name__ == "__main__":
    main()
