#!/usr/bin/env python
"""The main job on the embedded demo set: prune, retrain, mAP.

Makes the demo set (handwritten digits on photographs, with injected near-duplicates and wrong labels),
prunes it to 80% with YOLOv3-Tiny, trains YOLOv3-Tiny and Faster R-CNN on everything, on what AdaPruner
kept and on as many random images, and prints one table and where the injected images went. Killed, it
goes on where it stopped. `make demo` runs it.
"""

import argparse
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "datasets")]

from make_demo_set import make_demo_set  # noqa: E402

from adapruner_det.commands.compare import compare  # noqa: E402
from adapruner_det.experiments.experiment import ADAPRUNER, RANDOM, Experiment, selection_run  # noqa: E402
from adapruner_det.files import write_text  # noqa: E402
from adapruner_det.pruning import Selection  # noqa: E402
from adapruner_det.report.injected import InjectedErrors, injected_report  # noqa: E402

DATA = Path("datasets/demo")
KEEP_RATIO = 0.8
EXPERIMENT = Experiment(
    prune_config="configs/demo/prune_yolov3_tiny_R18.yaml",
    train_configs={
        "YOLOv3-Tiny": "configs/demo/train_yolov3_tiny_R18.yaml",
        "Faster R-CNN": "configs/demo/train_faster_rcnn_R18_FPN.yaml",
    },
    keep_ratios=[KEEP_RATIO],
)


def where_injected_went(output: Path) -> str:
    """Tables: of the clean, duplicated and wrongly labelled images, how many were pruned."""
    folders = {m: output / selection_run(m, KEEP_RATIO, 0) / "selection" for m in (ADAPRUNER, RANDOM)}
    selections = {method: Selection.load(folder) for method, folder in folders.items()}
    return injected_report(selections, InjectedErrors.load(DATA / "injected.json"))


def draw_pictures(output: Path) -> Path:
    """images.png of AdaPruner's selection; returns its folder."""
    folder = output / selection_run(ADAPRUNER, KEEP_RATIO, 0) / "selection"
    command = [sys.executable, str(HERE / "selection.py"), "pictures", str(folder)]
    subprocess.run([*command, "--config-file", EXPERIMENT.prune_config], check=True, stdout=subprocess.DEVNULL)
    return folder


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=Path("output/demo"))
    parser.add_argument("--jobs", type=int, default=2, help="trainings at a time")
    args = parser.parse_args()
    start = time.perf_counter()
    print(f"== 1/3 the demo set, in {DATA}")
    make_demo_set(DATA)
    print("== 2/3 pruning and training: 1 pruning run, 1 random selection, 6 trainings")
    table = compare(EXPERIMENT, args.output, args.jobs)
    print("== 3/3 pictures")
    pictures = draw_pictures(args.output)
    report = f"{table}\n\n{where_injected_went(args.output)}\n"
    write_text(args.output / "report.md", report)
    minutes = (time.perf_counter() - start) / 60
    print(
        f"\n{report}\nmAP on {DATA}'s test list, in percent. Pictures of kept and pruned images: "
        f"{pictures}/images.png\nThis report: {args.output}/report.md. The page of what went and why: {pictures}/report.html. "
        f"{minutes:.1f} minutes"
    )


if __name__ == "__main__":
    main()
