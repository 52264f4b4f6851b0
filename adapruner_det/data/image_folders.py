"""Folders of class folders, and zip archives of them, as lists of records.

PATH/frog/00000.jpg                     a folder: class folders directly in it, as for torchvision's
PATH/frog/pond/00001.jpg                ImageFolder; folders within a class belong to the class
PATH.zip: train/frog/00000.jpg          an archive: folders that hold all of it are gone through
"""

import logging
import os
import posixpath
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path

from torchvision.datasets.folder import IMG_EXTENSIONS

from .images import find_unreadable, open_archive
from .validation import PathLike, Problem, check_on_invalid, raise_or_warn

logger = logging.getLogger(__name__)

_NAMED = 5  # so many files or folders are named in an error
_REMEMBERED = 8  # so many archives


class _Archive:
    """What is known of a zip archive as it is on disk, so that each is found out once in a process.

    Attributes:
        members: paths of all members. The records hold the same strings, so that while they are in use
            this costs a pointer an image.
        unreadable: class names -> what `find_unreadable` found in the pictures of these classes.
    """

    def __init__(self, path: str):
        with open_archive(path) as archive:
            self.members = tuple(info.filename for info in archive.infolist())
        self.unreadable: dict[tuple[str, ...], dict[int, Problem]] = {}


def _archive(path: str) -> _Archive:
    status = os.stat(path)
    # Of a file that was changed or replaced at least one of these is another.
    return _archive_version(path, status.st_size, status.st_mtime_ns, status.st_ino)


@lru_cache(_REMEMBERED)
def _archive_version(path: str, *version: int) -> _Archive:
    return _Archive(path)


class ImageTree:
    """The files below a folder of class folders, or below that of an archive.

    Attributes:
        path: the folder or archive.
    """

    def __init__(self, path: PathLike, class_names: Sequence[str] | None = None):
        """
        Args:
            path: a folder, or a zip archive.
            class_names: where they are known, an archive's folder of this name is a class folder.

        Raises:
            FileNotFoundError: `path` does not exist.
            ValueError: it is a file, but no zip archive, or an archive with two members of one path.
        """
        self.path = os.fspath(path)
        self._archive: _Archive | None = None
        self._members: dict[str, str] | None = None  # of an archive: relative path -> member
        if not os.path.isdir(path):
            if not os.path.exists(path):
                raise FileNotFoundError(f"there is no folder or archive {path}")
            self._archive = _archive(self.path)
            listed = _list_members(self.path, self._archive.members)
            self._members, self._folders = _below_common_folder(*listed, class_names or ())
            self._by_class = defaultdict(list)
            for relative in self._members:
                self._by_class[relative.split("/", 1)[0]].append(relative)

    def class_names(self) -> list[str]:
        """Names of the class folders, sorted as by torchvision's ImageFolder."""
        if self._members is not None:
            return sorted({folder.split("/", 1)[0] for folder in self._folders})
        with os.scandir(self.path) as entries:
            return sorted(entry.name for entry in entries if entry.is_dir() and not _is_hidden(entry.name))

    def files(self, class_name: str) -> list[str]:
        """Paths of a class's files, relative and with forward slashes, by folder and then by name."""
        if self._members is not None:
            return sorted(self._by_class[class_name], key=posixpath.split)
        return _list_folder(os.path.join(self.path, class_name), self.path)

    def stray_files(self) -> list[str]:
        """Files that lie in no class folder."""
        if self._members is not None:
            return sorted(relative for relative in self._members if "/" not in relative)
        with os.scandir(self.path) as entries:
            return sorted(entry.name for entry in entries if entry.is_file())

    def source(self, relative: str) -> dict[str, str]:
        """The keys of a record that say where its picture lies."""
        if self._members is not None:
            return {"file_name": self.path, "member": self._members[relative]}
        return {"file_name": os.path.join(self.path, *relative.split("/"))}

    def find_unreadable(self, records: Sequence[dict], class_names: Sequence[str]) -> dict[int, Problem]:
        """`images.find_unreadable` of the records of these classes; an archive is read once in a process."""
        known = {} if self._archive is None else self._archive.unreadable
        key = tuple(class_names)
        if key not in known:
            known[key] = find_unreadable(records, f"Reading {self.path}")
        return known[key]


def find_class_names(path: PathLike, class_names: Sequence[str] | None = None) -> list[str]:
    """The classes of a folder or archive; those given, in their order, if there is a folder for each.

    Raises:
        ValueError: a class repeats or has no folder, or there is no class folder at all.
        FileNotFoundError: see `ImageTree`.
    """
    return _choose_classes(ImageTree(path, class_names), class_names)


def _choose_classes(tree: ImageTree, class_names: Sequence[str] | None) -> list[str]:
    present = tree.class_names()
    if not present:
        raise ValueError(f"{tree.path} holds no class folder: images lie in one folder a class")
    if class_names is None:
        return present
    missing = [name for name in class_names if name not in present]
    if missing or len(set(class_names)) < len(class_names) or not class_names:
        raise ValueError(
            f"class names are missing, repeat, or have no folder in {tree.path}: {', '.join(class_names)}; "
            f"folders there: {', '.join(first_names(present))}"
        )
    return list(class_names)


def load_images_dataset(path: PathLike, class_names: Sequence[str], on_invalid: str = "error") -> list[dict]:
    """Lists the pictures of a folder of class folders, or of a zip archive of them.

    Of each picture the header is read. Files without a picture's ending are passed over, with a warning.

    Args:
        path: the folder or archive.
        class_names: the folders to read, in the order of their category ids.
        on_invalid: "error" reports all broken pictures at once, "skip_images" and "skip_objects" leave
            them out.

    Returns:
        class by class, in each by folder and name, one dict a picture: image_id (path relative to the
        class folders' folder, with forward slashes), category_id, file_name, and member for an archive.

    Raises:
        InvalidDatasetError: broken pictures, see `on_invalid`.
        ValueError: a class without a picture, or what `find_class_names` raises.
    """
    check_on_invalid(on_invalid)
    tree = ImageTree(path, class_names)
    _choose_classes(tree, class_names)
    records, others, empty = [], tree.stray_files(), []
    for category_id, name in enumerate(class_names):
        files = tree.files(name)
        pictures = [file for file in files if is_picture(file)]
        others += [file for file in files if not is_picture(file)]
        if not pictures:
            empty.append(name)
        records += [{**tree.source(file), "image_id": file, "category_id": category_id} for file in pictures]
    if empty:
        raise ValueError(
            f"{path}: no picture ({', '.join(IMG_EXTENSIONS)}) in {len(empty)} of {len(class_names)} "
            f"class folders: {', '.join(first_names(empty))}. Remove them, or name the classes to read"
        )
    if others:
        logger.warning(
            f"{path}: {len(others)} files are not in a class folder or no pictures, and ignored; the "
            f"first is {others[0]}"
        )
    return drop_unreadable(records, tree.find_unreadable(records, class_names), str(path), on_invalid)


def drop_unreadable(
    records: list[dict],
    unreadable: Mapping[int, Problem],
    source: str,
    on_invalid: str,
    problems: Sequence[Problem] = (),
) -> list[dict]:
    """The records whose pictures' headers can be read.

    Args:
        unreadable: what `find_unreadable` says of the records.
        source: the data's name in messages.
        on_invalid: "error" raises; otherwise problems are logged, and their images left out.
        problems: further ones, of images that are not among the records.

    Raises:
        InvalidDatasetError: there are problems and `on_invalid` is "error", or no record is left.
    """
    problems = [*problems, *unreadable.values()]
    if not problems:
        return records
    good = [record for i, record in enumerate(records) if i not in unreadable]
    num_images = len(good) + len(problems)
    raise_or_warn(problems, source, on_invalid, num_images, len(good), num_objects=0)
    return good


def is_picture(file: str) -> bool:
    """Whether a path ends like a picture that torchvision's ImageFolder reads, and is not hidden."""
    return file.lower().endswith(IMG_EXTENSIONS) and not _is_hidden(posixpath.basename(file))


def first_names(names: Sequence[str]) -> list[str]:
    """The first few names, and how many more there are."""
    more = [f"and {len(names) - _NAMED} more"] if len(names) > _NAMED else []
    return [*names[:_NAMED], *more]


def _is_hidden(name: str) -> bool:
    return name.startswith(".") or name == "__MACOSX"  # macOS adds such files and folders to archives


def _list_folder(folder: str, root: str) -> list[str]:
    def refuse(error: OSError):
        raise error  # os.walk would pass a folder over that it cannot read, and its images with it

    files = []
    for here, folders, names in os.walk(folder, followlinks=True, onerror=refuse):
        folders[:] = sorted(name for name in folders if not _is_hidden(name))
        below = Path(here).relative_to(root).as_posix()
        files += [f"{below}/{name}" for name in names]
    return sorted(files, key=posixpath.split)


def _list_members(path: str, filenames: Iterable[str]) -> tuple[dict[str, str], set[str]]:
    """(path -> member of all files, paths of all folders) of an archive, without hidden folders."""
    members: dict[str, str] = {}
    folders: set[str] = set()
    twice: list[str] = []
    for filename in filenames:
        # Some packers on Windows write backslashes.
        name = posixpath.normpath(filename.replace("\\", "/")).lstrip("/")
        is_folder = filename.endswith(("/", "\\"))
        folder = name if is_folder else posixpath.dirname(name)
        if any(map(_is_hidden, folder.split("/"))):
            continue
        if folder:
            folders.add(folder)
        if is_folder:
            continue
        if name in members:
            twice.append(name)
        members[name] = filename
    if twice:
        raise ValueError(
            f"{path} holds {len(twice)} paths more than once: {', '.join(first_names(twice))}. Pack it anew"
        )
    return members, folders


def _below_common_folder(
    members: dict[str, str], folders: set[str], class_names: Sequence[str]
) -> tuple[dict[str, str], set[str]]:
    """Goes down while all folders lie in a single one that is no class folder itself.

    A folder is a class folder if it is named as one, or if no folder in it holds a picture.
    """
    while True:
        tops = {folder.split("/", 1)[0] for folder in folders}
        if len(tops) != 1 or tops & set(class_names) or not _any_nested(members):
            return members, folders
        start = f"{tops.pop()}/"
        members = {name[len(start) :]: member for name, member in members.items() if name.startswith(start)}
        folders = {name[len(start) :] for name in folders if name.startswith(start)}


def _any_nested(paths: Iterable[str]) -> bool:
    return any(path.count("/") >= 2 and is_picture(path) for path in paths)
