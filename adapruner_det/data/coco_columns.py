"""The objects of a COCO file as columns: as Python objects a million of them would take gigabytes."""

import marshal
from array import array
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from detectron2.structures import BoxMode

from .serialized_records import Record

Array = np.ndarray[Any, Any]
_MODE = BoxMode.XYWH_ABS  # looking it up takes as long as half an annotation


class Columns:
    """Objects in any order, with or without their masks."""

    def __init__(self, with_masks: bool):
        self._with_masks = with_masks
        self._ids: list[Any] = []
        self._numbers = array("q")
        self._crowds = array("b")
        self._boxes = array("d")
        self._masks: list[bytes | None] = []

    def add(self, ids: list[Any], numbers: Array, crowds: list[int], boxes: Array, masks: Sequence[Any]) -> None:
        """Adds N objects.

        Args:
            numbers: (N, 3) int64: place in the file, row of the image, category_id.
            boxes: (N, 4) float64, XYWH_ABS.
            masks: polygons or RLE, empty or None for none.
        """
        self._ids += ids
        self._numbers.frombytes(numbers.tobytes())
        self._crowds.extend(crowds)
        self._boxes.frombytes(boxes.tobytes())
        if self._with_masks:
            self._masks += [marshal.dumps(mask) if mask else None for mask in masks]

    def of_images(self, rows: list[int]) -> Iterator[list[Record]]:
        """The annotations of each image, in the order of the file.

        Args:
            rows: of the images, all once, in the order that is wanted.
        """
        ranks = np.empty(len(rows), np.int64)
        ranks[rows] = np.arange(len(rows))
        numbers = np.frombuffer(self._numbers, np.int64).reshape(-1, 3)
        boxes = np.frombuffer(self._boxes).reshape(-1, 4)
        images, categories = ranks[numbers[:, 1]], numbers[:, 2]
        order = np.lexsort((numbers[:, 0], images))
        ends = np.searchsorted(images[order], np.arange(len(rows)), side="right").tolist()
        for start, end in zip([0, *ends], ends):
            own = order[start:end]
            objects = zip(own.tolist(), boxes[own].tolist(), categories[own].tolist())
            yield [self._annotation(*values) for values in objects]

    def _annotation(self, place: int, box: list[float], category_id: int) -> Record:
        annotation = {
            "id": self._ids[place],
            "iscrowd": self._crowds[place],
            "bbox": box,
            "category_id": category_id,
            "bbox_mode": _MODE,
        }
        if self._with_masks and (mask := self._masks[place]):
            annotation["segmentation"] = marshal.loads(mask)
        return annotation
