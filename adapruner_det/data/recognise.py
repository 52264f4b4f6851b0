"""Finds out what a path holds: a PASCAL VOC folder, COCO JSON, a YOLO data.yaml or a folder of class folders."""

import logging
import os
import re
import zipfile
from collections.abc import Callable, Collection, Iterable, Iterator
from functools import partial
from itertools import chain
from pathlib import Path
from typing import NamedTuple

from torchvision.datasets.folder import IMG_EXTENSIONS

from ..pruning.names import first_few
from .coco_json import read_coco_lists
from .images import open_archive
from .pictures import Spellings
from .registration import find_path
from .yolo import has_labels, places_of, read_data_yaml

logger = logging.getLogger(__name__)
Parts = dict[str, "str | OSError | ValueError"]  # of a data set, by name: what tells where each is, or why nothing does

TRAINING, TESTING = ("trainval", "train", "training"), ("test", "val", "valid", "validation")
KNOWN = (
    "known are a PASCAL VOC folder (Annotations/, JPEGImages/ and a list in ImageSets/Main/), COCO JSON, a YOLO data.yaml, "
    "and a folder, or zip, of class folders"
)
_YAML = (".yaml", ".yml")
_YOLO_FOLDERS = {"images", "labels"}  # no classes
_ROBOFLOW = "_annotations.coco.json"
_MOST_JSON = 10  # of a folder that are opened; where every image has one they are no COCO JSON
_SPEC = re.compile(r"(voc|coco|yolo|images|torchvision):(.+)")


class Recognised(NamedTuple):
    """A data set as `--register` takes it."""

    spec: str  # NAME=FORMAT:...
    test: str  # spec of the part to evaluate on; empty if there is none
    text: str  # what was recognised, for people

    @property
    def name(self) -> str:
        return self.spec.partition("=")[0]


def recognise(data: str, preferred: tuple[str, ...] = TRAINING) -> Recognised:
    """
    Args:
        data: a path, PATH:PART where PART is a list, split or image folder, or FORMAT:... as behind `--register NAME=`.
        preferred: names of parts, the best first.

    Raises:
        FileNotFoundError: it is nowhere.
        ValueError: it is none of the formats, or several, or its parts have other names.
    """
    if spec := _SPEC.fullmatch(data):
        return Recognised(f"{_name(*re.split('[:,]', spec[2])[:2])}={data}", "", f"{data}, as you say")
    path, part = _parted(data)
    if part and path.is_file() and path.suffix.lower() == ".json":  # the part is its folder of images
        text = f"{path} is {_FORMATS['coco'][1]}, {path.stem}"
        return Recognised(_spec("coco", path, path.stem, {path.stem: f"{path}:{part}"}), "", text)
    found = {form: parts for form, (list_parts, _) in _FORMATS.items() if (parts := list_parts(path))}
    if not found and path.is_dir() and len(files := _data_yamls(path)) == 1:
        path = files[0]
        found = {"yolo": _yolo(path)}
    if len(found) != 1:
        raise ValueError(_unknown(path, found))
    form, parts = next(iter(found.items()))
    chosen = _choose(data, parts, part, preferred)
    readable = _readable(path, parts, chosen)
    unseen = (name for name in _matching(readable, TESTING) if name.lower() not in chosen.lower())  # trainval holds val
    tested = "" if part else next((name for name in unseen if _has_labels(form, readable[name])), "")
    others = sorted(set(readable) - {chosen})
    text = f"{path} is {_FORMATS[form][1]}" + (f", {chosen}" if chosen else "")
    text += f" (others: {first_few(others, 6)}; {path}:{others[0]} takes one)" if others else ""
    return Recognised(_spec(form, path, chosen, readable), _spec(form, path, tested, readable) if tested else "", text)


def _parted(data: str) -> tuple[Path, str]:
    """(path, part) of PATH or PATH:PART."""
    try:
        return Path(find_path(data)), ""
    except FileNotFoundError:
        path, colon, part = data.rpartition(":")
        if not colon:
            raise
        return Path(find_path(path)), part


def _choose(data: str, parts: Collection[str], part: str, preferred: tuple[str, ...]) -> str:
    if part and part not in parts:
        raise ValueError(f"{data}: there is no {part!r}, but {first_few(sorted(parts), 6)}")
    chosen = part or next(_matching(parts, preferred), next(iter(parts)) if len(parts) == 1 else None)
    if chosen is None:
        raise ValueError(f"{data} has {first_few(sorted(parts), 6)}: say which, {data}:{min(parts)}")
    return chosen


def _readable(path: Path, parts: Parts, chosen: str) -> dict[str, str]:
    """The parts that can be read; a warning names the others. Raises what is wrong with the chosen one, if it is one of these."""
    faults = {part: own for part, own in parts.items() if not isinstance(own, str)}
    if chosen in faults:
        raise faults[chosen]
    if faults:
        logger.warning(f"{path}: left out {', '.join(faults)}: {'; '.join(map(str, faults.values()))}")
    return {part: own for part, own in parts.items() if isinstance(own, str)}


def _matching(parts: Iterable[str], names: tuple[str, ...]) -> Iterator[str]:
    """The parts called so, then the only ones that begin so (train2017), by the order of the names."""
    for name in names:
        yield from [part for part in parts if part.lower() == name]
    for name in names:
        begins = [part for part in parts if part.lower().startswith(name)]
        if len(begins) == 1:
            yield begins[0]


def _spec(form: str, path: Path, part: str, parts: dict[str, str]) -> str:
    folder = path if path.is_dir() or form == "images" else path.parent
    stem = folder.resolve().name if form != "images" else folder.resolve().stem
    return f"{_name(stem, part)}={form}:{parts[part]}"


def _name(*words: str) -> str:
    stems = [Path(word).name for word in words if word]
    return re.sub(r"[^\w.-]+", "_", "_".join(stems)) or "data"


def _has_labels(form: str, part: str) -> bool:
    """Whether a part can be evaluated on, as YOLO's test pictures without labels cannot."""
    file, _, split = part.rpartition(":")
    return form != "yolo" or has_labels(read_data_yaml(file), split)


def _unknown(path: Path, found: dict[str, Parts]) -> str:
    if found:
        first = {
            form: next((own for own in parts.values() if isinstance(own, str)), path) for form, parts in found.items()
        }
        ways = " or ".join(f"{form}:{own}" for form, own in first.items())
        return f"{path} is {' and '.join(_FORMATS[form][1] for form in found)}: say which, {ways}"
    seen = _seen_in(path) if path.is_dir() else "holds a data.yaml: unpack it" if _is_packed_yolo(path) else ""
    return f"{path} {seen}" if seen else f"{path} is no data set that is recognised; {KNOWN}"


def _seen_in(folder: Path) -> str:
    """What a folder has of a data set, and what it lacks; empty if that is nothing."""
    if (folder / "Annotations").is_dir():
        return "has Annotations/, but no list of images in ImageSets/Main/*.txt, an id a line: add one"
    if len(files := _data_yamls(folder)) > 1:
        return f"has {', '.join(file.name for file in files)}: give the one that is meant, {files[0]}"
    if any((place / "images").is_dir() and (place / "labels").is_dir() for place in (folder, *_folders(folder))):
        return "has YOLO pictures and labels, but no data.yaml: add one with train, val and names"
    files = sorted(folder.glob("*.json"))
    if len(files) <= _MOST_JSON and len(files := list(filter(_is_coco, files))) == 1:
        return f"holds COCO JSON: give the file itself, {files[0]}"
    if any(chain(folder.glob("*.xml"), folder.glob("*/*.xml"))):
        return "has .xml files: put those of PASCAL VOC in Annotations/, pictures in JPEGImages/, a list in ImageSets/Main/"
    return ""


def _is_coco(file: Path) -> bool:
    try:
        return bool(read_coco_lists(file))
    except (OSError, ValueError):
        return False


def _is_packed_yolo(path: Path) -> bool:
    if not zipfile.is_zipfile(path):
        return False
    with open_archive(path) as archive:
        members = list(map(Path, archive.namelist()))
    return any(own.name == "data.yaml" for own in members) and any("labels" in own.parts for own in members)


def _described(describe: Callable[[], str]) -> "str | OSError | ValueError":
    """What is behind `--register NAME=FORMAT:` for a part, or why it cannot be read."""
    try:
        return describe()
    except (OSError, ValueError) as error:
        return error


def _voc(path: Path) -> Parts:
    if not (path / "Annotations").is_dir():
        return {}
    return {file.stem: f"{path}:{file.stem}" for file in sorted((path / "ImageSets/Main").glob("*.txt"))}


def _yolo(path: Path) -> Parts:
    path = path / "data.yaml" if path.is_dir() else path
    if not path.is_file() or path.suffix.lower() not in _YAML:
        return {}
    file = read_data_yaml(path)

    def describe(split: str) -> str:
        places_of(file, split)
        return f"{file.path}:{split}"

    return {split: _described(partial(describe, split)) for split in file.splits}


def _data_yamls(folder: Path) -> list[Path]:
    """The YAML files of a folder that are a data.yaml by what they say."""
    files = sorted(file for file in folder.iterdir() if file.suffix.lower() in _YAML and file.is_file())
    return [file for file in files if _is_data_yaml(file)]


def _is_data_yaml(file: Path) -> bool:
    try:
        return bool(read_data_yaml(file))
    except (OSError, ValueError):
        return False


def _coco(path: Path) -> Parts:
    if path.is_file():
        return {path.stem: _with_images(path)} if path.suffix.lower() == ".json" else {}
    own = {"": path / _ROBOFLOW} if (path / _ROBOFLOW).is_file() else {}
    exported = {file.parent.name: file for file in sorted(path.glob(f"*/{_ROBOFLOW}"))}
    official = {
        file.stem.removeprefix("instances_"): file for file in sorted(path.glob("annotations/instances_*.json"))
    }
    return {part: _described(partial(_with_images, file)) for part, file in (own or exported or official).items()}


def _with_images(file: Path) -> str:
    return f"{file}:{_image_root(file)}"


def _image_root(file: Path) -> Path:
    """The folder, near a COCO file, that its first picture lies in."""
    try:
        first = next(iter(read_coco_lists(file).images))["file_name"].replace("\\", "/")
    except (OSError, ValueError, LookupError, TypeError, AttributeError, StopIteration) as error:
        raise ValueError(f"{file} is no COCO JSON, or lists no image: {type(error).__name__} {error}") from error
    stem = file.stem.removeprefix("instances_")
    folders = (file.parent, file.parent.parent)
    below = (stem, f"images/{stem}", "", "images")  # the pictures of a part may have the names of another's
    places = [folder / name for folder in folders for name in below]
    for is_there in (os.path.isfile, Spellings().of):
        for place in places:
            if is_there(str(place / first)):
                return place
    raise ValueError(f"{file}: its first picture, {first}, is not near it: name the folder, {file}:IMAGE_DIR")


def _images(path: Path) -> Parts:
    if path.is_file():
        return {"": str(path)} if zipfile.is_zipfile(path) and not _is_packed_yolo(path) else {}
    below = _folders(path)
    splits = {place.name: place for place in below if place.name.lower() in (*TRAINING, *TESTING)}
    if not splits or len(splits) < len(below):
        own = {place.name for place in below}
        return {"": str(path)} if len(below) > 1 and own != _YOLO_FOLDERS and all(map(_holds_picture, below)) else {}
    classes = [place.name for place in _folders(max(splits.values(), key=lambda split: len(_folders(split))))]
    if len(classes) < 2 or set(classes) == _YOLO_FOLDERS or not all(map(_holds_picture, splits.values())):
        return {}
    return {name: str(place) + _lacking(place, classes) for name, place in splits.items()}


def _folders(path: Path) -> list[Path]:
    return sorted(place for place in path.iterdir() if place.is_dir() and not place.name.startswith("."))


def _lacking(split: Path, classes: list[str]) -> str:
    """What names all classes behind the path of a split that has no folder for some of them."""
    own = {place.name for place in _folders(split)}
    told_apart = not any(set(name) & set(",:") for name in classes)
    return f":{','.join(classes)}" if own < set(classes) and told_apart else ""


def _holds_picture(folder: Path) -> bool:
    return any(name.lower().endswith(IMG_EXTENSIONS) for _, _, names in os.walk(folder) for name in names)


_FORMATS: dict[str, tuple[Callable[[Path], Parts], str]] = {  # its parts, if it is one, and its name
    "voc": (_voc, "a PASCAL VOC folder"),
    "coco": (_coco, "COCO JSON"),
    "yolo": (_yolo, "a YOLO data set"),
    "images": (_images, "a folder of class folders"),
}
