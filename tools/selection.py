#!/usr/bin/env python
"""Looks at a selection, cuts it at another ratio, or makes a random one to compare with.

Look at what was kept and pruned (classes, ratio, pictures):
    python tools/selection.py show output/voc/prune_yolov3_tiny_R50/selection

Cut the same scores at another ratio, without training again:
    python tools/selection.py cut output/voc/prune_yolov3_tiny_R50/selection \\
        --keep-ratio 0.8 --output output/voc/selection_0.80

A random selection of the training set of a config, for comparison:
    python tools/selection.py random --config-file configs/voc/train_yolov3_tiny_R50.yaml \\
        --keep-ratio 0.8 --seed 0 --output output/voc/random_0.80

Pictures of a selection need the data, so the config or --register it was made with:
    python tools/selection.py pictures output/my/selection --register my_train=voc:/data/mine:trainval
"""
import argparse
from pathlib import Path

from adapruner_det.baselines.random_selection import METHOD, random_scores
from adapruner_det.detection.pruned_datasets import split_records
from adapruner_det.detection.registration import register_from_spec
from adapruner_det.detection.selection_lists import write_selection
from adapruner_det.detection.selection_record import make_selection, summary
from adapruner_det.detection.training_data import load_dataset, load_records
from adapruner_det.engine import add_adapruner_config
from adapruner_det.pruning import Selection
from adapruner_det.report.pictures import save_score_histogram, save_selection_sheet

from detectron2.config import get_cfg
from detectron2.data import MetadataCatalog


def show(args):
    print(summary(Selection.load(args.folder)))


def cut(args):
    selection = Selection.load(args.folder).cut(args.keep_ratio)
    write_selection(selection, args.output)
    print(f"{summary(selection)}\nwritten to {args.output}")


def random(args):
    cfg = _config(args)
    records = load_records(cfg)
    scores = random_scores(len(records), args.seed)
    whole = make_selection(
        records,
        scores.tolist(),
        [True] * len(records),
        keep_ratio=1.0,
        method=METHOD,
        provenance={"seed": args.seed, "seconds": 0.0},
    )
    selection = whole.cut(args.keep_ratio)
    write_selection(selection, args.output)
    print(f"{summary(selection)}\nwritten to {args.output}")


def pictures(args):
    selection = Selection.load(args.folder)
    _config(args)
    names = selection.dataset_names()
    kept, pruned = split_records(selection, {name: load_dataset(name) for name in names})
    class_names = MetadataCatalog.get(names[0]).thing_classes
    sheet, histogram = Path(args.folder) / "images.png", Path(args.folder) / "scores.png"
    save_selection_sheet(str(sheet), kept, pruned, class_names)
    scored = [(s, k) for s, k in zip(selection.scores, selection.kept) if s is not None]
    save_score_histogram(str(histogram), *zip(*scored))
    print(f"{sheet}\n{histogram}")


def _config(args):
    """The config of the arguments, with its data sets registered."""
    cfg = get_cfg()
    add_adapruner_config(cfg)
    if args.config_file:
        cfg.merge_from_file(args.config_file)
    cfg.merge_from_list(args.opts)
    names = [
        register_from_spec(spec, on_invalid=cfg.DATASETS.ON_INVALID)
        for spec in (*cfg.DATASETS.REGISTER, *args.register)
    ]
    if args.register and "DATASETS.TRAIN" not in args.opts:
        cfg.DATASETS.TRAIN = (names[-len(args.register)],)
    return cfg


def parse_arguments():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(required=True, metavar="show | cut | random | pictures")

    command = commands.add_parser("show", help="print a selection's ratio and classes")
    command.set_defaults(run=show)
    command.add_argument("folder", help="the `selection` folder of a pruning run")

    command = commands.add_parser("cut", help="cut a selection's scores at another ratio")
    command.set_defaults(run=cut)
    command.add_argument("folder", help="the `selection` folder of a pruning run")
    _add_ratio(command)

    command = commands.add_parser("random", help="select images at random, to compare with")
    command.set_defaults(run=random)
    _add_ratio(command)
    command.add_argument("--seed", type=int, default=0)
    _add_data(command)

    command = commands.add_parser(
        "pictures", help="draw images.png (kept and pruned images) and scores.png into a selection"
    )
    command.set_defaults(run=pictures)
    command.add_argument("folder", help="the `selection` folder of a pruning run")
    _add_data(command)
    return parser.parse_args()


def _add_ratio(command):
    command.add_argument(
        "--keep-ratio", type=float, required=True, help="share of the images that stays"
    )
    command.add_argument("--output", required=True, metavar="DIR", help="where the new selection goes")


def _add_data(command):
    command.add_argument("--config-file", default="", help="config that names the data (DATASETS)")
    command.add_argument(
        "--register", action="append", default=[], metavar="NAME=voc:DIR:SPLIT[:CLASSES]",
        help="a data set of your own, as in train_net.py",
    )  # fmt: skip
    command.add_argument("opts", nargs="*", default=[], help="KEY VALUE pairs, as in train_net.py")


if __name__ == "__main__":
    arguments = parse_arguments()
    arguments.run(arguments)
