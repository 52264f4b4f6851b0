"""New PASCAL VOC folders made from one that is there: its files linked or copied, lists of their own."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

from adapruner_det.data.validation import PathLike
from adapruner_det.data.voc import read_image_set
from adapruner_det.files import new_folder

LISTS = "ImageSets/Main"
FILE_FOLDERS = ("JPEGImages", "Annotations")


def list_path(name: str) -> str:
    """Where a list lies within its VOC folder."""
    return f"{LISTS}/{name}.txt"


def other_lists(dirname: PathLike, split: str) -> dict[str, set[str]]:
    """The image ids of every list of a VOC folder but `split`, by name; lists without images are left out."""
    found = {}
    for path in sorted((Path(dirname) / LISTS).glob("*.txt")):
        if path.stem == split:
            continue
        try:
            found[path.stem] = set(read_image_set(dirname, path.stem))
        except ValueError:
            continue
    return found


def put(source: Path, target: Path, copy: bool) -> None:
    """Puts a file or a whole folder at `target`: as a link to where it really lies, or as a copy."""
    if not copy:
        target.symlink_to(source.resolve())
    elif source.is_dir():
        shutil.copytree(source, target)
    else:
        shutil.copy2(source, target)


def make_folder(output: PathLike, texts: dict[str, str], fill: Callable[[Path], None]) -> bool:
    """Makes a VOC folder, whole or not at all, unless it is there already. Nothing is ever overwritten.

    Args:
        output: the folder to make; an empty one may be there.
        texts: path within the folder -> content of the text files that tell it from all others.
        fill: puts `JPEGImages`, `Annotations` and further lists into the folder that it is given.

    Returns:
        whether it was made; False if it was there, with the same texts.

    Raises:
        FileExistsError: something else is there, or links in it lead nowhere any more.
    """
    output = Path(output)
    if os.path.lexists(output) and not (output.is_dir() and not any(output.iterdir())):
        _check_same(output, texts)
        return False
    with new_folder(output) as folder:
        for name, text in texts.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(text, encoding="utf-8")
        fill(folder)
    return True


def _check_same(output: Path, texts: dict[str, str]) -> None:
    for name, text in texts.items():
        path = output / name
        if not path.is_file():
            raise FileExistsError(
                f"{output} holds something else (it has no {name}): name another folder, or delete it"
            )
        if path.read_text(encoding="utf-8") != text:
            raise FileExistsError(
                f"{path} is not what these settings give on this data; nothing was changed. Name another "
                f"folder, or delete {output}"
            )
    for folder in (output / name for name in FILE_FOLDERS):
        broken = [folder] if not folder.exists() else [p for p in folder.iterdir() if not p.exists()]
        if broken:
            raise FileExistsError(
                f"{broken[0]} leads nowhere: the data it came from has moved. Delete {output} and run again"
            )
