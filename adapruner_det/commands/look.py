"""A first look at data without training: copies, leaks between lists, broken files, classes and box sizes.

    adapruner look /data/mine --output output/look

DATA is a PASCAL VOC folder, COCO JSON, a YOLO data.yaml or a folder of class folders, its training and test list; or one list,
NAME=FORMAT:... as of --register, the training list first. It takes minutes for 20,000 images, and leaves look.html, a page, and pairs.csv, all near-copies, in --output.
"""

from pathlib import Path

from adapruner_det.commands import Parser, program

OWN = {"look.html", "pairs.csv", "thumbnails"}  # what it leaves
_AT_A_TIME = 512  # images that are held for the network


def specs_of(data: str) -> list[str]:
    """NAME=FORMAT:... of the lists that a word of the command line names: a path's training and its test list."""
    from adapruner_det.data.recognise import recognise

    if "=" in data and not Path(data).exists():
        return [data]
    found = recognise(data)
    return [spec for spec in (found.spec, found.test) if spec]


def look(data: list[str], output: str, pretrained: bool = True) -> str:
    """Writes the page of all lists of `data`, the first of which is trained on; what it says, and its path.

    Args:
        pretrained: ask EfficientNet-Lite0 as well, where it is installed.

    Raises:
        ValueError, OSError: data that cannot be registered, or of which no image is left; `output` holds other files.
    """
    from functools import partial

    from detectron2.data import MetadataCatalog

    from adapruner_det.engine.setup import load_config
    from adapruner_det.engine.tasks import task_of
    from adapruner_det.report.look import write_look

    folder = Path(output)
    others = {path.name for path in folder.iterdir()} - OWN if folder.exists() else set()
    if others:
        raise FileExistsError(
            f"{folder} holds {min(others)}, which is of no look at data: name a new folder, --output DIR"
        )
    specs = [spec for word in data for spec in specs_of(word)]
    cfg = load_config()
    lists, problems = {}, []
    for spec in specs:
        name, faults = _register_what_can_be_read(spec)
        problems += faults
        if MetadataCatalog.get(name).get("evaluator_type") == "classification":
            cfg.MODEL.META_ARCHITECTURE = "ImageClassifier"
        lists[name] = task_of(cfg).load_dataset(cfg, name)
    own_names = {name: MetadataCatalog.get(name).thing_classes for name in lists}
    class_names = list(dict.fromkeys(own for names in own_names.values() for own in names))
    records = [
        _renumbered(record, [class_names.index(own) for own in own_names[name]])
        for name, own in lists.items()
        for record in own
    ]
    features = _features_of(records) if pretrained else None
    page, verdict = write_look(folder, records, class_names, partial(task_of(cfg).read_image, cfg), problems, features)
    by = "EfficientNet-Lite0 and " if features is not None else ""
    return f"{verdict}\nby {by}the details of small grey pictures\n{page}"


def _register_what_can_be_read(spec: str):
    """The name of a data set that is registered without the images that are at fault, and what is wrong with those."""
    from detectron2.data import DatasetCatalog, MetadataCatalog

    from adapruner_det.data.formats import FORMATS
    from adapruner_det.data.registration import register_from_spec
    from adapruner_det.data.validation import InvalidDatasetError

    name = register_from_spec(spec, FORMATS)
    try:
        DatasetCatalog.get(name)
        return name, []
    except InvalidDatasetError as error:
        DatasetCatalog.remove(name)
        MetadataCatalog.remove(name)
        return register_from_spec(spec, FORMATS, "skip_objects"), error.problems


def _renumbered(record: dict, numbers: list[int]) -> dict:
    """A record with other category ids: lists may name their classes in another order."""
    if "category_id" in record:
        return {**record, "category_id": numbers[record["category_id"]]}
    objects = [{**own, "category_id": numbers[own["category_id"]]} for own in record.get("annotations", [])]
    return {**record, "annotations": objects}


def _features_of(records: list[dict]):
    """(N, 1280) of EfficientNet-Lite0; None where it is not installed."""
    import numpy as np
    from tqdm import tqdm

    from adapruner_det.data.images import read_images
    from adapruner_det.modeling.efficientnet_lite import embed, load_network

    try:
        network = load_network(pretrained=True)
    except ImportError:
        return None
    starts = tqdm(range(0, len(records), _AT_A_TIME), "Features", unit="chunk", delay=5, leave=False)
    return np.concatenate([embed(network, read_images(records[i : i + _AT_A_TIME], 128)) for i in starts])


def main() -> None:
    parser = Parser(description=__doc__)
    parser.add_argument("data", nargs="+", metavar="DATA", help="a path, or NAME=FORMAT:...")
    parser.add_argument("--output", default="output/look", metavar="DIR", help="where the page goes")
    parser.add_argument("--plain", action="store_true", help="do not ask the pretrained network")
    args = parser.parse_args()
    try:
        print(look(args.data, args.output, not args.plain))
    except (KeyError, OSError, ValueError) as problem:
        message = problem.args[0] if isinstance(problem, KeyError) else problem
        raise SystemExit(f"{program()}: error: {message}") from problem
