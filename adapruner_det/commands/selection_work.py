"""What the commands on selections do: show, cut, report, random, export, injected and pictures. Each takes their arguments."""

from functools import partial
from itertools import chain
from pathlib import Path

from detectron2.data import MetadataCatalog

from adapruner_det.baselines.registry import METHODS, RANDOM
from adapruner_det.data.corrections import correct
from adapruner_det.data.export import export_selection, register_sources
from adapruner_det.data.pruned_datasets import split_records
from adapruner_det.data.selection_lists import write_selection
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
            f"adapruner score {selection.method} --keep-ratio {args.keep_ratio} may choose otherwise"
        )


def random(args):
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
