#!/usr/bin/env python
"""How time and memory grow with the images: a COCO file to checked records; statistics to a written record, its page, and back.

    python projects/benchmark/growth.py --sizes 1e3 1e4 1e5 1e6 --output docs/performance_growth

Made-up images of 80 classes with 4 boxes and 128 features each, a tenth of them near-copies of others; the page shows 100
pictures of 480 x 360 under all these names. The COCO file has their boxes with polygons of 22 points; its pictures count as
known, since decoding grows with N and no faster. Reading and selecting run in a process of its own for each size, on one
thread. Writes OUTPUT.csv and OUTPUT.png; seconds are of the process's CPU.
"""

import argparse
import json
import multiprocessing
import os
import resource
import tempfile
import time
from pathlib import Path
from unittest import mock

import numpy as np
import pandas as pd
from PIL import Image

from adapruner_det.engine import load_config  # noqa: F401  # first: it quiets imports

CLASSES, BOXES, FEATURES, PICTURES = 80, 4, 128, 100
AGAIN = 10**5  # images up to which another ratio is solved, and the page written


def make_pictures(folder):
    """Blocks of grey, as large as a photograph's JPEG."""
    folder.mkdir(parents=True)
    for i in range(PICTURES):
        blocks = np.random.default_rng(i).integers(0, 256, (90, 120), dtype=np.uint8)
        Image.fromarray(blocks).convert("RGB").resize((480, 360)).save(folder / f"{i}.jpg", quality=90)


def make_coco(num, folder):
    """A COCO file of so many images beside their pictures, written as it is made."""
    make_pictures(folder)
    random, angles = np.random.default_rng(0), np.linspace(0, 2 * np.pi, 22, endpoint=False)
    circle = 20 + 20 * np.stack([np.cos(angles), np.sin(angles)], axis=1)
    for i in range(num):
        os.link(folder / f"{i % PICTURES}.jpg", folder / f"of {i}.jpg")
    categories = [{"id": k, "name": f"class {k}"} for k in range(CLASSES)]
    with open(folder / "coco.json", "w") as file:
        file.write(f'{{"categories": {json.dumps(categories)}, "images": [')
        for i in range(num):
            image = {"id": i, "file_name": f"of {i}.jpg", "width": 480, "height": 360}
            file.write(", " * (i > 0) + json.dumps(image))
        file.write('], "annotations": [')
        for i in range(num * BOXES):
            corner = random.uniform(0, 300, 2).round(1)
            own = {"id": i, "image_id": i // BOXES, "category_id": i % CLASSES, "iscrowd": 0, "area": 1256.6}
            polygon = (corner + circle).round(1).ravel().tolist()
            own |= {"bbox": [*corner.tolist(), 40, 40], "segmentation": [polygon]}
            file.write(", " * (i > 0) + json.dumps(own))
        file.write("]}")
    return folder / "coco.json"


def measure_reading(num, connection):
    from adapruner_det.data.pictures import Picture
    from adapruner_det.data.selection_record import fingerprint
    from adapruner_det.engine.tasks import task_of

    seconds, parent = {}, tempfile.TemporaryDirectory()
    file = make_coco(num, Path(parent.name) / "pictures")
    start = time.process_time()
    known = {"inspect_pictures": lambda files, _: None, "inspect_picture": lambda file: Picture(480, 360, 1, (0, file))}
    with mock.patch.multiple("adapruner_det.data.coco", **known):
        cfg = load_config("", [f"growth=coco:{file}:{file.parent}"], ["DATASETS.TRAIN", "('growth',)"])
        records = task_of(cfg).load_records(cfg)
    seconds["registering and checking a COCO file"] = time.process_time() - start
    start = time.process_time()
    fingerprint(records)
    seconds["its fingerprint"] = time.process_time() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    connection.send({"images": num, **seconds, "GB at most, reading": peak, "MB of the COCO file": size(file)})


def made_up(num, folder):
    """Records as a reader gives them, and the statistics of a model."""
    from dataclasses import replace

    from detectron2.data import MetadataCatalog
    from detectron2.structures import BoxMode

    from adapruner_det.data.serialized_records import SerializedRecords
    from adapruner_det.engine.detection_statistics import labelled
    from adapruner_det.pruning.matching import Detections

    random = np.random.default_rng(0)
    MetadataCatalog.get("growth").set(thing_classes=[f"class {k}" for k in range(CLASSES)])
    classes = random.integers(CLASSES, size=num)
    corners = random.uniform(0, 300, (num, BOXES, 2)).round(1)
    boxes = np.concatenate([corners, corners + 40], axis=2)
    records = SerializedRecords(
        {"file_name": str(folder / f"{i % PICTURES}.jpg"), "image_id": f"{i:07}", "dataset_name": "growth", "height": 360, "width": 480,
         "annotations": [{"bbox": box, "bbox_mode": BoxMode.XYXY_ABS, "category_id": int(classes[i])} for box in own.tolist()]}
        for i, own in enumerate(boxes)
    )  # fmt: skip
    features = random.normal(size=(num, FEATURES)).astype(np.float32)
    copies = num // 10
    features[:copies] = features[copies : 2 * copies] + random.normal(0, 0.01, (copies, FEATURES))
    found = Detections(
        boxes.reshape(-1, 4),
        random.uniform(0.3, 1, num * BOXES),
        np.repeat(classes, BOXES),
        np.repeat(np.arange(num), BOXES),
    )
    losses = {"loss": random.gamma(4, 0.2, num).astype(np.float32)}
    return records, replace(labelled(records), losses=losses, features=features, found=found)


def measure(num, connection):
    from adapruner_det.baselines.adapruner import adapruner
    from adapruner_det.data.selection_lists import write_selection
    from adapruner_det.data.selection_record import make_selection
    from adapruner_det.engine.select import solve_again
    from adapruner_det.pruning import Selection
    from adapruner_det.report.page import PAGE, write_report

    seconds, parent = {}, tempfile.TemporaryDirectory()
    run = Path(parent.name)
    folder, pictures = run / "selection", run / "pictures"

    def timed(name, function):
        start = time.process_time()
        made = function()
        seconds[name] = time.process_time() - start
        print(f"{num:,} images: {name} {seconds[name]:.1f} s", flush=True)
        return made

    make_pictures(pictures)
    records, statistics = made_up(num, pictures)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    solved = timed("solving", lambda: adapruner(statistics, 0.8, 0))
    selection = timed("making the record", lambda: make_selection(
        records, solved.values.tolist(), (solved.values > 0).tolist(), keep_ratio=0.8, method="adapruner",
        columns=solved.columns, provenance=solved.facts))  # fmt: skip
    timed("writing", lambda: write_selection(selection, folder, statistics))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    sizes = {"GB before": before, "GB at most": peak, "MB on disk": size(folder)}
    timed("reading the record", lambda: Selection.load(folder))
    if num <= AGAIN:
        timed("another ratio, from the files", lambda: solve_again(folder, 0.6))
        timed("its page", lambda: write_report(folder, records, None))
        sizes["MB of the page"] = (folder / PAGE).stat().st_size / 2**20
        sizes["MB beside it"] = size(folder) - sizes["MB on disk"] - sizes["MB of the page"]
    connection.send({"images": num, **seconds, **sizes})


def size(path):
    """MB of a file, or of all in a folder."""
    files = [path] if path.is_file() else path.rglob("*")
    return sum(own.stat().st_size for own in files if own.is_file()) / 2**20


def draw(table, path):
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(6, 4))
    for name in [name for name in table.columns if not name.startswith(("images", "GB", "MB"))]:
        axes.loglog(table["images"], table[name], marker="o", label=name)
    n = table["images"]
    axes.loglog(n, 0.05 * n * np.log(n) / (n[0] * np.log(n[0])), "k:", label="N log N")
    axes.set(xlabel="images", ylabel="CPU seconds")
    axes.legend(loc="center left", bbox_to_anchor=(1.02, 0.5))
    figure.savefig(path, dpi=120, bbox_inches="tight")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", nargs="+", type=float, default=[1e3, 1e4, 1e5])
    parser.add_argument("--output", type=Path, required=True)
    args = parser.parse_args()
    rows, context = [], multiprocessing.get_context("spawn")
    for size in args.sizes:
        row = {}
        for what in (measure_reading, measure):
            ours, theirs = context.Pipe(False)
            process = context.Process(target=what, args=(int(size), theirs))
            process.start()
            row |= ours.recv()
            process.join()
        rows.append(row)
        table = pd.DataFrame(rows)
        table.round(2).to_csv(args.output.with_suffix(".csv"), index=False)
        print(table.iloc[-1].to_dict(), flush=True)
    draw(table, args.output.with_suffix(".png"))
    print(table.round(2).to_markdown(index=False))


if __name__ == "__main__":
    main()
