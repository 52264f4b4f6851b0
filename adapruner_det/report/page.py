"""The page of a selection: what goes and why, whether to trust it, and marks to correct it.

`report.html` is one file beside a folder of thumbnails; it opens from disk without a network. N images.
"""

import hashlib
import logging
import shlex
from collections.abc import Collection, Sequence
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from ..data.corrections import CORRECTED_COLUMN
from ..data.pruned_datasets import key_of, records_of
from ..data.registration import specs_in_use
from ..files import new_folder
from ..pruning import Selection, decision
from ..pruning.loss_scale import expected_values
from ..pruning.statistics import FILE as STATISTICS
from ..pruning.statistics import Statistics
from . import page_facts as facts
from .doubtful_labels import COCO, CSV, doubtful_boxes, write_lists
from .gallery import boxes_of, columns, pictures, rounded, write_page
from .near_copies import ALIKE as NEAR_COPY
from .near_copies import Pair, describe, leaks_into, likeness, save_pairs
from .thumbnails import FOLDER as THUMBNAILS
from .thumbnails import ReadImage, own_file, save_crops

PAGE, LEAKS = "report.html", "leaks.csv"
MAX_POINTS = 1500  # of the map
MAX_CROPS = 600  # doubtful boxes shown; the lists have all
SHOWN = 24  # images of a kind
COPY, DOUBTFUL, DIFFICULTY, LOT = "near-duplicate", "doubtful labels", "hard or easy beyond its kind", "by lot"
ALIKE = "much like one that stays"  # near-duplicates to the model, whose pictures differ
RELATIVE = "relative loss"
BY_HAND, LOWEST, OUTSIDE = "a person's choice", "lowest scores", "did not compete"
GROUPS = {  # a reason's colour, how the verdict says it, and a hint
    COPY: ("copies", "as copies of an image that stays", "compare each with its pair"),
    ALIKE: ("alike", "as much like one that stays", "to the model: compare each with its pair"),
    DOUBTFUL: ("doubtful", "for doubtful labels", "look at them: mend what is wrong, do not delete it"),
    DIFFICULTY: ("difficulty", "as hard or easy beyond their kind", ""),
    LOT: ("lot", "by lot", "a random choice would do as well"),
    LOWEST: ("lot", "for the lowest scores", ""),
    OUTSIDE: ("lot", "without having competed", ""),
    BY_HAND: ("hand", "by a person's choice", ""),
}
DRAWS = ("random", "random_class_weighted", "random_stratified")  # methods whose scores are drawn
_SHOWN_AS = dict(zip(decision.REASONS, (COPY, COPY, DOUBTFUL, DIFFICULTY, LOT)))

logger = logging.getLogger(__name__)


def write_report(
    folder: "str | Path",
    records: Sequence[dict],
    read_image: "ReadImage | None",
    results: "str | Path | None" = None,
    others: Sequence[dict] = (),
    leaks: "Sequence[Pair] | None" = None,
) -> Path:
    """Writes report.html, thumbnails/ and lists of doubtful labels and of leaks into the folder of a selection.

    Warns of a selecting model that is too young to judge images.

    Args:
        folder: of the selection, as a pruning run or `selection.py cut` leaves it.
        records: the dataset dicts the selection was made on, each with `dataset_name`.
        read_image: from a dataset dict to its (H, W, 3) uint8 RGB pixels, for images that are no files of their own.
        results: results.csv of `adapruner compare`, for what training on the selection costs.
        others: records of the lists that are tested on, which should have no image in common with these.
        leaks: what `leaks_into` has found, of these records in this order; None: it is asked.

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
    if page.fitness and page.fitness.young:
        why = page.fitness.young
        logger.warning(
            f"The selector is too young to trust, train it longer or on larger pictures: {why[0].lower()}{why[1:]}"
        )
    page.tell_copies(read_image)
    if others:
        page.list_leaks(others, leaks_into(others, records, read_image) if leaks is None else leaks, records)
    return write_page(
        folder / PAGE, "page.html", page.data(read_image), page=page, costs=costs, tables=page.balance(),
        curves=facts.curves(page.run / "metrics.json"), lists=(CSV, COCO), leak_list=LEAKS, doubtful=DOUBTFUL,
        unreadable=page.unreadable,
    )  # fmt: skip


class _Page:
    """What the page shows of a selection, by the places of its N images.

    Attributes:
        leaks: near-copies of its images in other lists, whose places come after the N; None if nobody has looked.
        leaked: the records of the first of each pair.
        copies: places of images that go as near-duplicates and look so.
    """

    leaks: "list[Pair] | None" = None
    leaked: Sequence[dict] = ()
    copies: Collection[int] = ()

    def __init__(self, folder: Path, selection: Selection, records: Sequence[dict]):
        self.folder, self.selection, self.keys = folder, selection, selection.keys
        self.draws, self.records = selection.method in DRAWS, records_of(selection, records)
        self.kept = np.array(selection.kept, bool)
        self.losses = self.column("final_loss", "mean_loss")
        self.class_names = selection.provenance["class_names"]
        self.classifies = "category_id" in self.records[0]
        self.statistics = Statistics.load(folder) if (folder / STATISTICS).is_file() else None
        at = {key: i for i, key in enumerate(self.keys)}
        own = zip(self.statistics.datasets, self.statistics.ids) if self.statistics else ()
        self.place = np.array([at[key] for key in own], int)  # where the images of the statistics stand
        self.boxes = [boxes_of(record) for record in self.records]
        self.doubts = doubtful_boxes(self.statistics, self.place, self.classifies) if self.statistics else []
        self.unreadable = 0

    def tell_copies(self, read_image: "ReadImage | None") -> None:
        """Tells copies from what is only alike to the model."""
        pairs = [(i, group[0]) for group in self.similar for i in group[1:]]
        places = sorted({*chain.from_iterable(pairs)})
        described, _ = describe([self.records[i] for i in places], read_image)
        row = dict(zip(places, described))
        self.copies = {i for i, other in pairs if likeness(row[i], row[other]) >= NEAR_COPY}

    def list_leaks(self, others: Sequence[dict], found: Sequence[Pair], records: Sequence[dict]) -> None:
        """Takes over pairs of places in [*records, *others], and writes a list of them."""
        at = {key: i for i, key in enumerate(self.keys)}
        everything = [*self.records, *others]
        self.leaks = [pair._replace(second=at[key_of(records[pair.second])]) for pair in found]
        self.leaked = [everything[pair.first] for pair in self.leaks]
        save_pairs(self.folder / LEAKS, self.leaks, everything)

    def column(self, *names: str) -> list:
        """The first of these columns that is there; None for each image if none is."""
        found = [self.selection.columns[name] for name in names if name in self.selection.columns]
        return list(found[0]) if found else [None] * len(self.keys)

    @cached_property
    def config(self) -> dict[str, Any]:
        """The config of the run that made the selection, as far as that is told."""
        return yaml.safe_load(self.selection.provenance.get("config") or "") or {}

    @cached_property
    def run(self) -> Path:
        """The folder of that run: where the selection lies, or the one that its config names."""
        named = Path(self.config.get("OUTPUT_DIR", self.folder.parent))
        return named if "solved_again_from" in self.selection.provenance and named.is_dir() else self.folder.parent

    @cached_property
    def reasons(self) -> list[str]:
        """Why each image goes; of one that stays, what keeps it if that is told."""
        lowest = LOT if self.draws else LOWEST
        rows = zip(self.column(decision.REASON_COLUMN), self.kept, self.selection.scores, self.column(CORRECTED_COLUMN))
        shown = [
            BY_HAND if by_hand
            else _SHOWN_AS.get(reason, reason) or ("" if kept else lowest if score is not None else OUTSIDE)
            for reason, kept, score, by_hand in rows
        ]  # fmt: skip
        return [ALIKE if reason == COPY and i not in self.copies else reason for i, reason in enumerate(shown)]

    def gone(self, reason: str) -> list[int]:
        return [i for i, own in enumerate(self.reasons) if own == reason and not self.kept[i]]

    @cached_property
    def counts(self) -> list[tuple[int, tuple[str, ...]]]:
        """How many images go for each reason, and the words for it."""
        counts = [(len(self.gone(reason)), words) for reason, words in GROUPS.items()]
        return [
            (n, (words[0], words[1].replace("as copies", "as a copy") if n == 1 else words[1], words[2]))
            for n, words in counts
        ]

    def verdict(self) -> str:
        num, gone = len(self.keys), int((~self.kept).sum())
        parts = ", ".join(f"{count:,} {words[1]}" for count, words in self.counts if count)
        return f"Of {num:,} images {gone:,} {'goes' if gone == 1 else 'go'}{': ' if parts else ''}{parts}."

    @cached_property
    def listed(self) -> int:
        """How many of the images that go for doubtful labels have one in the list."""
        return len({doubt["i"] for doubt in self.doubts}.intersection(self.gone(DOUBTFUL)))

    def solves(self) -> bool:
        """Whether the selection is solved when the model is trained, and not that of the mask that trains with it."""
        again = "solved_again_from" in self.selection.provenance
        return again or bool(self.config.get("ADAPRUNER", {}).get("SOLVE_AT_END"))

    @cached_property
    def epochs(self) -> float:
        """How often the model has seen each image; 0 if that is not told."""
        return float(np.mean([visits for visits in self.column("visits") if visits is not None] or [0]))

    @cached_property
    def fitness(self) -> facts.Fitness | None:
        if self.statistics is None:
            return None
        held_out = facts.held_out(self.run, self.config.get("DATASETS", {}).get("TEST", []))
        return facts.fitness(self.statistics, self.epochs, held_out)

    def commands(self) -> dict[str, str]:
        """What to type next."""
        folder, ratio = shlex.quote(str(self.folder)), f"{self.selection.keep_ratio:g}"
        beside = self.folder.parent if self.folder.name == "selection" else self.folder
        new, compare = (shlex.quote(f"{beside}_{what}") for what in ("corrected", "compared"))
        used = specs_in_use(self.config.get("DATASETS", {}))
        data = "".join(f" --register {shlex.quote(text)}" for text in used)
        experiment = _experiment("cifar10_small" if self.classifies else "detection_small")
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
    def relative_losses(self) -> list[float | None]:
        """The loss of each image over that of images with as many objects of these classes, as the mask divides it.

        None for images of which it is not known; empty where no statistics tell it.
        """
        if self.statistics is None or not self.statistics.losses:
            return []
        own, counts = self.statistics.loss, self.statistics.counts
        good = np.flatnonzero(np.isfinite(own) & (own >= 0))
        if not own[good].any():
            return []
        losses: list[float | None] = [None] * len(self.keys)
        for i, loss in zip(self.place[good], own[good] / expected_values(own[good], counts[good])):
            losses[i] = float(loss)
        return losses

    @cached_property
    def sections(self) -> dict[str, list]:
        """Places of the images in the page's fixed sections; copies and leaks are lists of an image and those like it."""
        scores: Sequence[Any] = self.selection.scores  # a number wherever one is sorted by
        losses: Sequence[Any] = self.relative_losses or self.losses
        by_score = sorted((i for i, score in enumerate(scores) if score is not None), key=lambda i: scores[i])
        with_loss = [i for i, loss in enumerate(losses) if loss is not None and self.kept[i]]
        lot = np.random.default_rng(0).permutation(self.gone(LOT))[:SHOWN].tolist()
        empty = [] if self.classifies else [i for i, boxes in enumerate(self.boxes) if len(boxes) == 0]
        leaked: dict[int, list[int]] = {}
        for place, pair in enumerate(self.leaks or (), len(self.keys)):
            leaked.setdefault(pair.second, [pair.second]).append(place)
        return {
            "copies": self.similar,
            "leaks": list(leaked.values()),
            "doubtful": sorted(self.gone(DOUBTFUL), key=lambda i: scores[i]),
            "hardest": sorted(with_loss, key=lambda i: -losses[i])[:SHOWN],
            "just_kept": [i for i in by_score if self.kept[i]][: SHOWN // 2],
            "just_pruned": [i for i in reversed(by_score) if not self.kept[i]][: SHOWN // 2],
            "empty": empty[: 2 * SHOWN],
            "lot": sorted(map(int, lot)),
            "lowest": [i for i in by_score if not self.kept[i]][: 2 * SHOWN],
        }

    @cached_property
    def similar(self) -> list[list[int]]:
        """An image that stays and those that go as near-duplicates of it, or as alike, the most similar first."""
        at = {name: i for i, (dataset, name) in enumerate(self.keys)}
        # as told of several data sets
        at.update({f"{dataset}/{name}": i for i, (dataset, name) in enumerate(self.keys)})
        names = (decision.REASON_COLUMN, decision.SIMILAR_TO_COLUMN, decision.SIMILARITY_COLUMN, CORRECTED_COLUMN)
        rows = list(zip(*map(self.column, names)))
        like = decision.NEAR_DUPLICATE, decision.ALIKE
        gone = [i for i, row in enumerate(rows) if row[0] in like and not self.kept[i] and not row[3]]
        groups: dict[str, list[int]] = {}
        for i in sorted(gone, key=lambda i: -(rows[i][2] or 0)):
            groups.setdefault(rows[i][1], [at[rows[i][1]]]).append(i)
        return list(groups.values())

    def data(self, read_image: "ReadImage | None") -> dict[str, Any]:
        """Writes the thumbnails; returns what the script reads: columns of N values, and cards of other things.

        Images of other lists, which are near-copies, come after the N.
        """
        reasons, points = list(dict.fromkeys(["", *self.reasons])), self._points()
        similarity = zip(self.column(decision.SIMILARITY_COLUMN), self.kept)
        more = [None] * len(self.leaked)
        numbers = {"score": self.selection.scores, "loss": self.losses}
        if self.relative_losses:
            numbers[RELATIVE] = self.relative_losses
        return {
            **columns([*self.records, *self.leaked], self.class_names),
            "key": hashlib.sha256(repr((self.keys, self.kept.tolist())).encode()).hexdigest()[:16],
            "own": len(self.records),
            "marks": True,
            "reasons": reasons,
            "colours": {reason: words[0] for reason, words in GROUPS.items()},
            "kept": self.kept.astype(int).tolist() + more,
            "reason": [reasons.index(reason) for reason in self.reasons] + more,
            "numbers": {name: rounded(values) + more for name, values in numbers.items()},
            "similarity": [None if kept else own for own, kept in similarity] + [p.likeness for p in self.leaks or ()],
            "found": self._found(),
            "sections": self.sections,
            "points": points,
            **self._save_pictures(read_image, {point[0] for point in points}),
        }

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

    def _save_pictures(self, read_image: "ReadImage | None", in_map: set[int]) -> dict[str, list]:
        """Writes thumbnails, crops and lists of doubtful labels; addresses and sizes of all images, cards of the crops."""
        records = [*self.records, *self.leaked]
        flat = (own for name, own in self.sections.items() if name not in ("copies", "leaks"))
        needed = {*chain.from_iterable([*flat, *self.sections["copies"], *self.sections["leaks"]])}
        needed |= {i for i in in_map if not own_file(records[i])}
        with new_folder(self.folder / THUMBNAILS) as beside:
            found, self.unreadable = pictures(records, needed, read_image, beside, self.folder / THUMBNAILS)
            crops = save_crops(self.doubts[:MAX_CROPS], self.records, read_image, beside)
        if self.doubts:
            write_lists(self.folder, self.doubts, self.records, found["size"], self.class_names)
        return {**found, "doubts": crops}


def _experiment(name: str) -> str:
    """The path of one of the repository's experiments, wherever the page is read; relative where there is no checkout."""
    path = Path("configs/experiments") / f"{name}.yaml"
    own = Path(__file__).resolve().parents[2] / path
    return shlex.quote(str(own if own.is_file() else path))
