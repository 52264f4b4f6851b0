"""VOC's detection AP for every data set registered with Detectron2: any classes, any year.

In Detectron2's coordinates, where a VOC box is (xmin - 1, ymin - 1, xmax, ymax), the VOC devkit's IoU with its "+ 1"
widths is the plain IoU: xmax - xmin + 1 equals xmax - (xmin - 1).

Shapes: N detections and M ground-truth boxes of an image, D detections of the whole data set, K classes, T = 10 IoU
thresholds.
"""

import json
import logging
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from detectron2.data import MetadataCatalog
from detectron2.evaluation import DatasetEvaluator
from detectron2.structures import BoxMode
from tabulate import tabulate
from torchvision.ops import box_iou

from ..data.detection_records import labelled_records
from ..data.pruned_datasets import corners
from ..files import write_text
from .coco_ap import COCOFileEvaluator
from .results import gather_predictions, write_results

# As Detectron2 makes them: an IoU that is exactly a threshold has to fall on the same side.
IOU_THRESHOLDS = np.arange(50, 100, 5) / 100.0
RECALL_POINTS = np.arange(0.0, 1.1, 0.1)

logger = logging.getLogger(__name__)


class ImageTruth(NamedTuple):
    """Ground truth of one image."""

    boxes: np.ndarray  # (M, 4) float64, XYXY in pixels
    classes: np.ndarray  # (M,) int64, index into the metadata's `thing_classes`
    ignored: np.ndarray  # (M,) bool: "difficult" or "iscrowd", neither to be found nor punished


class ImagePredictions(NamedTuple):
    """Detections of one image."""

    boxes: np.ndarray  # (N, 4) float64, XYXY in pixels
    scores: np.ndarray  # (N,) float64
    classes: np.ndarray  # (N,) int64


NO_PREDICTIONS = ImagePredictions(np.zeros((0, 4)), np.zeros(0), np.zeros(0, np.int64))


class Matches(NamedTuple):
    """What every detection of the data set overlaps best, among the boxes of its image and class."""

    scores: np.ndarray  # (D,) float64
    classes: np.ndarray  # (D,) int64
    ious: np.ndarray  # (D,) float64, 0 where the image holds no box of that class
    targets: np.ndarray  # (D,) int64, the box's number within the data set, if the IoU is above 0
    ignored: np.ndarray  # (D,) bool, whether that box is an ignored one


def ground_truth(dataset_name: str) -> dict[str, ImageTruth]:
    """Ground truth of a registered data set by image id, in the data set's order.

    Detectron2's own VOC data sets are read by our reader, as its dicts have lost the difficult flag.

    Raises:
        ValueError: an image id occurs twice, or no image has an "annotations" key; and what reading VOC raises.
    """
    records = labelled_records(dataset_name)
    if not any("annotations" in record for record in records):
        raise ValueError(
            f"dataset {dataset_name!r}: none of its {len(records)} images has annotations, "
            "so there is nothing to evaluate against; use a split with ground truth"
        )
    return {str(record["image_id"]): _truth(record.get("annotations", [])) for record in records}


def _truth(annotations: list[dict[str, Any]]) -> ImageTruth:
    return ImageTruth(
        np.array([corners(own) for own in annotations], np.float64).reshape(-1, 4),
        np.array([own["category_id"] for own in annotations], np.int64),
        np.array([own.get("difficult", 0) or own.get("iscrowd", 0) for own in annotations], bool),
    )


def match_detections(truth: Mapping[str, ImageTruth], predictions: Mapping[str, ImagePredictions]) -> Matches:
    """Finds for each detection the box of its image and class with the largest IoU.

    Images are visited in the order of `truth`, so the result does not depend on how the images were spread over
    processes.
    """
    parts: list[tuple[np.ndarray, ...]] = []
    offset = 0
    for image_id, gt in truth.items():
        found = predictions.get(image_id, NO_PREDICTIONS)
        # NaN where neither box has an area, which exceeds no threshold
        iou = box_iou(torch.from_numpy(found.boxes), torch.from_numpy(gt.boxes)).numpy()
        iou = np.where(found.classes[:, None] == gt.classes[None, :], iou, 0.0)
        iou = np.pad(iou, ((0, 0), (0, 1)))  # N x M + 1: with no box at all, there is something to choose from
        best = iou.argmax(axis=1)
        ignored = np.append(gt.ignored, False)[best]
        parts.append((found.scores, found.classes, iou[np.arange(len(best)), best], best + offset, ignored))
        offset += len(gt.boxes)
    return Matches(*(np.concatenate(column) for column in zip(*parts)))


def average_precision(true_positive: np.ndarray, counted: np.ndarray, num_boxes: int) -> tuple[float, float]:
    """Average precision of one class at one IoU threshold, by both of VOC's rules.

    Args:
        true_positive: (D,) bool, detections by falling score.
        counted: (D,) bool, False for detections on ignored boxes, which are no false positives.
        num_boxes: boxes to be found, at least 1.

    Returns:
        (area, eleven_point): the area under the precision envelope (VOC 2010 and later) and the mean of the envelope at
        recall 0, 0.1, ..., 1 (VOC 2007), both in [0, 1]. Rounding follows Detectron2's `voc_ap`, since a recall of 3 /
        10 does not reach the point 0.1 * 3.
    """
    found = np.cumsum(true_positive)
    recall = found / float(num_boxes)
    precision = found / np.maximum(np.cumsum(counted), 1)
    envelope = np.maximum.accumulate(precision[::-1])[::-1]
    area = np.sum(np.diff(recall, prepend=0.0) * envelope)
    at = np.searchsorted(recall, RECALL_POINTS, side="left")
    return float(area), float(np.append(envelope, 0.0)[at].mean())


def class_aps(matches: Matches, cls: int, num_boxes: int) -> np.ndarray:
    """AP of one class at every IoU threshold: (T, 2), area and 11-point, in [0, 1]; NaN without boxes.

    As in VOC's rules an IoU has to exceed the threshold, and of several detections of one box that with the highest
    score is right, the others false positives.
    """
    if num_boxes == 0:
        return np.full((len(IOU_THRESHOLDS), 2), np.nan)
    mine = np.flatnonzero(matches.classes == cls)
    mine = mine[np.argsort(-matches.scores[mine], kind="stable")]
    ious, targets, ignored = matches.ious[mine], matches.targets[mine], matches.ignored[mine]
    aps = []
    for threshold in IOU_THRESHOLDS:
        hit = ious > threshold
        candidates = np.flatnonzero(hit & ~ignored)
        _, first = np.unique(targets[candidates], return_index=True)
        true_positive = np.zeros(len(mine), bool)
        true_positive[candidates[first]] = True
        aps.append(average_precision(true_positive, ~(hit & ignored), num_boxes))
    return np.array(aps)


class VOCEvaluator(DatasetEvaluator):
    """VOC and COCO style AP on any detection data set registered with Detectron2.

    `evaluate` gives, in percent:

    - "AP50-area", "AP50-11point": IoU 0.5, mean over the classes, by either rule of `average_precision`;
    - "AP50", "AP75" and "AP" (mean over IoU 0.50:0.95:0.05): by the 11-point rule where the metadata's year is 2007, as
      it is for Detectron2's voc_2007_* data sets, else by the area rule. So these three equal those of Detectron2's
      `PascalVOCDetectionEvaluator`, but for its rounding of boxes and scores;
    - "AP50-<class>" for each class, by the rule of "AP50".

    A class without ground truth has no AP: it is NaN and left out of the mean, as in COCO's evaluation, and the log
    names it. Of equal scores the one that comes first in the data set ranks higher.
    """

    def __init__(self, dataset_name: str, output_dir: str | None = None):
        """
        Args:
            dataset_name: a registered data set with ground truth and `thing_classes`.
            output_dir: where rank 0 writes per_class_ap.csv, evaluation.json and predictions.json (COCO results,
                `category_id` an index into `thing_classes`); nothing is written if None.

        Raises:
            ValueError: see `ground_truth`.
        """
        self._dataset_name = dataset_name
        self._output_dir = output_dir
        metadata = MetadataCatalog.get(dataset_name)
        self._class_names = list(metadata.thing_classes)
        self._eleven_point = metadata.get("year") == 2007
        self._truth = ground_truth(dataset_name)
        self.reset()

    def reset(self) -> None:
        self._predictions: list[tuple[str, ImagePredictions]] = []

    def process(self, inputs, outputs):
        """Takes dataset dicts and the model's outputs; raises ValueError for an image or a class of another data set."""
        for input, output in zip(inputs, outputs):
            image_id = str(input["image_id"])
            if image_id not in self._truth:
                raise ValueError(
                    f"image {image_id!r} was predicted but is not in dataset {self._dataset_name!r}: "
                    "give the evaluator the data loader's dataset"
                )
            pred = _to_numpy(output["instances"])
            if pred.classes.max(initial=0) >= len(self._class_names):
                raise ValueError(
                    f"image {image_id!r}: class {pred.classes.max()} was predicted but dataset {self._dataset_name!r} "
                    f"has {len(self._class_names)} classes; set the model's, MODEL.<head>.NUM_CLASSES"
                )
            self._predictions.append((image_id, pred))

    def evaluate(self):
        """{"bbox": metric -> percent} on rank 0 (see the class), {} elsewhere; all ranks have to call it.

        Raises:
            ValueError: an image was predicted twice.
        """
        predictions = gather_predictions(self._predictions)
        if predictions is None:
            return {}
        wanted = [gt.classes[~gt.ignored] for gt in self._truth.values()]
        counts = np.stack([np.bincount(own, minlength=len(self._class_names)) for own in wanted])
        num_boxes = counts.sum(axis=0)
        matches = match_detections(self._truth, predictions)
        # K x T x 2 (area, 11-point)
        aps = 100 * np.stack([class_aps(matches, k, n) for k, n in enumerate(num_boxes)])
        ruled = aps[:, :, int(self._eleven_point)]
        table = pd.DataFrame({"class": self._class_names, "images": (counts > 0).sum(axis=0), "boxes": num_boxes})
        table = table.assign(AP=ruled.mean(axis=1), AP50=ruled[:, 0], AP75=ruled[:, 5])
        table["AP50-11point"] = aps[:, 0, 1]
        results = self._summary(aps, num_boxes > 0)
        self._log(table, results, predictions)
        if self._output_dir:
            self._save(self._output_dir, table, results, predictions)
        return OrderedDict(bbox=results)

    def _summary(self, aps: np.ndarray, present: np.ndarray) -> "OrderedDict[str, float]":
        mean = aps[present].mean(axis=0) if present.any() else np.full(aps.shape[1:], np.nan)
        ruled = mean[:, int(self._eleven_point)]
        results = OrderedDict(AP=float(ruled.mean()), AP50=float(ruled[0]), AP75=float(ruled[5]))
        results.update({"AP50-11point": float(mean[0, 1]), "AP50-area": float(mean[0, 0])})
        for name, ap50 in zip(self._class_names, aps[:, 0, int(self._eleven_point)]):
            # A class may be called "area": the mean keeps its name
            results.setdefault(f"AP50-{name}", float(ap50))
        return results

    def _log(self, table: pd.DataFrame, results: dict, predictions: Mapping[str, ImagePredictions]) -> None:
        missing = [image_id for image_id in self._truth if image_id not in predictions]
        if missing:
            logger.warning(
                f"{self._dataset_name}: {len(missing)} of {len(self._truth)} images were not predicted "
                f"(first: {missing[0]!r}); their boxes count as missed"
            )
        rows = [*table.to_dict("records"), {"class": "mean", **{k: results[k] for k in table if k in results}}]
        shown = tabulate(rows, headers="keys", floatfmt=".2f", tablefmt="pipe")
        rule = "11-point" if self._eleven_point else "area"
        logger.info(f"{self._dataset_name}, {len(self._truth)} images, {rule} rule, in percent:\n{shown}")
        absent = ", ".join(table["class"][table["boxes"] == 0])
        if absent:
            logger.warning(
                f"{self._dataset_name} holds no box to be found of: {absent}. Their AP is NaN and left out of the mean."
            )

    def _save(
        self, folder: str, table: pd.DataFrame, results: dict, predictions: Mapping[str, ImagePredictions]
    ) -> None:
        summary = {
            "dataset": self._dataset_name,
            "rule": "11point" if self._eleven_point else "area",
            "images": len(self._truth),
            "images_predicted": len(predictions),
            "bbox": results,
        }
        write_results(folder, "per_class_ap.csv", table, summary)
        write_text(Path(folder) / "predictions.json", json.dumps(_coco_results(predictions)))


def build_evaluator(dataset_name: str, output_dir: str | None = None) -> DatasetEvaluator:
    """COCO's evaluation for data sets that come from a COCO file, VOC's for all others."""
    metadata = MetadataCatalog.get(dataset_name)
    if metadata.get("evaluator_type") == "coco" and metadata.get("json_file"):
        return COCOFileEvaluator(dataset_name, output_dir)
    return VOCEvaluator(dataset_name, output_dir)


def _to_numpy(instances) -> ImagePredictions:
    instances = instances.to("cpu")
    return ImagePredictions(
        instances.pred_boxes.tensor.detach().numpy().astype(np.float64),
        instances.scores.detach().numpy().astype(np.float64),
        instances.pred_classes.numpy().astype(np.int64),
    )


def _coco_results(predictions: Mapping[str, ImagePredictions]) -> list[dict[str, Any]]:
    return [
        {"image_id": image_id, "category_id": cls, "bbox": box, "score": score}
        for image_id, pred in predictions.items()
        for cls, box, score in zip(
            pred.classes.tolist(),
            BoxMode.convert(pred.boxes, BoxMode.XYXY_ABS, BoxMode.XYWH_ABS).tolist(),
            pred.scores.tolist(),
        )
    ]
