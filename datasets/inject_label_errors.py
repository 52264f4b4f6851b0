#!/usr/bin/env python3
"""Injects label errors and near-duplicates into a list of a PASCAL VOC folder, to see what pruning makes of them.

    python datasets/inject_label_errors.py /data/mine train --output /data/mine_injected
    python tools/train_net.py --register my_train=voc:/data/mine_injected:train ... OUTPUT_DIR output/injected
    python tools/selection.py injected output/injected/selection --injected /data/mine_injected/injected.json

The new folder holds the list with near-duplicates added, and wrong labels in some of its images; images and
annotations that stay as they are, are links to the old ones. `injected.json` says what went where. Other
lists stay clean: those that share an image with the list are left out.
"""

import argparse
import json
import shutil
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from synthetic_errors import (
    LabelledImage,
    Plan,
    Shares,
    altered_picture,
    changed_annotation,
    moved_objects,
    plain_number,
    plan_errors,
)
from voc_folder import list_path, make_folder, other_lists, put

from adapruner_det.data.voc import IMAGE_SUFFIXES, collect_class_names, index_files, load_voc_dataset, read_annotation

MAKER = "adapruner_det/datasets/inject_label_errors.py"
VERSION = 1  # raise it whenever the same settings give other files
INJECTED = "injected.json"
DEFAULTS = Shares(duplicates=0.1, wrong_classes=0.05, shifted_boxes=0.05, missing_boxes=0.05)


class Source:
    """The files of the VOC folder that errors are injected into.

    Raises:
        ValueError, FileNotFoundError: the list cannot be read, or images or boxes of it are broken.
    """

    def __init__(self, data: Path, split: str):
        if there := [data / name for name in (INJECTED, "planted.json") if (data / name).exists()]:  # formerly so
            raise ValueError(f"{there[0]}: errors are injected there already; start from clean data")
        self.data = data
        self.classes = collect_class_names(data)
        records = load_voc_dataset(data, split, self.classes)
        self.pictures = _paths(data, "JPEGImages", IMAGE_SUFFIXES)
        self.pictures.update({r["image_id"]: Path(r["file_name"]) for r in records})
        self.annotations = _paths(data, "Annotations", (".xml",))
        self.images = {r["image_id"]: self._labelled(r) for r in records}
        self.clean_lists = [name for name, ids in other_lists(data, split).items() if not ids & self.images.keys()]

    def _labelled(self, record: dict) -> LabelledImage:
        objects = read_annotation(self.annotations[record["image_id"]]).objects
        return LabelledImage(record["image_id"], (record["width"], record["height"]), objects)


def _paths(data: Path, name: str, suffixes: tuple[str, ...]) -> dict[str, Path]:
    return {image_id: Path(files[0]) for image_id, files in index_files(data, name, suffixes).items()}


def inject_label_errors(
    data: Path, split: str, output: Path, shares: Shares = DEFAULTS, seed: int = 0, copy: bool = False
) -> dict[str, Any]:
    """Makes the folder, unless it is there already.

    Args:
        data: a VOC folder.
        split: the list to change.
        output: the folder to make.
        shares: of the list's images; near-duplicates are added to them.
        copy: copy what stays as it is, instead of linking it.

    Returns:
        The content of injected.json, in make_demo_set.py's form: "made_by", "version", "settings";
        "classes"; "near_duplicate_of" (id -> id of its original); "wrong_label" (id -> "kind": "class",
        "box" or "missing", and "objects": true name and VOC box of each object in question).

    Raises:
        ValueError, FileNotFoundError: the data or the settings are not fit for it.
        FileExistsError: `output` holds something else.
    """
    source = Source(data, split)
    plan = plan_errors(list(source.images.values()), shares, seed)
    clash = sorted(plan.copies.keys() & (source.pictures.keys() | source.annotations.keys()))
    if clash:
        raise ValueError(f"{data} has an image {clash[0]} already, the name of a near-duplicate: rename it")
    record = {
        "made_by": MAKER,
        "version": VERSION,
        "settings": {"list": split, "seed": seed, **asdict(shares), "copy": copy},
        "classes": source.classes,
        **injected_where(plan, source.images),
    }
    texts = {
        list_path(split): "".join(f"{i}\n" for i in mixed_list(source.images, plan, seed)),
        INJECTED: json.dumps(record, indent=1) + "\n",
    }
    make_folder(output, texts, lambda folder: write_files(source, plan, folder, seed, copy))
    return record


def injected_where(plan: Plan, images: dict[str, LabelledImage]) -> dict[str, Any]:
    """The two entries of injected.json that say what is where."""
    wrong_label = {}
    for image_id, wrong in sorted(plan.wrong.items()):
        truth = [obj for obj in images[image_id].objects if obj.number in wrong.changes]
        objects = [{"name": obj.name, "bndbox": list(map(plain_number, obj.box))} for obj in truth]
        wrong_label[image_id] = {"kind": wrong.kind, "objects": objects}
    return {
        "near_duplicate_of": {new: old for new, (old, _) in sorted(plan.copies.items())},
        "wrong_label": wrong_label,
    }


def mixed_list(images: dict[str, LabelledImage], plan: Plan, seed: int) -> list[str]:
    """All ids in random order: sorted, each copy would follow its original."""
    ids = sorted([*images, *plan.copies])
    return [ids[i] for i in np.random.default_rng(seed).permutation(len(ids))]


def write_files(source: Source, plan: Plan, folder: Path, seed: int, copy: bool) -> None:
    """Writes images, annotations and the clean lists into the new folder."""
    pictures, annotations = folder / "JPEGImages", folder / "Annotations"
    pictures.mkdir()
    annotations.mkdir()
    for file in source.pictures.values():
        put(file, pictures / file.name, copy)
    for image_id, file in source.annotations.items():
        if image_id in plan.wrong:
            (annotations / file.name).write_bytes(changed_annotation(file, plan.wrong[image_id].changes))
        else:
            put(file, annotations / file.name, copy)
    for number, (new, (old, shift)) in enumerate(plan.copies.items()):
        rng = np.random.default_rng([seed, number, 1])
        (pictures / f"{new}.jpg").write_bytes(altered_picture(source.pictures[old], shift, rng))
        changes = moved_objects(source.images[old], shift)
        content = changed_annotation(source.annotations[old], changes, filename=f"{new}.jpg")
        (annotations / f"{new}.xml").write_bytes(content)
    for name in source.clean_lists:
        shutil.copyfile(source.data / list_path(name), folder / list_path(name))


def summary(output: Path, record: dict[str, Any]) -> str:
    """What a person wants to know about the folder."""
    split = record["settings"]["list"]
    kinds = Counter(wrong["kind"] for wrong in record["wrong_label"].values())
    by_kind = ", ".join(f"{kind} {count}" for kind, count in sorted(kinds.items())) or "none"
    lists = sorted(path.stem for path in (output / list_path(split)).parent.glob("*.txt"))
    clean = ", ".join(name for name in lists if name != split) or "none"
    return (
        f"{output}\n"
        f"  {split}: {len((output / list_path(split)).read_text().splitlines())} images, of which "
        f"{len(record['near_duplicate_of'])} near-duplicates and {len(record['wrong_label'])} with wrong "
        f"labels ({by_kind})\n"
        f"  clean lists: {clean}\n"
        f"  what was injected where: {output / INJECTED}"
    )


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, metavar="DATA", help="the VOC folder")
    parser.add_argument("split", metavar="LIST", help="a list in its ImageSets/Main, without .txt")
    parser.add_argument("--output", type=Path, required=True, metavar="DIR", help="the folder to make")
    what = {
        "duplicates": "near-duplicates to add",
        "wrong_classes": "images whose boxes all get another class",
        "shifted_boxes": "images whose boxes all move by about half their size",
        "missing_boxes": "images that lose half of their boxes, rounded up",
    }
    for name, text in what.items():
        parser.add_argument(
            f"--{name.replace('_', '-')}",
            type=float,
            default=getattr(DEFAULTS, name),
            metavar="SHARE",
            help=f"{text}, as a share of the list's images [%(default)s]",
        )
    parser.add_argument("--seed", type=int, default=0, help="same seed, same errors [%(default)s]")
    parser.add_argument("--copy", action="store_true", help="copy what stays as it is; default: link it")
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    shares = Shares(args.duplicates, args.wrong_classes, args.shifted_boxes, args.missing_boxes)
    try:
        record = inject_label_errors(args.data, args.split, args.output, shares, args.seed, args.copy)
    except (ValueError, OSError) as error:
        raise SystemExit(f"inject_label_errors.py: {error}") from error
    print(summary(args.output, record))


if __name__ == "__main__":
    main()
