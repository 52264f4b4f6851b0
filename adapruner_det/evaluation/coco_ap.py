"""COCO's own evaluation, on the objects that were read and with the files ours leaves."""

import json
import logging
import math
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from tempfile import NamedTemporaryFile
from typing import Any

import pandas as pd
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.evaluation import COCOEvaluator
from detectron2.utils.file_io import PathManager

from ..data.coco import has_segmentation
from ..data.coco_json import read_json, with_plain_ids
from .results import write_results

logger = logging.getLogger(__name__)

_FIELDS = {"bbox": "bbox", "segm": "segmentation", "keypoints": "keypoints"}  # of an object, by task
_THRESHOLDS = {"AP": slice(None), "AP50": slice(0, 1), "AP75": slice(5, 6)}


class COCOFileEvaluator(COCOEvaluator):
    """Detectron2's COCOEvaluator for a registered data set that comes from a COCO file.

    It differs in what it judges by: the images and objects of the registered records, so not those that
    DATASETS.ON_INVALID or a selection left out; objects marked `ignore` count as crowds; annotation ids, which
    pycocotools must not find to be 0 or missing, are its own. Areas are the file's, where it has them. Masks and
    keypoints are judged only where every object that was read has one; that they are not is logged.

    `evaluate` gives COCOEvaluator's results and for boxes also "AP50-<class>", in percent.
    """

    def __init__(self, dataset_name: str, output_dir: str | None = None):
        """
        Args:
            dataset_name: registered with `json_file`, as `register_coco` or Detectron2 do.
            output_dir: where rank 0 writes per_class_ap.csv, evaluation.json (both as `VOCEvaluator` does) and
                COCOEvaluator's files; nothing is written if None.
        """
        # First, since some data sets get their metadata only when they are loaded.
        records = DatasetCatalog.get(dataset_name)
        metadata = MetadataCatalog.get(dataset_name)
        content = read_json(PathManager.get_local_path(metadata.json_file))
        if "annotations" in content:
            self._categories = _categories(dataset_name)
            content = ground_truth(content, records, self._categories)
        with _as_data_set(content) as judged_by:
            super().__init__(judged_by, output_dir=output_dir)
        self._metadata = metadata
        self._dataset_name = dataset_name

    def evaluate(self, img_ids=None):
        """
        Returns:
            {"bbox": metric -> percent, ...} on rank 0, {} elsewhere and without ground truth.
        """
        results = super().evaluate(img_ids)
        if "bbox" in results and self._output_dir:
            summary = {
                "dataset": self._dataset_name,
                "rule": "coco",
                "images": len(self._coco_api.dataset["images"]),
                "images_predicted": self._num_predicted,
                "bbox": results["bbox"],
            }
            write_results(self._output_dir, "per_class_ap.csv", self._table, summary)
        return results

    def _eval_predictions(self, predictions, img_ids=None):
        self._num_predicted = len(predictions)
        super()._eval_predictions(predictions, img_ids)

    def _tasks_from_predictions(self, predictions):
        tasks = super()._tasks_from_predictions(predictions)
        if not self._do_evaluation:
            return tasks
        objects = self._coco_api.dataset["annotations"]
        lacking = {task: sum(_FIELDS[task] not in entry for entry in objects) for task in tasks}
        for task, count in lacking.items():
            if count:
                logger.warning(
                    f"{self._dataset_name}: {task} is not evaluated, since {count} of {len(objects)} objects "
                    f"have no {_FIELDS[task]}"
                )
        return [task for task in tasks if not lacking[task]]

    def _derive_coco_results(self, coco_eval, iou_type, class_names=None):
        # pycocotools has the classes in the order of their ids in the file
        names = [name for _, name in sorted(self._categories.items())]
        results = super()._derive_coco_results(coco_eval, iou_type, class_names=names)
        if iou_type == "bbox":
            self._table = self._per_class(coco_eval)
            if coco_eval is None and self._table["boxes"].any():
                results.update(AP=0.0, AP50=0.0, AP75=0.0)  # boxes, and none of them was found
            for name, ap50 in zip(self._table["class"], self._table["AP50"].tolist()):
                results.setdefault(f"AP50-{name}", ap50)
        return results

    def _per_class(self, coco_eval) -> pd.DataFrame:
        """The classes in the order of their ids, with AP in percent over all areas; NaN without boxes."""
        objects = [a for a in self._coco_api.dataset["annotations"] if not a["iscrowd"]]
        boxes = Counter(a["category_id"] for a in objects)
        images = Counter(category for _, category in {(a["image_id"], a["category_id"]) for a in objects})
        rows = []
        for place, (category, name) in enumerate(sorted(self._categories.items())):
            row = {"class": name, "images": images[category], "boxes": boxes[category]}
            for key, at in _THRESHOLDS.items():
                row[key] = 0.0 if boxes[category] else float("nan")
                if coco_eval:
                    precision = coco_eval.eval["precision"][at, :, place, 0, -1]  # T x R, -1 where there is no box
                    precision = precision[precision > -1]
                    row[key] = float(100 * precision.mean()) if precision.size else float("nan")
            rows.append(row)
        return pd.DataFrame(rows)


@contextmanager
def _as_data_set(content: dict[str, Any]) -> Iterator[str]:
    """A name by which COCOEvaluator, which opens files by itself, finds the content of a COCO file."""
    with NamedTemporaryFile("w", suffix=".json") as file:
        json.dump(content, file)
        file.flush()
        MetadataCatalog.get(file.name).json_file = file.name
        try:
            yield file.name
        finally:
            MetadataCatalog.remove(file.name)


def _area(entry: dict[str, Any]) -> float:
    """What the file says, where it is an area: tools also write null, 0, or text."""
    area = entry.get("area")
    if isinstance(area, (int, float)) and not isinstance(area, bool) and 0 < area < math.inf:
        return area
    _, _, width, height = entry["bbox"]
    return width * height


def _categories(dataset_name: str) -> dict[int, str]:
    """Class names by the ids of the file."""
    metadata = MetadataCatalog.get(dataset_name)
    names = metadata.thing_classes
    places = metadata.get("thing_dataset_id_to_contiguous_id") or dict(enumerate(names))
    return {category: names[place] for category, place in places.items()}


def ground_truth(content: dict[str, Any], records: list[dict], categories: dict[int, str]) -> dict[str, Any]:
    """The part of a COCO file's content that `records` were read from, ready for pycocotools.

    Args:
        records: dataset dicts; where annotations have an `id`, as `load_coco_dataset` gives them, only those objects
            are taken, with the segmentation that was read, else all of an image.
        categories: class names by id, of the file's.
    """
    content = with_plain_ids(content)
    sizes = {record["image_id"]: {key: record[key] for key in ("width", "height")} for record in records}
    read = {record["image_id"]: record.get("annotations", []) for record in records}
    known = {a.get("id"): a for annotations in read.values() for a in annotations}
    images = {i["id"]: {**i, **sizes[i["id"]]} for i in content["images"] if i["id"] in read}
    annotations: list[dict[str, Any]] = []
    for entry in content["annotations"]:
        if entry["image_id"] not in images or entry["category_id"] not in categories:
            continue
        own = entry if None in known else known.get(entry["id"])
        if own is None:
            continue
        filled = {
            **{key: value for key, value in entry.items() if key != "segmentation"},
            "id": len(annotations) + 1,
            "iscrowd": int(bool(entry.get("iscrowd", 0) or entry.get("ignore", 0))),
            "area": _area(entry),
        }
        if has_segmentation(own):
            filled["segmentation"] = own["segmentation"]
        annotations.append(filled)
    return {
        "info": content.get("info", {}),
        "images": list(images.values()),
        "annotations": annotations,
        "categories": [{"id": i, "name": name} for i, name in sorted(categories.items())],
    }
