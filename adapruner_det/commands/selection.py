"""Looks at a selection, cuts it at another ratio, or makes a random one to compare with.

Look at what was kept and pruned (classes, ratio, pictures):
    python tools/selection.py show output/voc/prune_yolov3_tiny_R18/selection

Another ratio, without training again: AdaPruner's mask is solved for anew from the statistics beside it, with terms
weighed otherwise if KEY VALUE pairs say so (ADAPRUNER.LABEL_ERRORS 0); other methods' scores are cut:
    python tools/selection.py cut output/voc/prune_yolov3_tiny_R18/selection \\
        --keep-ratio 0.8 --output output/voc/selection_0.80

A random selection of the training set of a config, for comparison:
    python tools/selection.py random --config-file configs/voc/train_yolov3_tiny_R50.yaml \\
        --keep-ratio 0.8 --seed 0 --output output/voc/random_0.80

The kept images as a list for another detector's tools (no image is copied):
    python tools/selection.py export output/my/selection --format yolo --output /data/mine/lists

What became of the near-duplicates and wrong labels that datasets/inject_label_errors.py injected:
    python tools/selection.py injected output/my/selection --injected /data/mine_injected/injected.json

A page to look at, trust and correct it (report.html), and the corrections saved from that page:
    python tools/selection.py report output/my/selection
    python tools/selection.py cut output/my/selection --keep-ratio 0.8 --corrections corrections.csv --output output/mine

Pictures of a selection need the data: what lies elsewhere by now, or is no VOC, COCO or YOLO data, by the config or --register:
    python tools/selection.py pictures output/my/selection --register my_train=voc:/data/mine:trainval
"""

import argparse
from functools import partial
from itertools import chain
from pathlib import Path

from detectron2.data import MetadataCatalog

from adapruner_det.baselines.registry import METHODS, RANDOM
from adapruner_det.commands import program
from adapruner_det.data.corrections import correct
from adapruner_det.data.export import EXPORTS, export_selection, register_sources
from adapruner_det.data.pruned_datasets import split_records
from adapruner_det.data.selection_lists import check_replaceable, write_selection
from adapruner_det.data.selection_record import CLASS_COLUMN, cut_as_made, make_selection, summary
from adapruner_det.engine import load_config
from adapruner_det.engine.select import is_solved, solve_again
from adapruner_det.engine.tasks import task_of
from adapruner_det.pruning import Selection
from adapruner_det.pruning.decision import REASON_COLUMN, SIMILAR_TO_COLUMN
from adapruner_det.report.injected import InjectedErrors, injected_report
from adapruner_det.report.page import write_report
from adapruner_det.report.pictures import save_selection_sheet


def show(args):
    print(summary(Selection.load(args.folder)))


def cut(args):
    if Path(args.output).resolve() == Path(args.folder).resolve():
        raise SystemExit(f"--output {args.output} is the selection to cut: name another folder")
    check_replaceable(args.output, args.overwrite)
    selection, statistics = Selection.load(args.folder), None
    if is_solved(selection) and args.across_classes:
        raise SystemExit(
            "--across-classes: AdaPruner's terms weigh classes; ADAPRUNER.CLASS_BALANCE 0 at the end does without"
        )
    if is_solved(selection):
        selection, statistics = solve_again(args.folder, args.keep_ratio, args.opts)
    elif args.opts:
        raise SystemExit(
            f"{args.folder}: a selection of {selection.method} is cut by its scores, whatever {args.opts[0]} is"
        )
    else:
        selection = cut_as_made(selection, args.keep_ratio, args.across_classes)
    selection = correct(selection, args.corrections)
    write_selection(selection, args.output, statistics)
    print(f"{summary(selection)}\nwritten to {args.output}")
    if statistics is None and selection.method in METHODS and METHODS[selection.method].looks_at_ratio:
        print(
            f"the scores of {selection.method} depend on the ratio they were made for: "
            f"score.py {selection.method} --keep-ratio {args.keep_ratio} may choose otherwise"
        )


def random(args):
    if args.seed < 0:
        raise ValueError(f"--seed is {args.seed}; it has to be at least 0")
    check_replaceable(args.output, args.overwrite)
    cfg = load_config(args.config_file, args.register, args.opts)
    task = task_of(cfg)
    competing, others = task.split_competing(cfg, task.load_records(cfg))
    statistics = task.labelled(competing)
    selection = make_selection(
        competing,
        METHODS[RANDOM].score(statistics, args.keep_ratio, args.seed),
        keep_ratio=args.keep_ratio,
        method=RANDOM,
        others=others,
        keep_others=cfg.ADAPRUNER.EMPTY_IMAGES == "keep",
        class_balance=cfg.SCORING.CLASS_BALANCE,
        provenance={"seed": args.seed, "seconds": 0.0},
    )
    write_selection(selection, args.output)
    print(f"{summary(selection)}\nwritten to {args.output}")


def export(args):
    selection = Selection.load(args.folder)
    cfg = load_config(args.config_file, args.register, args.opts)
    if args.format != "ids":
        register_sources(selection)
    paths = export_selection(selection, args.format, args.output, lambda name: task_of(cfg).load_dataset(cfg, name))
    print("\n".join(map(str, paths)))


def injected(args):
    selection = Selection.load(args.folder)
    try:
        print(injected_report({"": selection}, InjectedErrors.load(args.injected), args.dataset))
    except (ValueError, OSError) as error:
        raise SystemExit(f"{args.folder}: {error}") from error


def _data_of(args):
    """A selection, the records of its data sets by name, and what reads an image of them."""
    selection = Selection.load(args.folder)
    cfg = load_config(args.config_file, args.register, args.opts)
    if CLASS_COLUMN in selection.columns:
        cfg.MODEL.META_ARCHITECTURE = "ImageClassifier"
    task = task_of(cfg)
    register_sources(selection)
    records = {name: task.load_dataset(cfg, name) for name in selection.dataset_names()}
    return selection, records, partial(task.read_image, cfg)


def report(args):
    _, by_name, read_image = _data_of(args)
    print(write_report(args.folder, list(chain.from_iterable(by_name.values())), read_image, args.results))


def reasons_of(selection):
    """(data set, id) -> why the image goes or stays, in a few words; nothing for methods that do not tell."""
    keys = list(zip(selection.datasets, selection.ids))
    if REASON_COLUMN not in selection.columns:
        return dict.fromkeys(keys, "")
    columns = zip(selection.columns[REASON_COLUMN], selection.columns[SIMILAR_TO_COLUMN])
    return dict(zip(keys, (f"like {like}" if like else reason or "" for reason, like in columns)))


def pictures(args):
    selection, by_name, read_image = _data_of(args)
    kept, pruned = split_records(selection, by_name)
    class_names = MetadataCatalog.get(selection.datasets[0]).thing_classes
    reasons = reasons_of(selection)
    kept, pruned = (
        [({**d, "reason": reasons[d["dataset_name"], str(d["image_id"])]}, score) for d, score in part]
        for part in (kept, pruned)
    )
    sheet = Path(args.folder) / "images.png"
    save_selection_sheet(str(sheet), kept, pruned, class_names, read_image)
    print(sheet)


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(
        required=True, metavar="show | cut | report | random | export | injected | pictures"
    )

    command = commands.add_parser("show", help="print a selection's ratio and classes")
    command.set_defaults(run=show)
    command.add_argument("folder", help="the `selection` folder of a pruning run")

    command = commands.add_parser("cut", help="a selection at another ratio, without training")
    command.set_defaults(run=cut, takes_opts=True)
    command.epilog = (
        "KEY VALUE pairs at the end weigh terms of AdaPruner's objective otherwise, such as ADAPRUNER.LABEL_ERRORS 0"
    )
    command.add_argument("folder", help="the `selection` folder of a pruning run")
    _add_ratio(command)
    command.add_argument(
        "--across-classes",
        action="store_true",
        help="do not hold each class to the ratio, though the selection was made so",
    )

    command.add_argument("--corrections", metavar="FILE", help="choices of your own, as report.html saves them")

    command = commands.add_parser("report", help="write report.html, a page to look at, into a selection")
    command.set_defaults(run=report)
    command.add_argument("folder", help="the `selection` folder of a pruning run")
    command.add_argument("--results", metavar="FILE", help="results.csv of compare.py, for the page's table of costs")
    _add_data(command)

    command = commands.add_parser("random", help="select images at random, to compare with")
    command.set_defaults(run=random)
    _add_ratio(command)
    command.add_argument("--seed", type=int, default=0)
    _add_data(command)

    command = commands.add_parser("export", help="list the kept images for another tool")
    command.set_defaults(run=export)
    command.add_argument("folder", help="the `selection` folder of a pruning run")
    command.add_argument(
        "--format",
        required=True,
        choices=list(EXPORTS),
        help="yolo: image paths, as darknet and ultralytics read them; voc: a list for ImageSets/Main; "
        "coco: a JSON; ids: the ids of the data set",
    )
    command.add_argument("--output", required=True, metavar="DIR", help="where the files go")
    _add_data(command)

    command = commands.add_parser("injected", help="what became of injected defects")
    command.set_defaults(run=injected)
    command.add_argument("folder", help="a selection of the images they were injected in")
    command.add_argument("--injected", required=True, metavar="FILE", help="the injected.json beside the data")
    command.add_argument("--dataset", metavar="NAME", help="which one of the selection, if it covers several")

    command = commands.add_parser("pictures", help="draw kept and pruned images into a selection, as images.png")
    command.set_defaults(run=pictures)
    command.add_argument("folder", help="the `selection` folder of a pruning run")
    _add_data(command)
    # What is left over, not REMAINDER: that would swallow the options behind a positional argument.
    args, left_over = parser.parse_known_args()
    args.opts = left_over
    if args.opts and (not getattr(args, "takes_opts", False) or args.opts[0].startswith("-")):
        parser.error(f"unrecognized arguments: {' '.join(args.opts)}")
    return args


def _add_ratio(command):
    command.add_argument("--keep-ratio", type=float, required=True, help="share of the images that stays")
    command.add_argument("--output", required=True, metavar="DIR", help="where the new selection goes")
    command.add_argument("--overwrite", action="store_true", help="replace a selection that lies there")


def _add_data(command):
    command.add_argument("--config-file", default="", help="config that names the data (DATASETS)")
    command.add_argument(
        "--register", action="append", default=[], metavar="NAME=FORMAT:...",
        help="a data set of your own, as in train_net.py",
    )  # fmt: skip
    command.set_defaults(takes_opts=True)
    command.epilog = "KEY VALUE pairs at the end override the config, as in train_net.py"


def main() -> None:
    arguments = parse_arguments()
    try:
        arguments.run(arguments)
    except (AssertionError, FloatingPointError, ImportError, KeyError, OSError, ValueError) as problem:
        message = problem.args[0] if isinstance(problem, KeyError) else problem
        raise SystemExit(f"{program()}: error: {message}") from problem


if __name__ == "__main__":
    main()
