"""Reading and augmenting the images of a detection set: our mapper's time against Detectron2's."""

from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median

from detectron2.data import DatasetMapper
from torch.utils.data import Dataset

from ..data.detection_records import NumberedRecords
from ..data.mapper import quick
from ..engine import load_config
from ..engine.detection import DetectionTask
from ..engine.tasks import task_of
from .timing import alternate, ratio, spread

OURS, DETECTRON2 = "ours", "Detectron2's"


def measure_reading(
    config_file: Path, register: Sequence[str], opts: Sequence[str], *, rounds: int, images: int
) -> list[dict]:
    """One row: CPU milliseconds an image of both mappers, and their ratio. Blocks of both alternate.

    Args:
        config_file: of a detector; its training set is read.
        register: specs as of --register.
        opts: KEY VALUE pairs.
        rounds: of one block each.
        images: a block's, drawn in the data set's order.

    Raises:
        ValueError: the config is not of a detector; and what loading config and data raises.
    """
    cfg = load_config(str(config_file), register, opts)
    task = task_of(cfg)
    if not isinstance(task, DetectionTask):
        raise ValueError(f"{config_file} is of a classifier; what is measured is reading for a detector")
    records = task.load_records(cfg)
    mapped = {
        OURS: NumberedRecords(records, quick(DatasetMapper(cfg, is_train=True)), seed=0),
        DETECTRON2: NumberedRecords(records, DatasetMapper(cfg, is_train=True), seed=0),
    }
    times = alternate({key: _block(own, images) for key, own in mapped.items()}, rounds, name="reading")
    first, third = spread(times[OURS].cpu, times[DETECTRON2].cpu)
    return [
        {
            "images": len(records),
            "pixels": max(cfg.INPUT.MIN_SIZE_TRAIN),
            "ours_cpu_ms": median(times[OURS].cpu) / images * 1e3,
            "detectron2_cpu_ms": median(times[DETECTRON2].cpu) / images * 1e3,
            "ratio": ratio(times[OURS].cpu, times[DETECTRON2].cpu),
            "ratio_first_quartile": first,
            "ratio_third_quartile": third,
            "rounds": rounds,
        }
    ]


def _block(mapped: Dataset, images: int) -> Callable[[int], None]:
    def block(turn: int) -> None:
        for draw in range(turn * images, (turn + 1) * images):
            mapped[draw]

    return block
