"""OUTPUT_DIR belongs to one run: a lock, a refusal to replace another's work, and the settings a run is resumed with."""

import fcntl
import itertools
import json
import logging
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from detectron2.config import CfgNode
from detectron2.utils import comm

from ..data.selection_lists import occupied, remove_selection
from ..data.small_copies import FILE as COPIES
from ..files import sweep
from ..pruning.selection import RECORD
from ..report.doubtful_labels import COCO, CSV
from ..report.page import PAGE
from ..report.thumbnails import FOLDER as THUMBNAILS
from .checkpoint import CHECKPOINTS, POINTER

LOCK, SELECTION = ".run.lock", "selection"
PROXY, TESTED = "proxy.json", "evaluation.json"
_OF_TESTS = (TESTED, "per_class*.csv", "predictions.json", "coco_instances_results.json")
_OF_PROXY = ("early.pth", "dynamics.npz")
WRITTEN = (SELECTION, POINTER, *CHECKPOINTS, *_OF_PROXY, PROXY)
_BESIDE_PROXY = ("statistics", "network_*", PROXY)  # by which it is known, so that this goes last

# Keys, or nodes they are in, that no result depends on. What the data sets hold is known by its fingerprint.
NO_MATTER = (
    "DATASETS", "OUTPUT_DIR", "VERSION", "VIS_PERIOD", "CUDNN_BENCHMARK", "MODEL.DEVICE",
    "TEST.AUG", "TEST.EVAL_PERIOD", "TEST.EXPECTED_RESULTS", "TEST.KEYPOINT_OKS_SIGMAS",
    "DATALOADER.NUM_WORKERS", "DATALOADER.CACHE_GB", "DATALOADER.FILTER_EMPTY_ANNOTATIONS", "SOLVER.CHECKPOINT_PERIOD",
)  # fmt: skip
# And those that do not change what a resumed run does: how long MAX_EPOCHS is, MAX_ITER says.
WITHOUT_EFFECT = (
    *NO_MATTER, "MODEL.WEIGHTS", "DATALOADER.PROPOSAL_FILES_TEST", "SOLVER.MAX_EPOCHS", "SCORING", "ADAPRUNER.PRESET",
)  # fmt: skip

logger = logging.getLogger(__name__)
_held: dict[Path, IO] = {}  # locks of this process; closing a file would give its lock up


def enter(folder: "str | Path", resume: bool, overwrite: bool) -> None:
    """Makes `folder` the OUTPUT_DIR of this process, until it ends.

    Raises:
        ValueError: another run is going on there, or lies there and is neither to be resumed nor overwritten.
    """
    if not folder:
        raise ValueError("OUTPUT_DIR is empty: name a folder")
    folder = Path(folder)
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"OUTPUT_DIR {folder} is a file: name a folder")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ValueError(
            f"OUTPUT_DIR {str(folder)!r} cannot be made ({error.strerror}): name another folder"
        ) from error
    _lock(folder)
    sweep(folder, WRITTEN)
    for left in folder.glob(COPIES):  # by a run that was killed
        left.unlink()
    sweep(folder / SELECTION, (PAGE, THUMBNAILS, CSV, COCO))
    for tested in folder.glob("inference/*"):
        sweep(tested, (TESTED,))
    checkpoints = sorted(path for pattern in (POINTER, *CHECKPOINTS) for path in folder.glob(pattern))
    selection = (folder / SELECTION / RECORD).is_file()
    if overwrite or (resume and (checkpoints or not selection)):
        return
    if checkpoints or selection:
        what = " and ".join(["another run"] * bool(checkpoints) + ["a finished selection"] * selection)
        going_on = "" if resume else "go on with it by --resume, "
        raise ValueError(occupied(folder, what, f"{going_on}name another OUTPUT_DIR"))


def clear(folder: "str | Path") -> None:
    """Removes what another run left in `folder`; other files stay, those in its selection's folder under another name.

    Called by all processes when nothing speaks against the new run any more, whose writers may have metrics.json open.
    The main one does it, before any of them goes on.
    """
    if comm.is_main_process():
        _clear(Path(folder))
    comm.synchronize()


def _clear(folder: Path) -> None:
    if (folder / "metrics.json").exists():
        os.truncate(folder / "metrics.json", 0)
    of_proxy = (*_OF_PROXY, *_BESIDE_PROXY) if (folder / PROXY).exists() else ()
    tests = {path.parent for name in _OF_TESTS for path in folder.glob(f"inference/*/{name}")}
    patterns = (SELECTION, POINTER, *CHECKPOINTS, "events.out.tfevents.*", *of_proxy)
    for path in [*tests, *(path for pattern in patterns for path in folder.glob(pattern))]:
        if path.name == SELECTION:
            remove_selection(path)
        elif path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()
    if (folder / SELECTION).is_dir():
        free = (folder / f"{SELECTION}_before_{number}" for number in itertools.count(1))
        os.rename(folder / SELECTION, next(path for path in free if not path.exists()))


def _lock(folder: Path) -> None:
    """Record locks: children of this process do not hold them, and a killed process has none."""
    path = (folder / LOCK).resolve()
    if path in _held:
        return
    file = open(path, "a")
    try:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        file.close()
        raise ValueError(
            f"{folder} is in use by another run: wait for it, stop it, or name another OUTPUT_DIR"
        ) from error
    _held[path] = file


def settings_of(cfg: CfgNode) -> dict[str, Any]:
    """All settings, by their keys joined with dots; tuples as lists."""
    return dict(_flat(json.loads(json.dumps(cfg))))


def check_settings(was: dict[str, Any], cfg: CfgNode) -> None:
    """
    Raises:
        ValueError: a run started with the settings `was` would end otherwise with those of `cfg`; all are named.
    """
    ours = settings_of(cfg)
    differing = [key for key in was if key in ours and was[key] != ours[key]]
    free = {key for key in differing if f"{key}.".startswith(tuple(f"{node}." for node in _free(cfg)))}
    said = {key: f"{key} was {was[key]!r}, is {ours[key]!r}" for key in differing}
    refused = [said[key] for key in differing if key not in free]
    if refused:
        raise ValueError(
            f"--resume with other settings than the run in {cfg.OUTPUT_DIR} was started with: {'; '.join(refused)}. "
            "Use those again, or start a new run in another OUTPUT_DIR"
        )
    if free:
        changed = "; ".join(said[key] for key in differing if key in free)
        logger.info(f"Resuming with other settings, which do not change what has been trained: {changed}")


def _free(cfg: CfgNode) -> tuple[str, ...]:
    """What may change; pruning asks the model as testing does, training does not, and may be made longer."""
    if cfg.ADAPRUNER.ENABLED:
        return WITHOUT_EFFECT
    unused = [f"ADAPRUNER.{key}" for key in cfg.ADAPRUNER if key != "ENABLED"]
    testing = [key for key in settings_of(cfg) if "_TEST" in key or key == "TEST.DETECTIONS_PER_IMAGE"]
    longer = [] if "Cosine" in cfg.SOLVER.LR_SCHEDULER_NAME else ["SOLVER.MAX_ITER"]
    return (*WITHOUT_EFFECT, *unused, *testing, *longer)


def _flat(node: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """(KEY.OF.LEAF, value) of nested dicts."""
    for key, value in node.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value
