"""A first look at data, without training: copies, leaks between lists, broken files, classes and box sizes. N images."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy import sparse

from ..data.validation import Problem
from ..files import new_folder
from ..pruning.neighbors import nearest_neighbours, unit_vectors
from .gallery import boxes_of, columns, pictures, write_page
from .near_copies import Pair, describe, leaks, most_alike, save_pairs
from .page_facts import SIZES, in_the_plane
from .thumbnails import ReadImage

PAGE, PAIRS, THUMBNAILS = "look.html", "pairs.csv", "thumbnails"
COPY, LEAK, BOTH, SINGLE = REASONS = (
    "has a near-copy in its list",
    "has a near-copy in another list",
    "has near-copies in both",
    "has no near-copy",
)
_COLOURS = dict(zip(REASONS, ("copies", "outside", "hand", "kept")))
_LINKS = 4  # near-copies of an image that are looked for
_SHOWN = 40  # images of a group, problems, pairs
_MAX_POINTS = 1500


def write_look(
    folder: "str | Path",
    records: Sequence[dict],
    class_names: Sequence[str],
    read_image: "ReadImage | None",
    problems: Sequence[Problem] = (),
    features: "np.ndarray | None" = None,
) -> tuple[Path, str]:
    """Writes look.html, thumbnails/ and pairs.csv, all near-copies, into a folder.

    Args:
        records: dataset dicts of all lists, each with its `dataset_name`, the training list first.
        problems: of files that are not among the records.
        features: (N, F) of a pretrained network, for what is alike and no near-copy, and for a map.

    Returns:
        The path of the page, and what it says in one sentence.
    """
    folder = Path(folder)
    described, unreadable = describe(records, read_image)
    found = Looked(records, class_names, described, [*problems, *(_unreadable(records[i]) for i in unreadable)])
    sections = {"copies": found.groups(), "leaks": found.leaking(), "alike": found.most_alike(features)}
    points = found.points(features)
    needed = {i for groups in sections.values() for group in groups for i in group} | {point[0] for point in points}
    folder.mkdir(parents=True, exist_ok=True)
    with new_folder(folder / THUMBNAILS) as beside:
        shown, _ = pictures(records, needed, read_image, beside, folder / THUMBNAILS)
    data = {
        **columns(records, class_names), **shown, "own": len(records), "marks": False, "reasons": list(REASONS),
        "colours": _COLOURS, "reason": found.reasons.tolist(), "kept": [1] * len(records), "numbers": {},
        "similarity": found.similarity, "sections": sections, "points": points,
    }  # fmt: skip
    save_pairs(folder / PAIRS, [*found.copies, *found.leaks], records)
    page = write_page(
        folder / PAGE, "look.html", data, found=found, pairs=PAIRS, shown=_SHOWN, unreadable=0,
        pretrained=features is not None,
    )  # fmt: skip
    return page, found.verdict()


def _unreadable(record: dict) -> Problem:
    return Problem(record.get("file_name", str(record["image_id"])), "not readable as an image")


def _images(pairs: Sequence[Pair]) -> list[int]:
    return [i for pair in pairs for i in pair[:2]]


class Looked:
    """What is found in N images of one or more lists.

    Attributes:
        copies, leaks: near-copies within a list, each pair once, and between lists.
        copied, leaked: (N,) bool, images of these pairs.
        reasons: (N,) of REASONS.
        similarity: of each image with its nearest near-copy; None without one.
    """

    def __init__(
        self, records: Sequence[dict], class_names: Sequence[str], described: np.ndarray, problems: Sequence[Problem]
    ):
        self.records, self.class_names, self.problems = records, class_names, problems
        self.lists = np.array([record["dataset_name"] for record in records])
        self.names = list(dict.fromkeys(self.lists.tolist()))
        self.leaks = leaks(described, self.lists.tolist())
        links = []
        for name in self.names:
            own = np.flatnonzero(self.lists == name)
            links += most_alike(described, own, own, _LINKS)
        once = {(min(pair[:2]), max(pair[:2])): pair.likeness for pair in links}
        self.copies = sorted((Pair(*key, value) for key, value in once.items()), key=lambda pair: -pair.likeness)
        self.copied, self.leaked = (np.isin(np.arange(len(records)), _images(own)) for own in (self.copies, self.leaks))
        named = [REASONS.index(name) for name in (SINGLE, COPY, LEAK, BOTH)]
        self.reasons = np.array(named)[self.copied + 2 * self.leaked]
        self.similarity: list[float | None] = [None] * len(records)
        for pair in (*self.copies, *self.leaks):
            for i in pair[:2]:
                self.similarity[i] = max(self.similarity[i] or 0.0, pair.likeness)

    def groups(self) -> list[list[int]]:
        """Near-copies of each other in one list, the most alike first."""
        size = len(self.records)
        ends = np.array([pair[:2] for pair in self.copies], int).reshape(-1, 2).T
        graph = sparse.coo_matrix((np.ones(ends.shape[1]), tuple(ends)), (size, size))
        _, component = sparse.csgraph.connected_components(graph, directed=False)
        groups: dict[int, list[int]] = {}
        for pair in self.copies:
            own = groups.setdefault(int(component[pair.first]), [])
            own += [i for i in pair[:2] if i not in own] if len(own) < _SHOWN else []
        return list(groups.values())

    def leaking(self) -> list[list[int]]:
        groups: dict[int, list[int]] = {}
        for pair in self.leaks:
            groups.setdefault(pair.second, [pair.second]).append(pair.first)
        return list(groups.values())

    def most_alike(self, features: "np.ndarray | None") -> list[list[int]]:
        """Pairs that are no near-copies and most alike to a pretrained network, for a person to judge."""
        if features is None or len(features) < 2:
            return []
        single = np.flatnonzero(self.reasons == REASONS.index(SINGLE))
        if not len(single):
            return []
        nearest, distances = nearest_neighbours(unit_vectors(features), 1, images=single)
        pairs = {(min(i, j), max(i, j)): d for i, j, d in zip(single.tolist(), nearest[:, 0].tolist(), distances[:, 0])}
        return [list(pair) for pair in sorted(pairs, key=lambda pair: pairs[pair])[: _SHOWN // 2]]

    def points(self, features: "np.ndarray | None") -> list[list]:
        """[place, x, y] of a sample on a map."""
        if features is None or len(features) < 4:
            return []
        sample = np.random.default_rng(0).permutation(len(features))[:_MAX_POINTS]
        return [[int(i), *point] for i, point in zip(sample, in_the_plane(features[sample]).tolist())]

    def verdict(self) -> str:
        copied = int(self.copied.sum())
        leaked = len({pair.first for pair in self.leaks})
        faulty = len({problem.file for problem in self.problems})
        where = f"{len(self.names)} lists" if len(self.names) > 1 else self.names[0]
        parts = [f"{copied:,} of them near-copies of others in their list" if copied else "no near-copies"]
        if len(self.names) > 1:
            parts.append(
                f"{leaked:,} in a later list of some in an earlier one (leaks)" if leaked else "no leaks between lists"
            )
        parts.append(f"{faulty:,} file{'s' if faulty > 1 else ''} with something wrong" if faulty else "no broken file")
        return f"{len(self.records):,} images in {where}: {', '.join(parts[:-1])}, {parts[-1]}."

    def tables(self) -> list[dict[str, Any]]:
        """{"title", "unit", "rows": [(name, a number for each list)]} of images, classes and box sizes."""
        boxes = [boxes_of(record) for record in self.records]
        classify = "category_id" in self.records[0]
        classes = [[r["category_id"]] if classify else b[:, 0].astype(int) for r, b in zip(self.records, boxes)]
        number = len(self.class_names)
        counts = np.array([np.bincount(own, minlength=number) for own in classes])
        images = {
            "images": np.ones(len(boxes), int),
            "with a near-copy in their list": self.copied,
            "with a near-copy in another list": self.leaked,
            "without a near-copy": ~(self.copied | self.leaked),
        }
        if not classify:
            images["without boxes"] = np.array([len(own) == 0 for own in boxes])
        tables = [self._table("Images", "images", images)]
        unit = "images" if classify else "boxes"
        tables.append(self._table("Classes", unit, dict(zip(self.class_names, counts.T))))
        if not classify:
            areas = [(own[:, 3:] - own[:, 1:3]).prod(axis=1) for own in boxes]
            sizes = {n: np.array([((low <= a) & (a < high)).sum() for a in areas]) for n, low, high in SIZES}
            tables.append(self._table("Box sizes", "boxes", sizes))
        return tables

    def _table(self, title: str, unit: str, rows: Mapping[str, np.ndarray]) -> dict[str, Any]:
        own = [self.lists == name for name in self.names]
        return {
            "title": title,
            "unit": unit,
            "rows": [(n, [int(v[which].sum()) for which in own]) for n, v in rows.items()],
        }
