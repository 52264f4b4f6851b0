"""Checkpoints that a run killed at any moment goes on from, and weights that are read without being executed.

A checkpoint is a zip file, in which torch keeps a checksum of each tensor: they are compared before it is used.
"""

import codecs
import pickle
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any
from urllib.error import URLError

import numpy as np
import torch
from detectron2.checkpoint import DetectionCheckpointer

from ..files import replacing, write_text

POINTER, FINAL = "last_checkpoint", "model_final"
NUMBERED, KEPT = "model_[0-9]*.pth", 2
CHECKPOINTS = (f"{FINAL}.pth", NUMBERED)  # other weights in the folder are not the run's


class RunCheckpointer(DetectionCheckpointer):
    """Detectron2's, whose files are whole or not there, and which finds the newest that is sound.

    Of those that a run saves as it goes on, the last two stay: the second in case that the first is damaged.
    """

    _resumed_from: "str | None" = None

    def save(self, name: str, **kwargs: Any) -> None:
        """As Detectron2's; the file and the pointer to it are written beside and renamed."""
        if not self.save_dir or not self.save_to_disk:
            return
        states = {key: thing.state_dict() for key, thing in self.checkpointables.items()}
        path = Path(self.save_dir) / f"{name}.pth"
        self.logger.info(f"Saving checkpoint to {path}")
        with replacing(path) as file:
            try:
                torch.save({"model": self.model.state_dict(), **states, **kwargs}, file)
            except RuntimeError as error:  # torch's own, of the end of a file whose middle could not be written
                if isinstance(error.__context__, OSError):
                    raise error.__context__ from None
                raise
        self.tag_last_checkpoint(path.name)
        numbered = sorted(Path(self.save_dir).glob(NUMBERED), key=lambda old: old.stat().st_mtime_ns)
        for old in numbered[:-KEPT]:
            old.unlink()

    def tag_last_checkpoint(self, last_filename_basename: str) -> None:
        write_text(Path(self.save_dir) / POINTER, last_filename_basename)
        self._resumed_from = None

    def has_checkpoint(self) -> bool:
        return bool(self.get_checkpoint_file())

    def get_checkpoint_file(self) -> str:
        """The checkpoint to go on from, or "". Says so where it is not the one that was last noted."""
        if self._resumed_from is None:
            path, complaint = newest_checkpoint(self.save_dir)
            self._resumed_from = str(path or "")
            if complaint:
                self.logger.warning(
                    f"{complaint}: {f'going on from {path}' if path else 'starting from the beginning'}"
                )
        return self._resumed_from

    def load(self, path: str, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """As Detectron2's. Raises OSError, with the address, where weights cannot be fetched."""
        try:
            return super().load(path, *args, **kwargs)
        except URLError as error:
            raise OSError(
                f"{path} cannot be fetched ({error.reason}): fetch it where there is a network, and name the file, "
                "MODEL.WEIGHTS PATH"
            ) from error

    def _load_file(self, filename: str) -> dict[str, Any]:
        """As Detectron2's, but nothing in the file is executed, and damage is noticed.

        Raises:
            ValueError: the file is damaged, or holds more than tensors and plain values.
        """
        suffix = Path(filename).suffix
        try:
            if suffix == ".pkl":
                with open(filename, "rb") as file:
                    content = _PlainUnpickler(file, encoding="latin1").load()
            else:
                complaint = _damage(filename) if zipfile.is_zipfile(filename) else ""
                if complaint:
                    raise ValueError(complaint)
                content = torch.load(filename, map_location="cpu", weights_only=True)
            return self._in_one_form(content, suffix)
        except Exception as error:  # whatever a broken pickle may raise
            reason = " ".join(str(error).split())[:300]
            raise ValueError(
                f"{filename} cannot be read as weights ({reason}): it is damaged, or holds more than tensors, "
                "and code in it is not run. Fetch or save it again, or name other weights, MODEL.WEIGHTS PATH"
            ) from error

    def _in_one_form(self, content: Any, suffix: str) -> dict[str, Any]:
        """What Detectron2 makes of the files of its own, of pycls, and of Detectron1."""
        if not isinstance(content, dict):
            raise ValueError(f"a dict was expected, not a {type(content).__name__}")
        if suffix == ".pyth":
            weights = {k: v for k, v in content["model_state"].items() if not k.endswith("num_batches_tracked")}
            return {"model": weights, "__author__": "pycls", "matching_heuristics": True}
        if suffix == ".pkl":
            if "model" in content and "__author__" in content:
                return content
            weights = {k: v for k, v in content.get("blobs", content).items() if not k.endswith("_momentum")}
            return {"model": weights, "__author__": "Caffe2", "matching_heuristics": True}
        if "model" not in content:
            content = {"model": content}
        if "matching_heuristics=True" in self._parsed_url_during_load.query:
            content["matching_heuristics"] = True
        return content


class _PlainUnpickler(pickle.Unpickler):
    """Builds arrays, containers, numbers and strings, and nothing else."""

    _ALLOWED = {
        **{("numpy", name): getattr(np, name) for name in ("ndarray", "dtype")},
        ("_codecs", "encode"): codecs.encode,
        ("collections", "OrderedDict"): OrderedDict,
    }

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) in self._ALLOWED:
            return self._ALLOWED[module, name]
        if module.endswith("core.multiarray") and module.startswith("numpy.") and name in ("_reconstruct", "scalar"):
            return super().find_class(module, name)
        raise pickle.UnpicklingError(f"it asks for {module}.{name}")


def newest_checkpoint(folder: "str | Path") -> tuple["Path | None", str]:
    """The checkpoint of a run's folder to go on from, and what was wrong with the one noted last, or "".

    Raises:
        ValueError: there are checkpoints, and none of them is sound.
    """
    folder = Path(folder)
    try:
        if not (folder / POINTER).is_file():
            raise FileNotFoundError
        named = (folder / POINTER).read_text(encoding="utf-8").strip()
        complaint = "" if named else f"{folder / POINTER} is empty"
    except (OSError, UnicodeDecodeError):
        named, complaint = "", f"{folder / POINTER} is missing or damaged"
    if named:
        if len(named) > 255 or Path(named).name != named or not named.isprintable():
            complaint = f"{folder / POINTER} names {named[:80]!r}, which is no file of this folder"
        else:
            reason = _damage(folder / named)
            if not reason:
                return folder / named, ""
            complaint = f"{folder / named}, which {POINTER} names, {reason}"
    others = [path for pattern in CHECKPOINTS for path in folder.glob(pattern) if path.name != named]
    if not others and not named and not (folder / POINTER).exists():
        return None, ""  # a fresh folder
    for path in sorted(others, key=lambda path: (_iteration(path), path.name), reverse=True):
        if _iteration(path) >= 0 and not _damage(path):
            return path, complaint
    if others or (named and (folder / named).is_file()):
        raise ValueError(f"{complaint}, and no other checkpoint there can be read: start anew with --overwrite")
    return None, complaint


def final_is_missing(folder: "str | Path", iteration: int) -> bool:
    """Whether model_final.pth is not there, is damaged, or is of an earlier iteration."""
    path = Path(folder) / f"{FINAL}.pth"
    return _iteration(path) != iteration or bool(_damage(path))


def noted_settings(folder: "str | Path") -> dict[str, Any]:
    """The settings of the run whose newest checkpoint lies in a folder, by their keys; {} if there is none."""
    path, _ = newest_checkpoint(folder)
    return {} if path is None else _peek(path).get("trainer", {}).get("settings", {})


def _iteration(path: Path) -> int:
    """The last iteration a checkpoint knows; -1 if it is none."""
    try:
        iteration = _peek(path)["iteration"]
    except Exception:  # whatever a broken pickle may raise
        return -1
    return iteration if isinstance(iteration, int) else -1


def _peek(path: Path) -> dict[str, Any]:
    """A checkpoint whose tensors stay on disk until they are looked at."""
    return torch.load(path, map_location="cpu", weights_only=True, mmap=True)


def _damage(path: "str | Path") -> str:
    """What is wrong with a checkpoint, or ""."""
    try:
        with zipfile.ZipFile(path) as file:
            record = file.testzip()
    except FileNotFoundError:
        return "is missing"
    except Exception:  # whatever broken headers may raise
        return "is damaged"
    return f"is damaged in {record}" if record else ""
