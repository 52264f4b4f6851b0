#!/usr/bin/env python3
"""Writes a list of a PASCAL VOC folder as one COCO JSON, whose image folder is JPEGImages.

    python datasets/convert_voc_to_coco.py /data/mine trainval /data/mine/trainval.json
    python tools/train_net.py --register my_train=coco:/data/mine/trainval.json:/data/mine/JPEGImages ...

Boxes are the same pixels: VOC's 1-based, inclusive corners become COCO's edges, counted from 0. Images are
numbered from 1 in the order of the list.
"""

import argparse
import json
from pathlib import Path

from adapruner_det.data.coco import coco_content
from adapruner_det.data.validation import ON_INVALID
from adapruner_det.data.voc import collect_class_names, load_voc_dataset
from adapruner_det.files import write_text


def convert(dirname: str, split: str, classes=None, on_invalid: str = "clip") -> dict:
    """The content of the COCO file.

    Raises:
        ValueError, FileNotFoundError: see `load_voc_dataset`.
    """
    classes = collect_class_names(dirname) if classes is None else list(classes)
    records = load_voc_dataset(dirname, split, classes, on_invalid)
    return coco_content(records, classes, Path(dirname) / "JPEGImages")


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dirname", metavar="DIR", help="the VOC folder")
    parser.add_argument("split", help="a list in its ImageSets/Main, without .txt")
    parser.add_argument("output", type=Path, metavar="FILE.json")
    parser.add_argument("--classes", help="class1,class2,...; all of the folder, sorted, if left away")
    parser.add_argument(
        "--on-invalid", default="clip", choices=ON_INVALID, help="what to do about broken images and boxes"
    )
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    if args.output.exists():
        raise SystemExit(f"{args.output} is there already: name another file, or delete it")
    classes = args.classes and [name.strip() for name in args.classes.split(",")]
    try:
        content = convert(args.dirname, args.split, classes, args.on_invalid)
    except (ValueError, OSError) as error:
        raise SystemExit(str(error)) from error
    write_text(args.output, json.dumps(content))
    numbers = f"{len(content['images'])} images, {len(content['annotations'])} boxes"
    print(f"{args.output}: {numbers}, {len(content['categories'])} classes")


if __name__ == "__main__":
    main()
