"""Ready lists of what a selection keeps, in the formats other tools read."""

import json
import logging
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from ..files import new_folder, write_text
from ..pruning import Selection
from ..pruning.selection import COLUMNS, RECORD, TABLE
from ..pruning.statistics import FILE as STATISTICS
from ..pruning.statistics import Statistics
from .coco_json import only_images, read_coco_json
from .pruned_datasets import pruned_name
from .selection_record import class_counts

VOC_LISTS = Path("ImageSets") / "Main"
COCO_FILES = Path("annotations")
ID_LISTS = Path("lists")
# What the tools put into a selection's folder, besides lists by the name of its data sets; it goes with the selection.
OWN = {
    RECORD,
    COLUMNS,
    TABLE,
    STATISTICS,
    "images.png",
    "report.html",
    "thumbnails",
    "doubtful_labels.csv",
    "doubtful_labels.json",
    "leaks.csv",
    "compared.html",
    "thumbnails_compared",
}

logger = logging.getLogger(__name__)


def write_ids(selection: Selection, dataset: str, folder: "str | Path") -> Path:
    """Writes <data set>_<method>_<ratio>.txt, an id a line, and returns its path.

    The lists of VOC data sets can be copied into the ImageSets/Main of their folder.
    """
    path = Path(folder) / f"{pruned_name(dataset, selection)}.txt"
    rows = zip(selection.datasets, selection.ids, selection.kept)
    write_text(path, "".join(f"{image_id}\n" for name, image_id, keep in rows if name == dataset and keep))
    return path


def write_coco_json(selection: Selection, dataset: str, json_file: "str | Path", folder: "str | Path") -> Path:
    """Writes <data set>_<method>_<ratio>.json: `json_file` with the kept images alone, all else in its order.

    Raises:
        FileNotFoundError, ValueError: `json_file` is gone, is no COCO file, or lacks images of the selection.
    """
    content = read_coco_json(json_file)
    try:
        only_images(content, selection.known_ids(dataset))
        kept = only_images(content, selection.kept_ids(dataset))
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"{json_file} is not the file the selection was made on: {error}. Restore it, or prune anew"
        ) from error
    path = Path(folder) / f"{pruned_name(dataset, selection)}.json"
    write_text(path, json.dumps(kept))
    return path


def write_lists(selection: Selection, folder: "str | Path") -> None:
    """Writes for each data set what its own format wants: a list in ImageSets/Main, a COCO JSON, or a list of ids.

    Where a COCO JSON is gone or has changed a list of ids takes its place, with a warning: the selection must not be
    lost.
    """
    sources = selection.provenance.get("sources", {})
    for dataset in selection.dataset_names():
        source = sources.get(dataset, {"format": "voc"})  # earlier versions knew no other
        if source["format"] == "coco":
            try:
                write_coco_json(selection, dataset, source["json_file"], Path(folder) / COCO_FILES)
                continue
            except (ValueError, OSError) as error:
                logger.warning(f"{dataset}: no COCO file of what is kept is written, a list of ids is: {error}")
        write_ids(selection, dataset, Path(folder) / (VOC_LISTS if source["format"] == "voc" else ID_LISTS))


def check_replaceable(folder: "str | Path", overwrite: bool = True) -> None:
    """
    Raises:
        FileExistsError: `folder` holds something that is no selection, or, unless `overwrite`, a selection.
    """
    folder = Path(folder)
    if folder.is_file():
        raise FileExistsError(f"{folder} is a file: name a folder")
    is_selection = (folder / RECORD).is_file()
    if folder.exists() and not is_selection and any(folder.iterdir()):
        raise FileExistsError(f"{folder} holds files that are no selection, and would be replaced: name a new folder")
    if is_selection and not overwrite:
        raise FileExistsError(occupied(folder, "a finished selection", "name another folder"))


def occupied(folder: "str | Path", what: str, instead: str) -> str:
    """The words in which all commands refuse to replace what is there."""
    return f"{folder} holds {what}: {instead}, or replace it with --overwrite"


def write_selection(selection: Selection, folder: "str | Path", statistics: Statistics | None = None) -> None:
    """Writes the file of record, the CSV, the lists and the statistics it was solved from, all of them or none.

    A selection that lies there is replaced, and a warning says so; files in it that are not its own stay.
    FileExistsError if `folder` holds something else, which is left alone.
    """
    folder = Path(folder)
    check_replaceable(folder)
    provenance = {**selection.provenance, "classes": class_counts(selection)}
    with new_folder(folder) as beside:
        replace(selection, provenance=provenance).save(beside)
        write_lists(selection, beside)
        if statistics is not None:
            statistics.save(beside)
        if (folder / RECORD).is_file():
            kept = _keep_foreign_files(folder, beside)
            logger.warning(
                f"{folder}: the selection there is replaced" + (f"; {kept} other files stay" if kept else "")
            )


def remove_selection(folder: "str | Path") -> None:
    """Removes a selection, the file of record last; files in its folder that are not its own stay."""
    folder = Path(folder)
    foreign = set(_foreign_files(folder))
    others = [path for path in folder.rglob("*") if path not in foreign and (path.is_symlink() or not path.is_dir())]
    for path in sorted(others, key=lambda path: path == folder / RECORD):
        path.unlink()
    for below in sorted((path for path in folder.rglob("*") if path.is_dir()), reverse=True):
        if not any(below.iterdir()):
            below.rmdir()


def _keep_foreign_files(folder: Path, beside: Path) -> int:
    """Copies to `beside` what is not the selection's own in `folder`; returns the number of files."""
    kept = 0
    for path in _foreign_files(folder):
        own = path.relative_to(folder)
        if not (beside / own).exists():
            (beside / own).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(path, beside / own, follow_symlinks=False)
            kept += 1
    return kept


def _foreign_files(folder: Path) -> Iterator[Path]:
    """The files in a selection's folder that are not its own."""
    try:
        old = Selection.load(folder)
        lists = {pruned_name(dataset, old) for dataset in old.dataset_names()}
    except (OSError, ValueError):
        lists = set()  # damaged: what cannot be told from foreign files stays
    for path in folder.rglob("*"):
        own = path.relative_to(folder)
        known = own.parts[0] in OWN or not lists.isdisjoint({*own.parts, own.stem})
        if not known and (path.is_symlink() or not path.is_dir()):
            yield path
