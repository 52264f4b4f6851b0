"""What the commands on selections do: show, cut, report, random, export, injected and pictures. Each takes their arguments."""

from contextlib import suppress
from functools import partial
from itertools import chain
from pathlib import Path

import yaml
from detectron2.data import DatasetCatalog, MetadataCatalog

from adapruner_det.baselines.registry import METHODS, RANDOM
from adapruner_det.data.corrections import correct
from adapruner_det.data.export import export_selection, register_sources, way_out
from adapruner_det.data.formats import FORMATS
from adapruner_det.data.pruned_datasets import records_of
from adapruner_det.data.registration import register_from_spec
from adapruner_det.data.selection_lists import check_replaceable, write_selection
from adapruner_det.data.selection_record import CLASS_COLUMN, cut_as_made, make_selection, summary
from adapruner_det.engine import load_config
from adapruner_det.engine.select import is_solved, solve_again
from adapruner_det.engine.tasks import task_of
from adapruner_det.pruning import Selection
from adapruner_det.report.comparison import write_comparison
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
    if args.corrections:
        print("a person's choices come on top of the ratio: what they keep or prune is not made up for")
    if not args.no_page:
        _try_page(args.output, args.register)
    if statistics is None and selection.method in METHODS and METHODS[selection.method].looks_at_ratio:
        print(
            f"the scores of {selection.method} depend on the ratio they were made for: "
            f"adapruner score {selection.method} --keep-ratio {args.keep_ratio} may choose otherwise"
        )


def _try_page(folder, register):
    """Writes the page of a selection that is whole without it, or says why there is none."""
    try:
        _, by_name, others, read_image = _data_of(folder, register=register)
        page = write_report(folder, list(chain.from_iterable(by_name.values())), read_image, others=others)
    except (KeyError, OSError, ValueError) as problem:
        why = _in_a_line(problem)
        moved = "" if "--register" in why else ", with --register if the data has moved"
        print(f"no page was made ({why}); `adapruner report {folder}` makes it{moved}")
    else:
        print(f"what goes and why, to look at and correct: {page}")


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
    paths = export_selection(selection, args.format, args.output, lambda name: task_of(cfg).load_dataset(cfg, name))
    print("\n".join(str(file) for path in paths for file in (path, path.with_suffix(".yaml")) if file.exists()))


def injected(args):
    selection = Selection.load(args.folder)
    try:
        print(injected_report({"": selection}, InjectedErrors.load(args.injected), args.dataset))
    except (ValueError, OSError) as error:
        raise SystemExit(f"{args.folder}: {error}") from error


def _data_of(folder, config_file="", register=(), opts=()):
    """A selection, its records by data set, those of the lists it is tested on, and what reads an image of them.

    Data sets that are not registered are looked for where they lay when the selection was made.
    """
    selection = Selection.load(folder)
    cfg = load_config(config_file, register, opts)
    made = yaml.safe_load(selection.provenance.get("config") or "") or {}
    if CLASS_COLUMN in selection.columns:
        cfg.MODEL.META_ARCHITECTURE = "ImageClassifier"
        cfg.INPUT.IMAGE_SIZE = made.get("INPUT", {}).get("IMAGE_SIZE", cfg.INPUT.IMAGE_SIZE)
    task, own = task_of(cfg), selection.dataset_names()
    before = made.get("DATASETS", {})
    find = partial(_find, before, before.get("ON_INVALID", cfg.DATASETS.ON_INVALID))
    tested = [*before.get("TEST", ()), *(spec.partition("=")[0] for spec in register)]
    others = []
    for name in dict.fromkeys(tested):
        try:
            others += task.load_dataset(cfg, find(name)) if name not in own else []
        except (KeyError, OSError, ValueError) as problem:
            print(f"{name} is not looked at: {_in_a_line(problem)}")
    for name in own:
        with suppress(ValueError):  # the record says where they lay as well
            find(name)
    register_sources(selection)
    return selection, {name: task.load_dataset(cfg, find(name)) for name in own}, others, partial(task.read_image, cfg)


def _find(before, on_invalid, name):
    """The name, registered as DATASETS, `before`, tells; ValueError ends with the way out."""
    specs = {spec.partition("=")[0]: spec for spec in before.get("REGISTER", ())}
    if name in DatasetCatalog:
        return name
    if name not in specs:
        raise ValueError(f"data set {name} is not registered: name it, --register {name}=FORMAT:...")
    try:
        return register_from_spec(specs[name], FORMATS, on_invalid)
    except ValueError as problem:
        form = specs[name].partition("=")[2].partition(":")[0]
        raise ValueError(f"{_in_a_line(problem)}; {way_out(name, form)}") from problem


def _in_a_line(problem):
    """The first line of what is wrong."""
    message = problem.args[0] if isinstance(problem, KeyError) else problem
    return str(message).partition("\n")[0]


def report(args):
    _, by_name, others, read_image = _data_of(args.folder, args.config_file, args.register, args.opts)
    records = list(chain.from_iterable(by_name.values()))
    if args.compare:
        print(write_comparison(args.folder, args.compare, records, read_image))
    else:
        print(write_report(args.folder, records, read_image, args.results, others))


def pictures(args):
    selection, by_name, _, read_image = _data_of(args.folder, args.config_file, args.register, args.opts)
    records = records_of(selection, list(chain.from_iterable(by_name.values())))
    class_names = MetadataCatalog.get(selection.datasets[0]).thing_classes
    sheet = Path(args.folder) / "images.png"
    save_selection_sheet(sheet, selection, records, class_names, read_image)
    print(sheet)
