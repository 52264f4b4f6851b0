"""Prunes the embedded demo set, makes the page of what goes and why, then trains two detectors on what is left.

The set is made by a script: handwritten digits on photographs, with injected near-duplicates and wrong labels. YOLOv3-Tiny
prunes it to 80%; YOLOv3-Tiny and Faster R-CNN train on everything, on what is kept and on as many random images. One table
says what came of it, another where the injected images went. Killed, it goes on where it stopped.
"""

import sys
import time
from pathlib import Path

from adapruner_det.commands import Parser, program

ROOT = Path(__file__).resolve().parents[2]
DATA, KEEP_RATIO = Path("datasets/demo"), 0.8


def main() -> None:
    parser = Parser(description=__doc__)
    parser.add_argument("--output", type=Path, default=Path("output/demo"), help="default: %(default)s")
    parser.add_argument("--jobs", type=int, default=2, help="trainings at a time (default: %(default)s)")
    args = parser.parse_args()
    if not Path("configs/demo").is_dir() or not (ROOT / "datasets/make_demo_set.py").is_file():
        raise SystemExit(
            f"{program()}: error: the demo needs its scripts and configs: call it in a checkout of the repository"
        )
    sys.path.insert(0, str(ROOT / "datasets"))
    demo(args.output, args.jobs)


def demo(output: Path, jobs: int) -> None:
    from make_demo_set import make_demo_set  # type: ignore[import-not-found]  # here: --help needs no torch

    from adapruner_det.commands import compare
    from adapruner_det.experiments.experiment import ADAPRUNER, RANDOM, Experiment, selection_run
    from adapruner_det.experiments.plan import plan
    from adapruner_det.experiments.runs import execute
    from adapruner_det.files import write_text
    from adapruner_det.pruning import Selection
    from adapruner_det.report.injected import InjectedErrors, injected_report

    start = time.perf_counter()
    print(f"== 1/3 the demo set, in {DATA}", flush=True)
    try:
        make_demo_set(DATA)
    except FileExistsError as error:  # of an earlier version, or somebody else's
        raise SystemExit(f"{program()}: error: {error}") from error
    experiment = Experiment(
        prune_config="configs/demo/prune_yolov3_tiny_R18.yaml",
        train_configs={
            "YOLOv3-Tiny": "configs/demo/train_yolov3_tiny_R18.yaml",
            "Faster R-CNN": "configs/demo/train_faster_rcnn_R18_FPN.yaml",
        },
        keep_ratios=[KEEP_RATIO],
    )
    folders = {method: output / selection_run(method, KEEP_RATIO, 0) / "selection" for method in (ADAPRUNER, RANDOM)}
    page = folders[ADAPRUNER] / "report.html"
    runs = plan(experiment, output)
    print(f"== 2/3 pruning to {KEEP_RATIO}", flush=True)
    execute([run for run in runs if run.name == selection_run(ADAPRUNER, KEEP_RATIO, 0)], output, 1)
    print(f"   after {_minutes(start)} the page of what goes and why is there: {page}", flush=True)
    print("== 3/3 1 random selection, 6 trainings", flush=True)
    execute(runs, output, jobs)
    selections = {method: Selection.load(folder) for method, folder in folders.items()}
    injected = injected_report(selections, InjectedErrors.load(DATA / "injected.json"))
    table = f"{compare.report(experiment, output)}\n\n{injected}\n"
    write_text(output / "report.md", table)
    print(f"\n{table}\nmAP on {DATA}'s test list, in percent. {_minutes(start)}")
    print(f"Tables: {output}/report.md\nPage: {page}")


def _minutes(start: float) -> str:
    return f"{(time.perf_counter() - start) / 60:.1f} minutes"
