"""Reads YOLO data sets, as Ultralytics trains on them: a `data.yaml`, pictures, and a text file of labels beside each.

A label is a line `class x y width height`, the box's centre and size over those of the picture, or `class x1 y1 x2 y2 ...`,
a polygon; where `data.yaml` has a `kpt_shape`, keypoints may follow the box, which are not read. The labels of
`a/images/b.jpg` are in `a/labels/b.txt`; a picture without such a file is background.
"""

import logging
import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import yaml
from detectron2.structures import BoxMode
from tqdm import tqdm

from ..files import write_text
from .pictures import Spellings, inspect_picture, inspect_pictures, is_hidden, walk
from .validation import LOGGED_LINES, Findings, PathLike, Problem, Record, check_on_invalid, first_lines, plain_number

PICTURES = (".bmp", ".jpeg", ".jpg", ".mpo", ".png", ".tif", ".tiff", ".webp")
SPLITS = ("train", "val", "test")
_OWN_KEYS = ("path", *SPLITS, "validation", "names", "nc", "download")  # that say nothing of a selection's data.yaml

logger = logging.getLogger(__name__)


class YOLOFile(NamedTuple):
    """What a `data.yaml` says."""

    path: Path
    root: Path  # what its paths are relative to
    splits: dict[str, list[str]]
    class_names: list[str]
    keypoint_numbers: int  # that may follow the box in a line of labels; 0 if the data is none of poses
    others: dict[str, Any]  # further keys, such as kpt_shape and flip_idx


def read_data_yaml(path: PathLike) -> YOLOFile:
    """Reads a `data.yaml`.

    Raises:
        FileNotFoundError: there is none.
        ValueError: it is no YAML, or lacks splits or the names of the classes.
    """
    path = Path(path)
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8-sig"))
    except (UnicodeDecodeError, yaml.YAMLError, RecursionError) as error:
        raise ValueError(f"{path} is no YAML: {' '.join(str(error).split())}") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path} is no data.yaml: it has no 'names'")
    content["val"] = content.get("val") or content.get("validation")
    splits = {split: _entries(path, split, content[split]) for split in SPLITS if content.get(split)}
    if not splits:
        raise ValueError(f"{path} names no pictures: 'train', 'val' and 'test' are missing")
    given = content.get("path") or "."
    if not isinstance(given, str):
        raise ValueError(f"{path}: 'path' is {given!r}, no folder")
    others = {key: value for key, value in content.items() if key not in _OWN_KEYS}
    numbers = _keypoint_numbers(path, content.get("kpt_shape"))
    return YOLOFile(path, _root(path, given), splits, _class_names(path, content), numbers, others)


def _root(path: Path, given: str) -> Path:
    """The folder meant by `path`: as given, beside the file, or among Detectron2's data sets; else the file's own."""
    datasets = Path(os.getenv("DETECTRON2_DATASETS", "datasets")).expanduser()
    places = [path.parent / given, datasets / given]  # an absolute one takes the place of what is before it
    return next((place for place in places if place.is_dir()), path.parent)


def _entries(path: Path, split: str, entry: Any) -> list[str]:
    entries = entry if isinstance(entry, list) else [entry]
    if not all(isinstance(one, str) for one in entries):
        raise ValueError(f"{path}: '{split}' is {entry!r}; it can be a folder, a text file, or a list of these")
    return entries


def _class_names(path: Path, content: dict[str, Any]) -> list[str]:
    names = content.get("names")
    if isinstance(names, dict) and all(str(key).isdecimal() for key in names):
        numbered = {int(key): name for key, name in names.items()}
        names = [numbered.get(number) for number in range(len(names))]
    if (
        not isinstance(names, list)
        or not names
        or any(name is None or isinstance(name, (dict, list)) for name in names)
    ):
        raise ValueError(
            f"{path}: 'names' is to be a list of class names, or numbers from 0 and names; it is {names!r}"
        )
    if any(isinstance(name, bool) for name in names):
        raise ValueError(f"{path}: 'names' is {names!r}: YAML reads yes, no, on and off so; put such names in quotes")
    if content.get("nc") not in (None, len(names), str(len(names))):
        raise ValueError(f"{path}: 'nc' is {content['nc']!r}, but there are {len(names)} names")
    return [str(name) for name in names]


def _keypoint_numbers(path: Path, shape: Any) -> int:
    if shape is None:
        return 0
    if (
        not isinstance(shape, list)
        or len(shape) != 2
        or not all(type(number) is int and number > 0 for number in shape)
    ):
        raise ValueError(f"{path}: 'kpt_shape' is {shape!r}; it is [keypoints of an object, numbers of each]")
    return int(shape[0] * shape[1])


def list_pictures(file: YOLOFile, split: str) -> list[Path]:
    """The pictures of a split, each once: those of its folders, sorted, or of its text files, in their order.

    Raises:
        FileNotFoundError: a folder or text file is not there.
        ValueError: there is no such split, or it has no picture.
    """
    if split not in file.splits:
        raise ValueError(f"{file.path} has no split {split!r}; it has {', '.join(file.splits)}")
    found: list[Path] = []
    for place in places_of(file, split):
        if place.is_dir():
            below = map(place.joinpath, (name for name in walk(place) if not name.endswith("/")))
            found += sorted(p for p in below if p.suffix.lower() in PICTURES and not is_hidden(p.name))
        elif place.suffix.lower() in PICTURES:
            found.append(place)
        else:
            found += _listed(file, place)
    if not found:
        raise ValueError(f"{file.path}: split {split!r} ({', '.join(file.splits[split])}) has no picture")
    return list(dict.fromkeys(found))


def places_of(file: YOLOFile, split: str) -> list[Path]:
    """The folders and text files of a split; FileNotFoundError if one is not there."""
    return [_find(file, entry) for entry in file.splits[split]]


def _find(file: YOLOFile, entry: str) -> Path:
    """A path of the file, where it is. Roboflow's `../train/images` is meant from the file's own folder."""
    entry = entry.replace("\\", "/")
    places = [file.root / entry, file.path.parent / entry, file.path.parent / entry.removeprefix("../")]
    for place in places:
        if place.exists():
            return Path(os.path.normpath(place))
    raise FileNotFoundError(f"{file.path} names {entry}, but there is no {places[0]}")


def _listed(file: YOLOFile, text: Path) -> list[Path]:
    try:
        lines = text.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise ValueError(f"{text} is no list of pictures: {error}") from error
    lines = [line.strip().replace("\\", "/") for line in lines if line.strip()]
    return [_picture(file, text, line) for line in lines]


def _picture(file: YOLOFile, text: Path, line: str) -> Path:
    """`./` is meant from the list's own folder, else from the root; that of the two which is there."""
    own, root = text.parent / line, file.root / line
    first, second = (own, root) if line.startswith("./") else (root, own)
    return Path(os.path.normpath(second if second.is_file() and not first.is_file() else first))


def label_file(picture: Path) -> Path:
    """Where the labels of a picture are: the last folder `images` of its path becomes `labels`."""
    parts = list(picture.parts)
    places = [at for at, part in enumerate(parts[:-1]) if part == "images"]
    if places:
        parts[places[-1]] = "labels"
    return Path(*parts).with_suffix(".txt")


class _Labels:
    """The files of labels of pictures, as they are."""

    def __init__(self) -> None:
        self._spellings = Spellings()
        self._pictures: dict[Path, set[str]] = {}  # their names without endings, by folder

    def of(self, picture: Path) -> list[Path]:
        """The file named like the picture; else all that are spelled a little differently and are no other's."""
        own = label_file(picture)
        if os.path.lexists(own):
            return [own]
        others = map(Path, self._spellings.of(os.fspath(own)))
        return [other for other in others if other.stem == own.stem or other.stem not in self._named(picture.parent)]

    def _named(self, folder: Path) -> set[str]:
        if folder not in self._pictures:
            found = (Path(name) for name in os.listdir(folder)) if folder.is_dir() else ()
            self._pictures[folder] = {own.stem for own in found if own.suffix.lower() in PICTURES}
        return self._pictures[folder]


def has_labels(file: YOLOFile, split: str) -> bool:
    """Whether one picture of a split has a file of labels."""
    try:
        pictures = list_pictures(file, split)
    except ValueError:  # it has no picture
        return False
    return any(map(_Labels().of, pictures))


def load_yolo_dataset(
    data_yaml: PathLike, split: str, class_names: Sequence[str], on_invalid: str = "clip"
) -> list[Record]:
    """Loads a split as Detectron2's dataset dicts.

    Boxes that stick out of the picture by rounding are clipped. A line that is there twice counts once. Objects of the
    file's classes that are not among `class_names` are left out, which is said with their number.

    Args:
        on_invalid: what to do about problems, see `load_voc_dataset`.

    Returns:
        one dict an image: file_name, image_id (its path below the root), height, width and annotations, each with
            category_id, bbox, bbox_mode (XYXY_ABS), iscrowd 0 and, for polygons, segmentation.

    Raises:
        InvalidDatasetError: there are problems and `on_invalid` is "clip" or "error", or no image is left.
        ValueError, FileNotFoundError: as `read_data_yaml` and `list_pictures`.
    """
    check_on_invalid(on_invalid)
    file = read_data_yaml(data_yaml)
    pictures = list_pictures(file, split)
    numbers = {file.class_names.index(own): i for i, own in enumerate(class_names) if own in file.class_names}
    findings, records, labels = Findings(on_invalid), [], _Labels()
    inspect_pictures(map(os.fspath, pictures), f"Pictures of {split}")
    for picture in tqdm(pictures, f"Labels of {split}", unit="image", delay=5, leave=False, disable=None):
        image_id = os.path.relpath(picture, file.root).replace(os.sep, "/")
        try:
            seen = inspect_picture(os.fspath(picture))
        except (OSError, ValueError) as error:
            fault = "there is no such picture" if isinstance(error, FileNotFoundError) else str(error)
            findings.add(image_id, Problem(os.fspath(picture), fault), unusable=True)
            continue
        findings.note_picture(image_id, seen)
        record = {"file_name": os.fspath(picture), "image_id": image_id, "height": seen.height, "width": seen.width}
        records.append({**record, "annotations": _annotations(record, labels.of(picture), file, numbers, findings)})
    findings.check_reading("the shares x1 y1 x2 y2", "the centre's x y, width, height", file.path)
    findings.check_left_out(class_names, file.class_names, file.path)
    _warn_of_no_labels(file, records, labels, split)
    where = f"split {split!r} of {file.path} (classes: {', '.join(class_names)})"
    return findings.usable(records, len(pictures), where, list)


def _annotations(
    record: Record, labels: Sequence[Path], file: YOLOFile, numbers: dict[int, int], findings: Findings
) -> list[Record]:
    """The objects of an image, whose files of labels these are."""
    image_id, size = record["image_id"], (record["width"], record["height"])
    try:
        lines = _lines(labels)
    except (OSError, ValueError) as error:
        findings.add(image_id, Problem(os.fspath(labels[0]), f"no readable labels: {error}"), unusable=True)
        return []
    if labels and labels[0] != label_file(Path(record["file_name"])):
        findings.note(image_id, "files of labels are spelled unlike their pictures: Ultralytics does not find them")
    annotations: list[Record] = []
    seen: set[str] = set()
    for number, line in enumerate(lines, start=1):
        line = " ".join(line.split())
        if line in seen:
            findings.note(image_id, "lines of labels are there before: each counts once")
        if not line or line in seen:
            continue
        seen.add(line)
        try:
            cls, annotation = _read_line(line, size, file, image_id, findings)
        except ValueError as error:
            findings.add_object(image_id, Problem(os.fspath(labels[0]), f"line {number}: {error}"), error)
            continue
        if cls in numbers:
            annotations.append({"category_id": numbers[cls], **annotation})
        else:
            findings.left_out[file.class_names[cls]] += 1
    return annotations


def _lines(labels: Sequence[Path]) -> list[str]:
    """What a picture's files of labels say; nothing if there is none."""
    if len(labels) > 1:
        raise ValueError(f"{', '.join(own.name for own in labels)} fit the picture: leave the one that is meant")
    if labels and not labels[0].is_file():  # it would be read as background
        raise OSError("it is no regular file, or a link to nothing")
    return labels[0].read_text(encoding="utf-8-sig").splitlines() if labels else []


def _read_line(
    line: str, size: tuple[int, int], file: YOLOFile, image_id: str, findings: Findings
) -> tuple[int, Record]:
    """The class number and the annotation of a line; ValueError says what is wrong with it."""
    names = file.class_names
    try:
        values = np.array([plain_number(word) for word in line.split()])
    except ValueError:
        raise ValueError(f"{line[:80]!r} are not all numbers") from None
    cls, rest = values[0], values[1:]
    if not np.isfinite(values).all():
        raise ValueError(f"{line[:80]!r} holds a number that is not finite")
    if cls != int(cls) or not 0 <= cls < len(names):
        raise ValueError(f"class {line.split()[0]} is none of the {len(names)} classes, 0 to {len(names) - 1}")
    rest = _box_or_polygon(rest, file.keypoint_numbers)
    polygon = len(rest) != 4
    points = rest.reshape(-1, 2) * size if polygon else (rest.reshape(2, 2)[0] + np.outer((-0.5, 0.5), rest[2:])) * size
    edges = [*points.min(axis=0).tolist(), *points.max(axis=0).tolist()]
    try:
        if not polygon and min(rest[2:]) < 0:
            raise ValueError("has no area")
        corners = (rest.reshape(2, 2) * size).flatten().tolist() if not polygon else edges
        box, _ = findings.fit_box(image_id, edges, *size, corners)
    except ValueError as error:
        hint = "; numbers are to be shares of the picture's width and height" if np.abs(rest).max() > 1.5 else ""
        raise type(error)(f"box of class {names[int(cls)]} {error}{hint}") from error
    clipped = np.clip(points, 0, size)
    segmentation = {"segmentation": [clipped.flatten().tolist()]} if polygon else {}
    return int(cls), {"bbox": list(box), "bbox_mode": BoxMode.XYXY_ABS, "iscrowd": 0, **segmentation}


def _box_or_polygon(numbers: np.ndarray, keypoint_numbers: int) -> np.ndarray:
    """The four of a box, without keypoints, or the points of a polygon, which data of poses has none of."""
    count = len(numbers)
    if count == 4 or keypoint_numbers and count == 4 + keypoint_numbers:
        return numbers[:4]
    if keypoint_numbers:
        raise ValueError(
            f"has {count} numbers behind the class; a box has 4, and with keypoints {4 + keypoint_numbers}"
        )
    if count < 6 or count % 2:
        raise ValueError(f"has {count} numbers behind the class; a box has 4, a polygon an even number from 6 on")
    return numbers


def _warn_of_no_labels(file: YOLOFile, records: Sequence[Record], labels: _Labels, split: str) -> None:
    """Pictures without a file of labels are background; where that is most of them, the folder may be missing."""
    bare = [Path(record["file_name"]) for record in records if not record["annotations"]]
    lacking = [label_file(picture) for picture in bare if not labels.of(picture)]
    if lacking and len(lacking) > len(records) / 2:
        shown = "\n".join(first_lines(lacking, LOGGED_LINES))
        logger.warning(
            f"{file.path}: {len(lacking)} of {len(records)} pictures of {split!r} have no labels and count as background:\n{shown}"
        )


def label_lines(record: Record) -> list[str]:
    """The lines of labels of a dataset dict: boxes, without crowds, which YOLO's form does not know."""
    lines = []
    for annotation in record.get("annotations", []):
        if not annotation.get("iscrowd", 0):
            box = BoxMode.convert(annotation["bbox"], annotation["bbox_mode"], BoxMode.XYXY_ABS)
            left, top, right, bottom = np.clip(box, 0, (record["width"], record["height"]) * 2).tolist()
            centre = ((left + right) / 2 / record["width"], (top + bottom) / 2 / record["height"])
            size = ((right - left) / record["width"], (bottom - top) / record["height"])
            lines.append(" ".join([str(annotation["category_id"]), *(f"{value:.6f}" for value in (*centre, *size))]))
    return lines


def write_data_yaml(path: Path, train: Path, class_names: Sequence[str], source: YOLOFile | None) -> None:
    """Writes a `data.yaml` whose training pictures are `train`; `val`, `test` and other keys are those of the source, if they are there.

    Without a source `val` is `train`, with a remark, for Ultralytics does not train without one.
    """
    content: dict[str, Any] = {"path": os.path.abspath(source.root if source else path.parent)}
    content["train"] = os.path.abspath(train)
    for split in ("val", "test"):
        if source and split in source.splits:
            with suppress(FileNotFoundError):
                content[split] = list(map(os.path.abspath, places_of(source, split)))
    remark = "" if "val" in content else "# val: name the pictures to evaluate on here; these are those trained on\n"
    content.setdefault("val", content["train"])
    content["names"] = dict(enumerate(class_names))
    content.update(source.others if source else {})
    write_text(path, remark + yaml.safe_dump(content, sort_keys=False, allow_unicode=True))
