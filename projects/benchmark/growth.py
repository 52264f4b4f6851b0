#!/usr/bin/env python
"""How the time and memory of a selection grow with the images: statistics to a written record and its page, and back.

    python projects/benchmark/growth.py --sizes 1e3 1e4 1e5 1e6 --output docs/performance_growth

Made-up images of 80 classes with 4 boxes and 128 features each, a tenth of them near-copies of others; the page shows 100
pictures of 480 x 360 under all these names. Each size runs in a process of its own, on one thread. Writes OUTPUT.csv and
OUTPUT.png; seconds are of the process's CPU.
"""

import argparse
import multiprocessing
import resource
import tempfile
import time
from pathlib import Path

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


def size(folder):
    """MB of all files in a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / 2**20


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
        ours, theirs = context.Pipe(False)
        process = context.Process(target=measure, args=(int(size), theirs))
        process.start()
        rows.append(ours.recv())
        process.join()
        table = pd.DataFrame(rows)
        table.round(2).to_csv(args.output.with_suffix(".csv"), index=False)
        print(table.iloc[-1].to_dict(), flush=True)
    draw(table, args.output.with_suffix(".png"))
    print(table.round(2).to_markdown(index=False))


if __name__ == "__main__":
    main()
