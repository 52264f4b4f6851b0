"""Accuracy of a classifier on a registered data set.

N images, K classes.
"""

import csv
import io
import json
import logging
from collections import Counter, OrderedDict
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch.nn.functional as F
from detectron2.data import MetadataCatalog
from detectron2.evaluation import DatasetEvaluator
from detectron2.utils import comm
from tabulate import tabulate
from torch import Tensor

from ..files import write_text

_LOGGED_CLASSES = 20  # of more, the log shows the worst
_TOP = 5


class Predictions(NamedTuple):
    """What the model says of N images.

    Attributes:
        ids: N str.
        labels: (N,) the images' classes.
        predicted: (N,) the most probable ones.
        probabilities: (N,) of those.
        losses: (N,) cross-entropies.
        in_top: (N,) bool, whether the image's class is among the five most probable.
    """

    ids: list[str]
    labels: np.ndarray
    predicted: np.ndarray
    probabilities: np.ndarray
    losses: np.ndarray
    in_top: np.ndarray


class ClassificationEvaluator(DatasetEvaluator):
    """Accuracy and loss on a classification data set.

    `evaluate` gives {"classification": metrics}, accuracies in percent:

    - "accuracy": share of images whose most probable class is theirs;
    - "accuracy-top5": whose class is among the five most probable, with more than five classes;
    - "loss": mean cross-entropy, in nats;
    - "accuracy-<class>" for each class; NaN for one without images.

    It contains a synchronisation, so it has to be called from all ranks; ranks other than the
    first get {}.
    """

    def __init__(self, dataset_name: str, output_dir: str | None = None):
        """
        Args:
            dataset_name: a registered data set with `thing_classes`.
            output_dir: where rank 0 writes evaluation.json, per_class.csv and predictions.json (id,
                class, predicted class and its probability of each image, in the data's order); nothing
                is written if None.
        """
        self._dataset_name = dataset_name
        self._output_dir = output_dir
        self._class_names = list(MetadataCatalog.get(dataset_name).thing_classes)
        self._logger = logging.getLogger(__name__)
        self.reset()

    def reset(self):
        self._parts: list[Predictions] = []

    def process(self, inputs: dict, outputs: Tensor):
        """
        Args:
            inputs: a batch with "labels" (N,) and "image_ids" (N str).
            outputs: logits (N, K).

        Raises:
            ValueError: the model has another number of classes than the data set.
        """
        if outputs.shape[1] != len(self._class_names):
            raise ValueError(
                f"the model has {outputs.shape[1]} classes but data set {self._dataset_name!r} has "
                f"{len(self._class_names)}; set MODEL.CLASSIFIER.NUM_CLASSES"
            )
        logits, labels = outputs.detach().float().cpu(), inputs["labels"].cpu()
        top = logits.topk(min(_TOP, logits.shape[1])).indices
        predicted = top[:, 0]
        columns = (
            labels,
            predicted,
            logits.softmax(1).gather(1, predicted[:, None])[:, 0],
            F.cross_entropy(logits, labels, reduction="none"),
            (top == labels[:, None]).any(1),
        )
        columns = (column.numpy() for column in columns)
        self._parts.append(Predictions(list(inputs["image_ids"]), *columns))

    def evaluate(self):
        """
        Returns:
            {"classification": OrderedDict of metrics} on rank 0 (see the class), {} elsewhere.

        Raises:
            ValueError: no image was predicted, or one twice.
        """
        gathered = comm.gather(self._parts, dst=0)
        if not comm.is_main_process():
            return {}
        predictions = self._joined([part for of_rank in gathered for part in of_rank])
        rows = self._rows(predictions)
        results = self._summary(predictions, rows)
        self._log(predictions, rows, results)
        if self._output_dir:
            self._save(predictions, rows, results)
        return OrderedDict(classification=results)

    def _joined(self, parts: list[Predictions]) -> Predictions:
        if not parts:
            raise ValueError(f"no image of data set {self._dataset_name!r} was predicted")
        ids, *columns = zip(*parts)
        ids = [image_id for own in ids for image_id in own]
        image_id, times = Counter(ids).most_common(1)[0]
        if times > 1:
            raise ValueError(
                f"image {image_id!r} was predicted {times} times: call reset() between two evaluations, "
                "and give each image to one process only"
            )
        return Predictions(ids, *(np.concatenate(column) for column in columns))

    def _rows(self, predictions: Predictions) -> list[dict[str, object]]:
        """The table of classes, a dict each."""
        right = predictions.predicted == predictions.labels
        rows = []
        for k, name in enumerate(self._class_names):
            own = predictions.labels == k
            rows.append(
                {
                    "class": name,
                    "images": int(own.sum()),
                    "accuracy": _mean(100.0 * right[own]),
                    "loss": _mean(predictions.losses[own]),
                    "predicted": int((predictions.predicted == k).sum()),
                }
            )
        return rows

    def _summary(self, predictions: Predictions, rows) -> "OrderedDict[str, float]":
        results = OrderedDict(accuracy=_mean(100.0 * (predictions.predicted == predictions.labels)))
        if len(self._class_names) > _TOP:
            results["accuracy-top5"] = _mean(100.0 * predictions.in_top)
        results["loss"] = _mean(predictions.losses)
        for row in rows:
            # A class may be called "top5": the metric keeps its name
            results.setdefault(f"accuracy-{row['class']}", row["accuracy"])
        return results

    def _log(self, predictions: Predictions, rows, results) -> None:
        worst = sorted((row for row in rows if row["images"]), key=lambda row: row["accuracy"])
        few = len(rows) <= _LOGGED_CLASSES
        shown = rows if few else worst[:_LOGGED_CLASSES]
        overall = {
            "class": "all",
            "images": len(predictions.ids),
            "accuracy": results["accuracy"],
            "loss": results["loss"],
            "predicted": len(predictions.ids),
        }
        top = f"; top 5: {results['accuracy-top5']:.2f}" if "accuracy-top5" in results else ""
        self._logger.info(
            "%s, accuracy in percent%s%s:\n%s",
            self._dataset_name,
            top,
            "" if few else f"; the {_LOGGED_CLASSES} worst classes",
            tabulate([*shown, overall], headers="keys", floatfmt=".2f", tablefmt="pipe"),
        )
        absent = [row["class"] for row in rows if not row["images"]]
        if absent:
            self._logger.warning(
                "%s holds no image of: %s. Their accuracy is NaN.", self._dataset_name, ", ".join(absent)
            )

    def _save(self, predictions: Predictions, rows, results) -> None:
        table = io.StringIO()
        writer = csv.DictWriter(table, fieldnames=list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        # NaN is not JSON
        metrics = {key: None if np.isnan(value) else value for key, value in results.items()}
        summary = {
            "dataset": self._dataset_name,
            "images": len(predictions.ids),
            "classification": metrics,
        }
        out = Path(self._output_dir)
        write_text(out / "per_class.csv", table.getvalue())
        write_text(out / "evaluation.json", json.dumps(summary, indent=2) + "\n")
        write_text(out / "predictions.json", json.dumps(self._by_image(predictions)))

    def _by_image(self, predictions: Predictions) -> list[dict[str, object]]:
        names = self._class_names
        return [
            {
                "image_id": image_id,
                "class": names[label],
                "predicted": names[predicted],
                "probability": round(probability, 6),
            }
            for image_id, label, predicted, probability in zip(
                predictions.ids,
                predictions.labels.tolist(),
                predictions.predicted.tolist(),
                predictions.probabilities.tolist(),
            )
        ]


def _mean(values: np.ndarray) -> float:
    return float(values.mean()) if len(values) else float("nan")
