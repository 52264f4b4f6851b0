"""Accuracy of a classifier on a registered data set.

N images, K classes.
"""

import json
import logging
from collections import OrderedDict
from pathlib import Path

import pandas as pd
import torch.nn.functional as F
from detectron2.data import MetadataCatalog
from detectron2.evaluation import DatasetEvaluator
from torch import Tensor

from ..files import write_text
from .results import gather_predictions, write_results

logger = logging.getLogger(__name__)

_LOGGED_CLASSES = 20
_TOP = 5


class ClassificationEvaluator(DatasetEvaluator):
    """Accuracy and loss on a classification data set.

    `evaluate` gives {"classification": metrics} on the first rank and {} on the others, which have to call it
    too. Accuracies are in percent:

    - "accuracy": share of images whose most probable class is theirs;
    - "accuracy-top5": whose class is among the five most probable, with more than five classes;
    - "loss": mean cross-entropy, in nats;
    - "accuracy-<class>" for each class; NaN for one without images.

    Args:
        dataset_name: a registered data set with `thing_classes`.
        output_dir: where rank 0 writes evaluation.json, per_class.csv and predictions.json (id, class,
            predicted class and its probability of each image, in the data's order); if None, nothing.
    """

    def __init__(self, dataset_name: str, output_dir: str | None = None):
        self._dataset_name = dataset_name
        self._output_dir = output_dir
        self._class_names = list(MetadataCatalog.get(dataset_name).thing_classes)
        self.reset()

    def reset(self) -> None:
        self._predictions: list[tuple[str, dict]] = []

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
        columns = {
            "label": labels,
            "predicted": top[:, 0],
            "probability": logits.softmax(1).gather(1, top[:, :1])[:, 0],
            "loss": F.cross_entropy(logits, labels, reduction="none"),
            "accuracy": 100.0 * (top[:, 0] == labels),
            "accuracy-top5": 100.0 * (top == labels[:, None]).any(1),
        }
        rows = pd.DataFrame({name: column.numpy() for name, column in columns.items()}).to_dict("records")
        self._predictions += zip(inputs["image_ids"], rows)

    def evaluate(self):
        """Raises ValueError if no image was predicted, or one twice."""
        predictions = gather_predictions(self._predictions)
        if predictions is None:
            return {}
        if not predictions:
            raise ValueError(f"no image of data set {self._dataset_name!r} was predicted")
        images = pd.DataFrame(list(predictions.values())).assign(image_id=list(predictions))
        names = ["accuracy", "accuracy-top5", "loss"] if len(self._class_names) > _TOP else ["accuracy", "loss"]
        metrics = OrderedDict((name, float(images[name].mean())) for name in names)
        classes = images.groupby("label").agg({"image_id": "size", "accuracy": "mean", "loss": "mean"})
        classes = classes.reindex(range(len(self._class_names))).fillna({"image_id": 0}).astype({"image_id": int})
        classes = classes.set_axis(pd.Index(self._class_names, name="class")).rename(columns={"image_id": "images"})
        for name, accuracy in classes["accuracy"].items():
            metrics.setdefault(f"accuracy-{name}", accuracy)  # a class may be called "top5": the metric keeps its name
        self._log(classes, ", ".join(f"{name} {metrics[name]:.2f}" for name in names))
        if self._output_dir:
            self._save(self._output_dir, images, classes, metrics)
        return OrderedDict(classification=metrics)

    def _log(self, classes: pd.DataFrame, overall: str) -> None:
        table = classes.dropna().nsmallest(_LOGGED_CLASSES, "accuracy").to_markdown(floatfmt=".2f")
        logger.info("%s: %s; classes, the worst first:\n%s", self._dataset_name, overall, table)
        absent = classes.index[classes["images"] == 0]
        if len(absent):
            logger.warning("%s holds no image of: %s. Their accuracy is NaN.", self._dataset_name, ", ".join(absent))

    def _save(self, folder: str, images: pd.DataFrame, classes: pd.DataFrame, metrics: dict) -> None:
        summary = {"dataset": self._dataset_name, "images": len(images), "classification": metrics}
        write_results(folder, "per_class.csv", classes.reset_index(), summary)
        predictions = {
            "image_id": images["image_id"],
            "class": images["label"].map(self._class_names.__getitem__),
            "predicted": images["predicted"].map(self._class_names.__getitem__),
            "probability": images["probability"].astype(float).round(6),
        }
        rows = pd.DataFrame(predictions).to_dict("records")
        write_text(Path(folder) / "predictions.json", json.dumps(rows))
