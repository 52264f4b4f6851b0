"""Folders of class folders, and zip archives of them, as lists of records.

PATH/frog/00000.jpg                     a folder: class folders directly in it, as for torchvision's
PATH/frog/pond/00001.jpg                ImageFolder; folders within a class belong to the class
PATH.zip: train/frog/00000.jpg          an archive: folders that hold all of it are gone through
"""

import logging
import os
import posixpath
from collections.abc import Sequence

from torchvision.datasets.folder import IMG_EXTENSIONS

from ..pruning.names import first_few
from .images import drop_unreadable, open_archive
from .pictures import is_hidden, walk
from .validation import PathLike, Record, check_on_invalid

logger = logging.getLogger(__name__)

_SPLITS = {"train", "training", "trainval", "val", "valid", "validation", "test"}

# Path below the class folders' folder, with forward slashes (that of a folder ends with one) -> the keys of a
# record that say where the file lies.
Tree = dict[str, dict[str, str]]


def find_class_names(path: PathLike, class_names: Sequence[str] | None = None) -> list[str]:
    """The classes of a folder or archive, sorted; or those given, if there is a folder for one of them.

    Raises:
        ValueError: a class is named twice, none has a folder, the folders are those of splits, or `path`
            is a file but no zip archive, or one that holds a path twice.
        FileNotFoundError: `path` does not exist.
    """
    return _choose_classes(path, _list_below(path, class_names), class_names)


def load_images_dataset(path: PathLike, class_names: Sequence[str], on_invalid: str) -> list[Record]:
    """Lists the pictures of a folder of class folders, or of a zip archive of them, and reads their headers.

    Files without a picture's ending are passed over, with a warning; so are classes that have no folder.

    Args:
        class_names: the folders to read, in the order of their category ids.
        on_invalid: "error" reports all broken pictures at once, "skip_images" and "skip_objects" leave
            them out.

    Returns:
        class by class, in each by folder and name, one dict a picture: image_id (path relative to the
        class folders' folder, with forward slashes), category_id, file_name, and member for an archive.

    Raises:
        InvalidDatasetError: broken pictures, see `on_invalid`.
        ValueError: a class folder without a picture, or what `find_class_names` raises.
    """
    check_on_invalid(on_invalid)
    tree = _list_below(path, class_names)
    pictures: dict[str, list[str]] = {name: [] for name in _choose_classes(path, tree, class_names)}
    others = []
    for name in sorted((name for name in tree if not name.endswith("/")), key=posixpath.split):
        top, slash, _ = name.partition("/")
        if not slash or (top in pictures and not _is_picture(name)):
            others.append(name)
        elif top in pictures:
            pictures[top].append(name)
    empty = [name for name, own in pictures.items() if not own]
    absent = [name for name in empty if name not in _tops(tree)]
    if len(empty) > len(absent):
        raise ValueError(
            f"{path}: no picture ({', '.join(IMG_EXTENSIONS)}) in {len(empty) - len(absent)} of {len(class_names)} "
            f"class folders: {first_few(n for n in empty if n not in absent)}. Remove them, or name the classes to read"
        )
    if absent:  # a test set need not have images of every class
        logger.warning(f"{path} has no folder, and so no image, of {len(absent)} classes: {first_few(absent)}")
    if others:
        logger.warning(
            f"{path}: {len(others)} files are not in a class folder or no pictures, and ignored; the "
            f"first is {others[0]}"
        )
    records = [
        {**tree[name], "image_id": name, "category_id": category_id}
        for category_id, own in enumerate(pictures.values())
        for name in own
    ]
    return drop_unreadable(records, path, on_invalid)


def _choose_classes(path: PathLike, tree: Tree, class_names: Sequence[str] | None) -> list[str]:
    present = sorted(_tops(tree))
    if not present:
        raise ValueError(f"{path} holds no class folder: images lie in one folder a class")
    if class_names is None and _SPLITS.issuperset(map(str.lower, present)):
        way_out = "pack each into an archive of its own"
        if os.path.isdir(path):
            way_out = f"register images:{os.path.join(path, 'train' if 'train' in present else present[0])}"
        raise ValueError(f"{path} holds splits ({', '.join(present)}), not class folders: {way_out}")
    chosen = present if class_names is None else list(class_names)
    if len(set(chosen)) < len(chosen) or not all(chosen) or not set(chosen) & set(present):
        raise ValueError(
            f"class names are missing, repeat, or have no folder in {path}: {first_few(chosen)}; "
            f"folders there: {first_few(present)}"
        )
    return chosen


def _tops(tree: Tree) -> set[str]:
    """The folders directly below the root."""
    return {name.split("/", 1)[0] for name in tree if "/" in name}


def _is_picture(file: str) -> bool:
    return file.lower().endswith(IMG_EXTENSIONS) and not is_hidden(posixpath.basename(file))


def _list_below(path: PathLike, class_names: Sequence[str] | None) -> Tree:
    if os.path.isdir(path):
        return {name: {"file_name": os.path.join(path, *name.split("/"))} for name in walk(path)}
    if not os.path.exists(path):
        raise FileNotFoundError(f"there is no folder or archive {path}")
    return _below_common_folder(_list_members(path), set(class_names or ()))


def _list_members(path: PathLike) -> Tree:
    tree: Tree = {}
    twice = []
    with open_archive(path) as archive:
        members = archive.namelist()
    for member in members:
        slashed = member.replace("\\", "/")  # some packers on Windows write backslashes
        name = posixpath.normpath(slashed).lstrip("/") + ("/" if slashed.endswith("/") else "")
        if any(map(is_hidden, name.split("/")[:-1])):
            continue
        if name in tree and not name.endswith("/"):
            twice.append(name)
        tree[name] = {"file_name": os.fspath(path), "member": member}
    if twice:
        raise ValueError(f"{path} holds {len(twice)} paths more than once: {first_few(twice)}. Pack it anew")
    return tree


def _below_common_folder(tree: Tree, class_names: set[str]) -> Tree:
    """Goes down while all folders lie in a single one that is no class folder itself.

    A folder is a class folder if it is named as one, or if no folder in it holds a picture.
    """
    while True:
        tops = _tops(tree)
        nested = any(name.count("/") >= 2 and _is_picture(name) for name in tree)
        if len(tops) != 1 or tops & class_names or not nested:
            return tree
        top = f"{tops.pop()}/"
        tree = {name.removeprefix(top): keys for name, keys in tree.items() if name.startswith(top) and name != top}
