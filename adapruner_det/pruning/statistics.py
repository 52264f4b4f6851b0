"""What a finished model says of every image of a data set, in one file: what pruning methods go by.

N images, K classes, F features; boxes as in `matching`.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from scipy import sparse

from ..files import replacing
from .matching import Detections, Labels, check

FILE = "statistics.npz"
_LOSS = "loss:"  # before the name of a loss term, in the file
_FORMAT = 2  # 1 had a table of the counts as well
WHOLE_IMAGE = (0, 0, 1, 1)  # the box of a classification image
_NAMED = 5  # images, in a message
_SHARE_WITHOUT_NUMBERS, _FEW = 0.01, 10  # of images, or so many if that is more, but half at most
_LARGEST = 2**36  # bytes of a file, unpacked
_NOTHING = np.zeros((0, 0), np.float32)

logger = logging.getLogger(__name__)


def most_without_numbers(num_images: int) -> int:
    """How many images may have losses that are not finite, while training or in the end, before a run is given up."""
    return min(max(_FEW, int(_SHARE_WITHOUT_NUMBERS * num_images)), num_images // 2)


class LastLayer(NamedTuple):
    """What the last, linear layer of a classifier sees and says, images not augmented."""

    features: np.ndarray  # (N, F) float32, its input
    probabilities: np.ndarray  # (N, K) float32, the softmax of its output

    @property
    def inputs(self) -> np.ndarray:
        """(N, F + 1) float64, the features and a 1 for the bias."""
        return np.pad(self.features.astype(np.float64), ((0, 0), (0, 1)), constant_values=1)


class Dynamics(NamedTuple):
    """What happened to the images while a network trained, one row an epoch; NaN where an image was not visited.

    Attributes:
        losses: (E, N) float32, the loss of each image at its visit in each epoch, before the step.
        correct: (E', N) float32. Classification: 1 where the image was classified right at that visit, else 0
            (E' = E). Detection: the share of its boxes that were found, measured E' times.
        agreement: (E', M) float32, detection: IoU x score of what is found for each label, measured E' times.
    """

    losses: np.ndarray
    correct: np.ndarray
    agreement: np.ndarray = _NOTHING


@dataclass(frozen=True)
class Statistics:
    """What selecting goes by. A selection can be made from it without the model and without the images.

    Attributes:
        datasets, ids: N strings each; together the identity of an image.
        losses: (N,) float32 by name of the loss term, of the finished model, images not augmented; empty if no model
            was asked.
        features: (N, F) float32, what the model sees in an image as a whole; (N, 0) if it has none.
        labels, found: what is labelled and what the model detects; for classification an image is one box.
        class_names: K strings.
        last_layer, dynamics: of the finished classifier, and of its training. These and what follows are empty
            but for the methods that need them (`baselines.registry.Method.needs`), and in no file.
        early: the last layers of classifiers early in their training.
        gradient_norms: (M, N) float32, of each image's loss, by M networks early in their training.
        pixels: (N, H, W, 3) uint8 RGB, of classification images.
        objects: (M, F') float32, what the finished model sees in the box of each label; of a classification image all.
        image_learning_rate: what training multiplied the gradient of one image by.
    """

    datasets: list[str]
    ids: list[str]
    losses: dict[str, np.ndarray]
    features: np.ndarray
    labels: Labels
    found: Detections
    class_names: list[str]
    last_layer: LastLayer = LastLayer(_NOTHING, _NOTHING)
    dynamics: Dynamics = Dynamics(_NOTHING, _NOTHING)
    early: Sequence[LastLayer] = ()
    gradient_norms: np.ndarray = field(default_factory=lambda: _NOTHING)
    pixels: np.ndarray = field(default_factory=lambda: _NOTHING)
    objects: np.ndarray = field(default_factory=lambda: _NOTHING)
    image_learning_rate: float = 0.0

    def __post_init__(self) -> None:
        lengths = {"datasets": len(self.datasets), "features": len(self.features)}
        lengths.update({f"loss {name}": len(values) for name, values in self.losses.items()})
        wrong = {name: length for name, length in lengths.items() if length != len(self.ids)}
        if wrong:
            raise ValueError(f"statistics of {len(self.ids)} images need one value an image of each kind: {wrong}")
        if len(self.labels.classes) and self.labels.classes.max() >= len(self.class_names):
            raise ValueError(
                f"statistics have labels of class {self.labels.classes.max()}, classes are {self.class_names}"
            )
        if self.labels.crowds is None:
            crowds = np.zeros(len(self.labels.boxes), bool)
            object.__setattr__(self, "labels", self.labels._replace(crowds=crowds))
        check(self.labels, self.found, len(self.ids))

    def __len__(self) -> int:
        return len(self.ids)

    @cached_property
    def counts(self) -> sparse.csr_matrix:
        """(N, K) int, labelled objects of each class, crowds not counted."""
        assert self.labels.crowds is not None  # see above
        single = ~self.labels.crowds
        images, classes = self.labels.images[single], self.labels.classes[single]
        return sparse.csr_matrix(
            (np.ones(len(images), np.int64), (images, classes)), (len(self), len(self.class_names))
        )

    def single_objects(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """`objects` (M, F'), their classes (M,) and the numbers of their images (M,), crowds left out."""
        assert self.labels.crowds is not None  # see above
        single = ~self.labels.crowds
        return self.objects[single], self.labels.classes[single], self.labels.images[single]

    @property
    def loss(self) -> np.ndarray:
        """(N,) float64, the sum of the terms."""
        return np.sum([values.astype(np.float64) for values in self.losses.values()], axis=0)

    @property
    def classifies(self) -> bool:
        """Whether each image has one class, as for classification; for detection it has boxes."""
        boxes = self.labels.boxes
        return len(boxes) == len(self) and bool((boxes == WHOLE_IMAGE).all())

    @property
    def classes(self) -> np.ndarray:
        """(N,) the class of each image; ValueError where images have boxes."""
        if not self.classifies:
            raise ValueError("an image with boxes has no one class")
        return self.labels.classes

    def finite(self) -> "Statistics":
        """These; a loss that is negative or no number is the median of the others, features that are none are drawn.

        So such images are usual ones, and like no other. Objects without features have zeros. The images are named in a
        warning. Raises FloatingPointError, with the images, if they are too many.
        """
        measured, seen = np.isfinite(self.loss) & (self.loss >= 0), np.isfinite(self.features).all(axis=1)
        whole = np.isfinite(self.objects).all(axis=1)
        bad = np.union1d(np.flatnonzero(~(measured & seen)), self.labels.images[np.flatnonzero(~whole)])
        if not len(bad):
            return self
        names = ", ".join(f"{self.datasets[i]} {self.ids[i]}" for i in bad[:_NAMED])
        said = (
            f"what the finished model says of {len(bad)} images is no number, or a negative loss (the first: {names})"
        )
        if len(bad) > most_without_numbers(len(self)):
            raise FloatingPointError(
                f"{said}: it has diverged. A lower SOLVER.BASE_LR or SOLVER.CLIP_GRADIENTS usually helps"
            )
        logger.warning(
            f"{said}; they are taken for usual images, and those without features for like no other: look at them"
        )
        losses = {name: np.where(measured, own, np.median(own[measured])) for name, own in self.losses.items()}
        features, known = self.features.copy(), self.features[seen]
        mean, spread = known.mean(axis=0, dtype=np.float64), known.std(axis=0, dtype=np.float64)
        features[~seen] = np.random.default_rng(0).normal(mean, spread, (np.sum(~seen), known.shape[1]))
        losses = {name: own.astype(np.float32) for name, own in losses.items()}
        return replace(self, losses=losses, features=features, objects=np.where(whole[:, None], self.objects, 0))

    @staticmethod
    def of_labels(datasets: list[str], ids: list[str], labels: Labels, class_names: list[str]) -> "Statistics":
        """What is known of images before a model has seen them."""
        nothing = Detections(np.zeros((0, 4), np.float32), *(np.zeros(0, kind) for kind in (np.float32, int, int)))
        return Statistics(datasets, ids, {}, np.zeros((len(ids), 0), np.float32), labels, nothing, class_names)

    @staticmethod
    def interleaved(parts: list["Statistics"]) -> "Statistics":
        """Statistics of all images, of which the n-th part has the n-th and every len(parts)-th after it."""
        if len(parts) == 1:
            return parts[0]  # features can be gigabytes
        num = sum(map(len, parts))
        places = [np.arange(n, num, len(parts)) for n in range(len(parts))]

        def rows(columns: list[Any]) -> np.ndarray:
            arrays = list(map(np.asarray, columns))
            rows = np.empty((num, *arrays[0].shape[1:]), np.result_type(*arrays))
            for place, own in zip(places, arrays):
                rows[place] = own
            return rows

        def boxes(name: str) -> Any:
            tables = [getattr(part, name) for part in parts]
            moved = [table._replace(images=place[table.images]) for table, place in zip(tables, places)]
            return type(moved[0])(*map(np.concatenate, zip(*moved)))

        # a term that no image of a part has, such as that of masks, is not among its own
        terms = dict.fromkeys(term for part in parts for term in part.losses)
        return Statistics(
            datasets=rows([part.datasets for part in parts]).tolist(),
            ids=rows([part.ids for part in parts]).tolist(),
            losses={term: rows([part.losses.get(term, np.zeros(len(part.ids))) for part in parts]) for term in terms},
            features=rows([part.features for part in parts]),
            labels=boxes("labels"),
            found=boxes("found"),
            class_names=parts[0].class_names,
        )

    def save(self, folder: "str | Path") -> None:
        """Writes `statistics.npz` into the folder: whole or not at all."""
        arrays: dict[str, Any] = self.arrays()
        with replacing(Path(folder) / FILE) as file:
            np.savez_compressed(file, **arrays)

    def arrays(self) -> dict[str, np.ndarray]:
        """What `save` writes, by name."""
        arrays = {f"{_LOSS}{name}": values for name, values in self.losses.items()}
        for part in ("labels", "found"):
            arrays.update({f"{part}:{name}": values for name, values in getattr(self, part)._asdict().items()})
        for name in ("datasets", "ids", "class_names"):
            arrays[name] = np.array(getattr(self, name), dtype=np.str_)
        return {"format": np.array(_FORMAT), "features": self.features, **arrays}

    @staticmethod
    def of_arrays(arrays: Mapping[str, np.ndarray]) -> "Statistics":
        """The inverse of `arrays`."""
        return Statistics(
            **{name: arrays[name].tolist() for name in ("datasets", "ids", "class_names")},
            losses={name[len(_LOSS) :]: arrays[name] for name in arrays if name.startswith(_LOSS)},
            features=arrays["features"],
            labels=Labels(*(arrays[f"labels:{name}"] for name in Labels._fields)),
            found=Detections(*(arrays[f"found:{name}"] for name in Detections._fields)),
        )

    @staticmethod
    def load(folder: "str | Path") -> "Statistics":
        """Reads what `save` wrote; FileNotFoundError or ValueError if it is missing, broken or of a newer format."""
        path = Path(folder) / FILE
        if not path.is_file():
            raise FileNotFoundError(
                f"{folder} has no {FILE}, which a pruning run leaves beside its selection: without it a selection "
                "of AdaPruner cannot be solved for another ratio; prune anew"
            )
        try:
            with np.load(path, allow_pickle=False) as file:
                if int(file["format"]) > _FORMAT:
                    raise ValueError(f"its format is {int(file['format'])}, this version reads {_FORMAT}")
                if sum(member.file_size for member in file.zip.infolist()) > _LARGEST:
                    raise ValueError("it unpacks to more than it can hold")
                arrays = dict(file)
                _check_arrays(arrays)
                return Statistics.of_arrays(arrays)
        except Exception as error:  # a zip, a header, an array: whatever of it is broken
            raise ValueError(f"{path} is not a file of statistics this version can read: {error}") from error


# Kinds of the arrays of a file (numpy's letters) and their number of dimensions; losses are as scores.
_ARRAYS = {
    **dict.fromkeys(("datasets", "ids", "class_names"), ("U", 1)),
    "features": ("f", 2),
    **{f"{part}:boxes": ("f", 2) for part in ("labels", "found")},
    **{f"{part}:{name}": ("iu", 1) for part in ("labels", "found") for name in ("classes", "images")},
    **{"labels:crowds": ("b", 1), "found:scores": ("f", 1)},
}


def _check_arrays(arrays: Mapping[str, np.ndarray]) -> None:
    """Raises ValueError, with its name, for an array that is missing or has values that it cannot have."""
    for name in (*_ARRAYS, *(name for name in arrays if name.startswith(_LOSS))):
        kinds, dimensions = _ARRAYS.get(name, ("f", 1))
        if name not in arrays:
            raise ValueError(f"{name} is missing")
        values = arrays[name]
        if values.dtype.kind not in kinds or values.ndim != dimensions:
            raise ValueError(f"{name} is an array of {values.dtype} with {values.ndim} dimensions")
        if kinds == "iu" and values.size and values.min() < 0:
            raise ValueError(f"{name} has values below 0")
        if name.endswith((":boxes", ":scores")) and not np.isfinite(values).all():
            raise ValueError(f"{name} has values that are no number")
        if name.endswith(":classes") and values.size and values.max() >= len(arrays["class_names"]):
            raise ValueError(f"{name} has {values.max()}, but there are {len(arrays['class_names'])} classes")
