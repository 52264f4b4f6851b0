"""The page of a selection: what goes and why, whether to trust it, and marks to correct it.

`report.html` is one file beside a folder of thumbnails; it opens from disk without a network. N images.
"""

import hashlib
import os
import shlex
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import yaml
from detectron2.structures import BoxMode
from jinja2 import Environment, PackageLoader, StrictUndefined

from ..data.corrections import CORRECTED_COLUMN
from ..data.pruned_datasets import check_fits
from ..files import new_folder, write_text
from ..pruning import Selection, decision
from ..pruning.statistics import FILE as STATISTICS
from ..pruning.statistics import Statistics
from . import page_facts as facts
from .doubtful_labels import COCO, CSV, doubtful_boxes, write_lists
from .thumbnails import FOLDER as THUMBNAILS
from .thumbnails import ReadImage, own_file, save_crops, save_thumbnails

PAGE = "report.html"
ALL_THUMBNAILS = 3000  # images: of more, those in no section are shown from their own files
MAX_POINTS = 1500  # of the map
MAX_CROPS = 600  # doubtful boxes shown; the lists have all
SHOWN = 24  # images of a kind
COPY, DOUBTFUL, DIFFICULTY, LOT = "near-duplicate", "doubtful labels", "hard or easy beyond its kind", "by lot"
BY_HAND, LOWEST, OUTSIDE = "a person's choice", "lowest scores", "did not compete"
GROUPS = {  # a reason's colour, how the verdict says it, and a hint
    COPY: ("copies", "as copies of an image that stays", "compare each with its pair"),
    DOUBTFUL: ("doubtful", "for doubtful labels", "mend these, do not delete them"),
    DIFFICULTY: ("difficulty", "as hard or easy beyond their kind", ""),
    LOT: ("lot", "by lot", "a random choice would do as well"),
    LOWEST: ("lot", "for the lowest scores", ""),
    OUTSIDE: ("lot", "without having competed", ""),
    BY_HAND: ("hand", "by a person's choice", ""),
}
_SHOWN_AS = dict(zip(decision.REASONS, GROUPS))


def write_report(
    folder: "str | Path", records: Sequence[dict], read_image: ReadImage, results: "str | Path | None" = None
) -> Path:
    """Writes report.html, thumbnails/ and, if labels are doubtful, lists of these into the folder of a selection.

    Args:
        folder: of the selection, as a pruning run or `selection.py cut` leaves it.
        records: the dataset dicts the selection was made on, each with `dataset_name`.
        read_image: from a dataset dict to its (H, W, 3) uint8 RGB pixels, for images that are no files of their own.
        results: results.csv of tools/compare.py, for what training on the selection costs.

    Returns:
        The path of the page.

    Raises:
        FileNotFoundError: no selection there, or no results.
        SelectionMismatchError: the records are not those of the selection.
        ValueError: broken files.
    """
    folder = Path(folder)
    page = _Page(folder, Selection.load(folder), records)
    costs = facts.costs(results) if results else None
    environment = Environment(
        loader=PackageLoader("adapruner_det.report"), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    environment.policies["json.dumps_kwargs"] = {"separators": (",", ":"), "allow_nan": False}
    data = page.data(read_image)
    content = environment.get_template("page.html").render(
        page=page, data=data, costs=costs, tables=page.balance(), curves=facts.curves(folder.parent / "metrics.json"),
        lists=(CSV, COCO),
    )  # fmt: skip
    write_text(folder / PAGE, content)
    return folder / PAGE


class _Page:
    """What the page shows of a selection, by the places of its N images."""

    def __init__(self, folder: Path, selection: Selection, records: Sequence[dict]):
        for name in selection.dataset_names():
            check_fits(selection, name, [record for record in records if record["dataset_name"] == name])
        self.folder, self.selection = folder, selection
        self.keys = list(zip(selection.datasets, selection.ids))
        by_key = {(record["dataset_name"], str(record["image_id"])): record for record in records}
        self.records = [by_key[key] for key in self.keys]
        self.kept = np.array(selection.kept, bool)
        self.losses = self.column("final_loss", "mean_loss")
        self.class_names = selection.provenance["class_names"]
        self.classifies = "category_id" in self.records[0]
        self.statistics = Statistics.load(folder) if (folder / STATISTICS).is_file() else None
        at = {key: i for i, key in enumerate(self.keys)}
        own = zip(self.statistics.datasets, self.statistics.ids) if self.statistics else ()
        self.place = np.array([at[key] for key in own], int)  # where the images of the statistics stand
        self.boxes = [_boxes_of(record) for record in self.records]
        self.doubts = doubtful_boxes(self.statistics, self.place, self.classifies) if self.statistics else []
        self.unreadable = 0

    def column(self, *names: str) -> list:
        """The first of these columns that is there; None for each image if none is."""
        found = [self.selection.columns[name] for name in names if name in self.selection.columns]
        return list(found[0]) if found else [None] * len(self.keys)

    @cached_property
    def reasons(self) -> list[str]:
        """Why each image goes; of one that stays, what keeps it if that is told."""
        rows = zip(self.column(decision.REASON_COLUMN), self.kept, self.selection.scores, self.column(CORRECTED_COLUMN))
        return [
            BY_HAND if by_hand
            else _SHOWN_AS.get(reason, reason) or ("" if kept else LOWEST if score is not None else OUTSIDE)
            for reason, kept, score, by_hand in rows
        ]  # fmt: skip

    def gone(self, reason: str) -> list[int]:
        return [i for i, own in enumerate(self.reasons) if own == reason and not self.kept[i]]

    @cached_property
    def counts(self) -> list[tuple[int, tuple[str, ...]]]:
        """How many images go for each reason, and the words for it."""
        return [(len(self.gone(reason)), words) for reason, words in GROUPS.items()]

    def verdict(self) -> str:
        num, gone = len(self.keys), int((~self.kept).sum())
        parts = ", ".join(f"{count:,} {words[1]}" for count, words in self.counts if count)
        return f"Of {num:,} images {gone:,} {'goes' if gone == 1 else 'go'}{': ' if parts else ''}{parts}."

    def ratio_with_reason(self) -> float | None:
        """The ratio down to which images go for a reason; None if the method gives none."""
        told = self.selection.provenance.get("reasons", {}).get("with_reason")
        return None if told is None else 1 - told / sum(score is not None for score in self.selection.scores)

    @cached_property
    def epochs(self) -> float:
        """How often the model has seen each image; 0 if that is not told."""
        return float(np.mean([visits for visits in self.column("visits") if visits is not None] or [0]))

    @cached_property
    def fitness(self) -> facts.Fitness | None:
        return facts.fitness(self.statistics, self.epochs, self.classifies) if self.statistics else None

    def commands(self) -> dict[str, str]:
        """What to type next."""
        folder, ratio = shlex.quote(str(self.folder)), f"{self.selection.keep_ratio:g}"
        new, compare = (shlex.quote(f"{self.folder}_{what}") for what in ("corrected", "compared"))
        config = yaml.safe_load(self.selection.provenance.get("config") or "") or {}
        registered = config.get("DATASETS", {}).get("REGISTER", [])
        data = "".join(f" --register {shlex.quote(text)}" for text in registered)
        experiment = f"configs/experiments/{'cifar10_small' if self.classifies else 'detection_small'}.yaml"
        return {
            "cut": f"adapruner cut {folder} --keep-ratio {ratio} --corrections corrections.csv --output {new}",
            "compare": f"adapruner compare --experiment {experiment}{data} --keep-ratios {ratio} --output {compare}\n"
            f"adapruner report {folder} --results {compare}/results.csv{data}",
        }

    def balance(self) -> list[dict[str, Any]]:
        files = [own_file(record) for record in self.records]
        classes = [[r["category_id"]] if self.classifies else own[:, 0] for r, own in zip(self.records, self.boxes)]
        corners = None if self.classifies else [own[:, 1:] for own in self.boxes]
        return facts.balance(self.kept, self.class_names, classes, corners, facts.sources(self.selection.ids, files))

    @cached_property
    def sections(self) -> dict[str, list]:
        """Places of the images in the page's fixed sections; copies are lists of one that stays and those like it."""
        scores: Sequence[Any] = self.selection.scores  # a number wherever one is sorted by
        losses = self.losses
        by_score = sorted((i for i, score in enumerate(scores) if score is not None), key=lambda i: scores[i])
        with_loss = [i for i, loss in enumerate(losses) if loss is not None and self.kept[i]]
        lot = np.random.default_rng(0).permutation(self.gone(LOT))[:SHOWN].tolist()
        empty = [] if self.classifies else [i for i, boxes in enumerate(self.boxes) if len(boxes) == 0]
        return {
            "copies": self._copies(),
            "doubtful": sorted(self.gone(DOUBTFUL), key=lambda i: scores[i]),
            "hardest": sorted(with_loss, key=lambda i: -losses[i])[:SHOWN],
            "just_kept": [i for i in by_score if self.kept[i]][: SHOWN // 2],
            "just_pruned": [i for i in reversed(by_score) if not self.kept[i]][: SHOWN // 2],
            "empty": empty[: 2 * SHOWN],
            "lot": sorted(map(int, lot)),
            "lowest": [i for i in by_score if not self.kept[i]][: 2 * SHOWN],
        }

    def _copies(self) -> list[list[int]]:
        at = {name: i for i, (dataset, name) in enumerate(self.keys)}
        at.update(
            {f"{dataset}/{name}": i for i, (dataset, name) in enumerate(self.keys)}
        )  # as told of several data sets
        like, similarity = self.column(decision.SIMILAR_TO_COLUMN), self.column(decision.SIMILARITY_COLUMN)
        groups: dict[str, list[int]] = {}
        for i in sorted(self.gone(COPY), key=lambda i: -(similarity[i] or 0)):
            groups.setdefault(like[i], [at[like[i]]]).append(i)
        return list(groups.values())

    def data(self, read_image: ReadImage) -> dict[str, Any]:
        """Writes the thumbnails; returns what the script reads: columns of N values, and cards of other things."""
        names, reasons, points = (
            self.selection.dataset_names(),
            list(dict.fromkeys(["", *self.reasons])),
            self._points(),
        )
        return {
            "key": hashlib.sha256(repr((self.keys, self.kept.tolist())).encode()).hexdigest()[:16],
            "datasets": names,
            "classes": self.class_names,
            "reasons": reasons,
            "colours": {reason: words[0] for reason, words in GROUPS.items()},
            "id": list(self.selection.ids),
            "dataset": [names.index(name) for name in self.selection.datasets],
            "kept": self.kept.astype(int).tolist(),
            "reason": [reasons.index(reason) for reason in self.reasons],
            "score": _rounded(self.selection.scores),
            "loss": _rounded(self.losses),
            "similarity": self.column(decision.SIMILARITY_COLUMN),
            "label": [record["category_id"] if self.classifies else -1 for record in self.records],
            "boxes": [np.rint(boxes).astype(int).ravel().tolist() for boxes in self.boxes],
            "found": self._found(),
            "sections": self.sections,
            "points": points,
            **self._save_pictures(read_image, {point[0] for point in points}),
        }  # fmt: skip

    def _points(self) -> list[list]:
        """[place, x, y] of a sample of the images on the map, x and y from 0 to 1."""
        if self.statistics is None or len(self.statistics) < 4 or not self.statistics.features.size:
            return []
        sample = np.random.default_rng(0).permutation(len(self.statistics))[:MAX_POINTS]
        positions = facts.in_the_plane(self.statistics.features[sample])
        return [[int(i), *point] for i, point in zip(self.place[sample], positions.tolist())]

    def _found(self) -> dict[int, list[int]]:
        """What the model sees in the images whose labels are doubtful: class and corners, one after the other."""
        seen: dict[int, list[int]] = {i: [] for i in self.sections["doubtful"]}
        if self.statistics is not None and self.fitness and not self.classifies:
            found = self.statistics.found
            for j in np.flatnonzero(found.scores >= self.fitness.score):
                if (i := int(self.place[found.images[j]])) in seen:
                    seen[i] += [int(found.classes[j]), *np.rint(found.boxes[j]).astype(int).tolist()]
        return seen

    def _save_pictures(self, read_image: ReadImage, in_map: set[int]) -> dict[str, list]:
        """Writes thumbnails, crops and lists of doubtful labels; addresses and sizes of all images, cards of the crops."""
        files = [own_file(record) for record in self.records]
        shown = set(range(len(files)))
        if len(files) > ALL_THUMBNAILS:
            sections = {**self.sections, "copies": sum(self.sections["copies"], [])}
            shown = {i for places in sections.values() for i in places} | {i for i in in_map if not files[i]}
        with new_folder(self.folder / THUMBNAILS) as beside:
            read = save_thumbnails({i: self.records[i] for i in sorted(shown)}, read_image, beside)
            crops = save_crops(self.doubts[:MAX_CROPS], self.records, read_image, beside)
        self.unreadable = len(shown) - len(read)
        sizes = [read.get(i) or (r.get("width", 0), r.get("height", 0)) for i, r in enumerate(self.records)]
        if self.doubts:
            write_lists(self.folder, self.doubts, self.records, sizes, self.class_names)
        addresses = [quote(os.path.relpath(file, self.folder)) if file else "" for file in files]
        addresses = [f"{THUMBNAILS}/{i}.jpg" if i in read else own for i, own in enumerate(addresses)]
        return {"src": addresses, "size": sizes, "doubts": crops}


def _boxes_of(record: dict[str, Any]) -> np.ndarray:
    """(M, 5) class and XYXY corners of an image's labels, crowds left out; (0, 5) for classification."""
    rows = [
        [label["category_id"], *BoxMode.convert(list(label["bbox"]), label["bbox_mode"], BoxMode.XYXY_ABS)]
        for label in record.get("annotations", [])
        if not label.get("iscrowd", 0)
    ]
    return np.array(rows, float).reshape(-1, 5)


def _rounded(values: Sequence) -> list:
    return [None if value is None else round(float(value), 4) for value in values]
