"""Ready lists of what a selection keeps, in the formats other tools read."""
from dataclasses import replace
from pathlib import Path

from ..files import new_folder, write_text
from ..pruning import Selection
from ..pruning.selection import RECORD
from .pruned_datasets import pruned_name
from .selection_record import class_counts

VOC_LISTS = Path("ImageSets") / "Main"


def write_voc_lists(selection: Selection, folder: "str | Path") -> None:
    """Writes ImageSets/Main/<data set>_<method>_<ratio>.txt, one list a data set, ids in its order.

    The lists can be copied into the ImageSets/Main of the VOC folder the data set lies in.
    """
    for dataset in selection.dataset_names():
        kept = selection.kept_ids(dataset)
        in_order = [i for d, i in zip(selection.datasets, selection.ids) if d == dataset and i in kept]
        path = Path(folder) / VOC_LISTS / f"{pruned_name(dataset, selection)}.txt"
        write_text(path, "".join(f"{image_id}\n" for image_id in in_order))


def write_selection(selection: Selection, folder: "str | Path") -> None:
    """Writes the file of record, the CSV and the lists into `folder`, all of them or none.

    A selection that lies there is replaced.

    Raises:
        FileExistsError: `folder` holds something else, which is left alone.
    """
    folder = Path(folder)
    if folder.exists() and not (folder / RECORD).is_file() and any(folder.iterdir()):
        raise FileExistsError(
            f"{folder} holds files that are no selection, and would be replaced: name a new folder"
        )
    provenance = {**selection.provenance, "classes": class_counts(selection)}
    with new_folder(folder) as beside:
        replace(selection, provenance=provenance).save(beside)
        write_voc_lists(selection, beside)
