"""Finds out what a path holds: a PASCAL VOC folder, COCO JSON, a YOLO data.yaml or a folder of class folders."""

import os
import re
import zipfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from torchvision.datasets.folder import IMG_EXTENSIONS

from ..pruning.names import first_few
from .coco_json import read_coco_lists
from .registration import find_path
from .yolo import read_data_yaml

TRAINING, TESTING = ("trainval", "train", "training"), ("test", "val", "valid", "validation")
KNOWN = (
    "known are a PASCAL VOC folder (Annotations/, JPEGImages/ and a list in ImageSets/Main/), COCO JSON, a YOLO data.yaml, "
    "and a folder, or zip, of class folders"
)
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
    if len(found) != 1:
        raise ValueError(_unknown(path, found))
    form, parts = next(iter(found.items()))
    chosen = _choose(data, parts, part, preferred)
    unseen = (name for name in _matching(parts, TESTING) if name.lower() not in chosen.lower())  # trainval holds val
    tested = "" if part else next(unseen, "")
    others = sorted(set(parts) - {chosen})
    text = f"{path} is {_FORMATS[form][1]}" + (f", {chosen}" if chosen else "")
    text += f" (others: {first_few(others, 6)}; {path}:{others[0]} takes one)" if others else ""
    return Recognised(_spec(form, path, chosen, parts), _spec(form, path, tested, parts) if tested else "", text)


def _parted(data: str) -> tuple[Path, str]:
    """(path, part) of PATH or PATH:PART."""
    try:
        return Path(find_path(data)), ""
    except FileNotFoundError:
        path, colon, part = data.rpartition(":")
        if not colon:
            raise
        return Path(find_path(path)), part


def _choose(data: str, parts: dict[str, str], part: str, preferred: tuple[str, ...]) -> str:
    if part and part not in parts:
        raise ValueError(f"{data}: there is no {part!r}, but {first_few(sorted(parts), 6)}")
    chosen = part or next(_matching(parts, preferred), next(iter(parts)) if len(parts) == 1 else None)
    if chosen is None:
        raise ValueError(f"{data} has {first_few(sorted(parts), 6)}: say which, {data}:{min(parts)}")
    return chosen


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


def _unknown(path: Path, found: dict[str, dict[str, str]]) -> str:
    if found:
        ways = " or ".join(f"{form}:{next(iter(parts.values()))}" for form, parts in found.items())
        return f"{path} is {' and '.join(_FORMATS[form][1] for form in found)}: say which, {ways}"
    if (path / "Annotations").is_dir():
        return f"{path} has Annotations/, but no list of images in ImageSets/Main/*.txt, an id a line: add one"
    return f"{path} is no data set that is recognised; {KNOWN}"


def _voc(path: Path) -> dict[str, str]:
    if not (path / "Annotations").is_dir():
        return {}
    return {file.stem: f"{path}:{file.stem}" for file in sorted((path / "ImageSets/Main").glob("*.txt"))}


def _yolo(path: Path) -> dict[str, str]:
    file = path / "data.yaml" if path.is_dir() else path
    if not file.is_file() or file.suffix.lower() not in (".yaml", ".yml"):
        return {}
    return {split: f"{file}:{split}" for split in read_data_yaml(file).splits}


def _coco(path: Path) -> dict[str, str]:
    if path.is_file():
        return {path.stem: f"{path}:{_image_root(path)}"} if path.suffix.lower() == ".json" else {}
    exported = {file.parent.name: file for file in sorted(path.glob("*/_annotations.coco.json"))}
    official = {
        file.stem.removeprefix("instances_"): file for file in sorted(path.glob("annotations/instances_*.json"))
    }
    return {part: f"{file}:{_image_root(file)}" for part, file in (exported or official).items()}


def _image_root(file: Path) -> Path:
    """The folder, near a COCO file, that its first picture lies in."""
    try:
        first = next(iter(read_coco_lists(file).images))["file_name"].replace("\\", "/")
    except (OSError, ValueError, LookupError, TypeError, AttributeError, StopIteration) as error:
        raise ValueError(f"{file} is no COCO JSON, or lists no image: {type(error).__name__} {error}") from error
    stem = file.stem.removeprefix("instances_")
    for folder in (file.parent, file.parent.parent):
        for place in (folder, folder / "images", folder / stem, folder / "images" / stem):
            if (place / first).is_file():
                return place
    raise ValueError(f"{file}: its first picture, {first}, is not near it: name the folder, {file}:IMAGE_DIR")


def _images(path: Path) -> dict[str, str]:
    if path.is_file():
        return {"": str(path)} if zipfile.is_zipfile(path) else {}
    below = _folders(path)
    splits = {place.name: place for place in below if place.name.lower() in (*TRAINING, *TESTING)}
    if not splits or len(splits) < len(below):
        return {"": str(path)} if len(below) > 1 and all(map(_holds_picture, below)) else {}
    classes = [place.name for place in _folders(max(splits.values(), key=lambda split: len(_folders(split))))]
    if len(classes) < 2 or not all(map(_holds_picture, splits.values())):
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


_FORMATS: dict[str, tuple[Callable[[Path], dict[str, str]], str]] = {  # its parts, if it is one, and its name
    "voc": (_voc, "a PASCAL VOC folder"),
    "coco": (_coco, "COCO JSON"),
    "yolo": (_yolo, "a YOLO data set"),
    "images": (_images, "a folder of class folders"),
}
