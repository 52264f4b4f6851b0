"""Looks at a selection, cuts it at another ratio, or makes a random one to compare with.

Look at what was kept and pruned (classes, ratio, pictures):
    adapruner show output/voc/prune_yolov3_tiny_R18/selection

Another ratio, without training again: AdaPruner's mask is solved for anew from the statistics beside it, with terms
weighed otherwise if KEY VALUE pairs say so (ADAPRUNER.LABEL_ERRORS 0); other methods' scores are cut:
    adapruner cut output/voc/prune_yolov3_tiny_R18/selection \\
        --keep-ratio 0.8 --output output/voc/selection_0.80

A random selection of the training set of a config, for comparison:
    adapruner random --config-file configs/voc/train_yolov3_tiny_R50.yaml \\
        --keep-ratio 0.8 --seed 0 --output output/voc/random_0.80

The kept images as a list for another detector's tools (no image is copied):
    adapruner export output/my/selection --format yolo --output /data/mine/lists

What became of the near-duplicates and wrong labels that datasets/inject_label_errors.py injected:
    adapruner injected output/my/selection --injected /data/mine_injected/injected.json

A page to look at, trust and correct it (report.html), and the corrections saved from that page:
    adapruner report output/my/selection
    adapruner cut output/my/selection --keep-ratio 0.8 --corrections corrections.csv --output output/mine

Two selections of the same images side by side (compared.html, in the first):
    adapruner report output/my/selection --compare output/other/selection

Pictures of a selection need the data: what lies elsewhere by now, or is no VOC, COCO or YOLO data, by the config or --register:
    adapruner pictures output/my/selection --register my_train=voc:/data/mine:trainval
"""

from adapruner_det.commands import Parser, program
from adapruner_det.commands.options import pairs_of, ratio

FORMS = ("yolo", "voc", "coco", "fiftyone", "weights", "ids")  # of data.export.EXPORTS, which needs torch


def parse_arguments():
    parser = Parser(description=__doc__)
    commands = parser.add_subparsers(
        required=True, metavar="show | cut | report | random | export | injected | pictures"
    )

    command = commands.add_parser("show", help="print a selection's ratio and classes")
    command.set_defaults(run="show")
    command.add_argument("folder", help="the `selection` folder of a pruning run")

    command = commands.add_parser("cut", help="a selection at another ratio, without training")
    command.set_defaults(run="cut", takes_opts=True)
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
    command.add_argument("--no-page", action="store_true", help="write no report.html, which takes longer than the cut")
    _add_register(command)

    command = commands.add_parser("report", help="write report.html, a page to look at, into a selection")
    command.set_defaults(run="report")
    command.add_argument("folder", help="the `selection` folder of a pruning run")
    command.add_argument(
        "--results", metavar="FILE", help="results.csv of `adapruner compare`, for the page's table of costs"
    )
    command.add_argument("--compare", metavar="DIR", help="another selection of the same images: where the two differ")
    _add_data(command)

    command = commands.add_parser("random", help="select images at random, to compare with")
    command.set_defaults(run="random")
    _add_ratio(command)
    command.add_argument("--seed", type=int, default=0, help="of the draw; default 0")
    _add_data(command)

    command = commands.add_parser("export", help="list the kept images for another tool")
    command.set_defaults(run="export")
    command.add_argument("folder", help="the `selection` folder of a pruning run")
    command.add_argument(
        "--format",
        required=True,
        choices=FORMS,
        help="yolo: image paths, as darknet and ultralytics read them; voc: a list for ImageSets/Main; "
        "coco: a JSON; fiftyone: all images, kept and pruned, with their reasons; weights: a CSV; ids: the ids of the data set",
    )
    command.add_argument("--output", required=True, metavar="DIR", help="where the files go")
    _add_data(command)

    command = commands.add_parser("injected", help="what became of injected defects")
    command.set_defaults(run="injected")
    command.add_argument("folder", help="a selection of the images they were injected in")
    command.add_argument("--injected", required=True, metavar="FILE", help="the injected.json beside the data")
    command.add_argument("--dataset", metavar="NAME", help="which one of the selection, if it covers several")

    command = commands.add_parser("pictures", help="draw kept and pruned images into a selection, as images.png")
    command.set_defaults(run="pictures")
    command.add_argument("folder", help="the `selection` folder of a pruning run")
    _add_data(command)
    # What is left over, not REMAINDER: that would swallow the options behind a positional argument.
    args, left_over = parser.parse_known_args()
    args.opts = pairs_of(left_over)
    if args.opts and (not getattr(args, "takes_opts", False) or args.opts[0].startswith("-")):
        commands.choices[args.run].error(f"unrecognized arguments: {' '.join(args.opts)}")
    return args


def _add_ratio(command):
    command.add_argument("--keep-ratio", type=ratio, required=True, help="share of the images that stays")
    command.add_argument("--output", required=True, metavar="DIR", help="where the new selection goes")
    command.add_argument("--overwrite", action="store_true", help="replace a selection that lies there")


def _add_data(command):
    command.add_argument("--config-file", default="", help="config that names the data (DATASETS)")
    _add_register(command)
    command.set_defaults(takes_opts=True)
    command.epilog = "KEY VALUE pairs at the end override the config, as in `adapruner prune`"


def _add_register(command):
    command.add_argument(
        "--register", action="append", default=[], metavar="NAME=FORMAT:...",
        help="a data set of your own, as in `adapruner prune`",
    )  # fmt: skip


def main() -> None:
    arguments = parse_arguments()
    from adapruner_det.commands import selection_work  # here: --help and mistakes need no torch

    try:
        getattr(selection_work, arguments.run)(arguments)
    except (AssertionError, FloatingPointError, ImportError, KeyError, OSError, ValueError) as problem:
        message = problem.args[0] if isinstance(problem, KeyError) else problem
        raise SystemExit(f"{program()} {arguments.run}: error: {message}") from problem


if __name__ == "__main__":
    main()
