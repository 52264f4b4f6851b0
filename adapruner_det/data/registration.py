"""Registers data sets described by one string, as in `--register NAME=voc:DIR:SPLIT`."""

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from detectron2.data import DatasetCatalog, MetadataCatalog

from .validation import Record


class Format(NamedTuple):
    """How to register from the part of a spec that follows `NAME=<format>:`."""

    form: str  # the right one, for error messages and help
    register: Callable[[str, str, str], None]  # of NAME, the part after `<format>:`, on_invalid


def register_from_spec(spec: str, formats: Mapping[str, Format], on_invalid: str = "clip") -> str:
    """Registers a data set from `NAME=<format>:...` and returns NAME.

    Raises:
        ValueError: it cannot be understood or registered; names the spec and shows the right form.
    """
    name, _, description = spec.partition("=")
    kind, _, rest = description.strip().partition(":")
    known = formats.get(kind)
    try:
        if not name.strip():
            raise ValueError("NAME is empty")
        if known is None:
            raise ValueError(f"unknown format {kind!r}")
        known.register(name, rest, on_invalid)
    except (ValueError, OSError) as error:
        forms = [known.form] if known else [entry.form for entry in formats.values()]
        raise ValueError(f"cannot register dataset {spec!r}: {error}\nThe right form: {' or '.join(forms)}") from error
    return name


def specs_in_use(datasets: Mapping[str, Any]) -> list[str]:
    """The specs of DATASETS.REGISTER that are trained on, then those that are tested on."""
    specs = {spec.partition("=")[0]: spec for spec in datasets.get("REGISTER", ())}
    names = dict.fromkeys([*datasets.get("TRAIN", ()), *datasets.get("TEST", ())])
    return [specs[name] for name in names if name in specs]


def find_path(path: str) -> str:
    """An existing file or folder: as given, or in Detectron2's dataset folder.

    `~` and `$VARIABLES` are expanded; the dataset folder is `$DETECTRON2_DATASETS`, else `datasets`.

    Raises:
        FileNotFoundError: it is in neither place.
    """
    given = Path(os.path.expandvars(path)).expanduser()
    root = Path(os.getenv("DETECTRON2_DATASETS", "datasets")).expanduser()
    for candidate in (given, root / given):
        if candidate.exists():
            return str(candidate)
    elsewhere = "" if given.is_absolute() else f", nor {root / given}"
    raise FileNotFoundError(
        f"there is no {given}{elsewhere}: give a path, or set DETECTRON2_DATASETS to the folder it lies in"
    )


def register(name: str, metadata: dict[str, Any], load: Callable[[], Sequence[Record]]) -> None:
    """Registers a data set with Detectron2; again with the same metadata is no fault.

    Raises:
        ValueError: `name` is registered with other metadata.
    """
    if name in DatasetCatalog:
        present = MetadataCatalog.get(name).as_dict()
        differences = [f"{k} {present.get(k)!r}, now {v!r}" for k, v in metadata.items() if present.get(k) != v]
        if differences:
            raise ValueError(
                f"dataset {name!r} is already registered with {'; '.join(differences)}. Choose another name."
            )
        return
    # Metadata first: it may refuse, and a data set that is registered without it is worse than none.
    MetadataCatalog.get(name).set(**metadata)
    DatasetCatalog.register(name, load)
