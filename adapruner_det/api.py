"""Pruning from Python: `adapruner_det.prune(data, keep=0.8)`, and what it leaves."""

import os
from collections.abc import Mapping
from functools import cached_property, partial
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .commands import options, train_net
from .data.export import export_selection, register_sources
from .data.selection_record import CLASS_COLUMN
from .engine import load_config
from .engine.tasks import task_of
from .pruning import selection as record
from .report.page import PAGE, write_report

if TYPE_CHECKING:
    import pandas as pd


class Selection:
    """A selection on disk, as a pruning run leaves it in OUTPUT_DIR/selection."""

    def __init__(self, folder: "str | os.PathLike[str]"):
        """Raises FileNotFoundError, ValueError as `pruning.Selection.load`."""
        self.folder = Path(folder)
        self.record = record.Selection.load(self.folder)

    def __repr__(self) -> str:
        return f"Selection({str(self.folder)!r}): {len(self.kept)} of {len(self.record)} images kept"

    @property
    def kept(self) -> list[str]:
        """Ids of the images that stay."""
        return [image_id for image_id, kept in zip(self.record.ids, self.record.kept) if kept]

    @property
    def pruned(self) -> list[str]:
        """Ids of the images that go."""
        return [image_id for image_id, kept in zip(self.record.ids, self.record.kept) if not kept]

    @cached_property
    def reasons(self) -> "pd.DataFrame":
        """A row an image: dataset, id, kept, score, and the record's columns, such as reason and similar_to."""
        return self.record.table()

    def export(self, form: str, folder: "str | os.PathLike[str]") -> list[Path]:
        """Lists what is kept for other tools, as "yolo", "voc", "coco", "fiftyone", "weights" or "ids"; returns the files."""
        return export_selection(self.record, form, os.fspath(folder), self._load)

    def report(self) -> Path:
        """The page of what goes and why; it is made unless it is there."""
        page = self.folder / PAGE
        if not page.is_file():
            register_sources(self.record)
            records = list(chain.from_iterable(map(self._load, self.record.dataset_names())))
            write_report(self.folder, records, partial(self._task.read_image, self._cfg))
        return page

    @cached_property
    def _cfg(self) -> Any:
        classifier = ["MODEL.META_ARCHITECTURE", "ImageClassifier"] if CLASS_COLUMN in self.record.columns else []
        return load_config(opts=classifier)

    @property
    def _task(self) -> Any:
        return task_of(self._cfg)

    def _load(self, dataset: str) -> list[dict[str, Any]]:
        return self._task.load_dataset(self._cfg, dataset)


def prune(
    data: "str | os.PathLike[str]",
    keep: "float | str" = options.DEFAULT_KEEP,
    output: "str | os.PathLike[str] | None" = None,
    *,
    overwrite: bool = False,
    settings: "Mapping[str, Any] | None" = None,
) -> Selection:
    """Learns which images of a training set can go, as `adapruner prune DATA --keep KEEP` does.

    Args:
        data: a PASCAL VOC folder, COCO JSON, YOLO data.yaml or folder of class folders, or PATH:PART.
        keep: share of the images that stays, or "auto": down to where images go for a reason.
        output: folder of the run; output/<name of the data> unless given.
        overwrite: replace another run that the folder holds.
        settings: further keys of the config, such as {"SOLVER.MAX_EPOCHS": 10}.

    Raises:
        ValueError: a mistake in the arguments or the data, in one line, before anything is computed.
    """
    words = [os.fspath(data), "--keep", str(keep)]
    words += [] if output is None else ["--output", os.fspath(output)]
    words += ["--overwrite"] * overwrite + [str(part) for pair in (settings or {}).items() for part in pair]
    try:
        args = options.parse("prune", words)
    except options.UsageError as error:
        raise ValueError(str(error)) from None
    return Selection(Path(train_net.work(args).OUTPUT_DIR) / "selection")
