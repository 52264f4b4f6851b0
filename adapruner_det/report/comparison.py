"""Two selections of the same images side by side: what they have in common, and where they differ."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

from ..data.pruned_datasets import key_of
from ..files import new_folder
from ..pruning import Selection
from ..pruning.decision import REASON_COLUMN
from .gallery import columns, pictures, write_page
from .thumbnails import ReadImage

PAGE, THUMBNAILS = "compared.html", "thumbnails_compared"
VERDICTS = ("both keep", "only A keeps", "only B keeps", "both prune")
FIRST, SECOND = VERDICTS[1:3]
_COLOURS = dict(zip(VERDICTS, ("kept", "copies", "difficulty", "lot")))
_MAX_POINTS = 1500  # of the plot


def write_comparison(
    folder: "str | Path", other: "str | Path", records: Sequence[dict], read_image: "ReadImage | None"
) -> Path:
    """Writes compared.html into the folder of selection A: what B, in `other`, decides otherwise.

    Args:
        records: the dataset dicts of A, each with `dataset_name`; images that B does not know are left out.

    Returns:
        The path of the page.

    Raises:
        FileNotFoundError, ValueError: no selection there, or a broken one; no image in common.
    """
    folder = Path(folder)
    first, second = Selection.load(folder), Selection.load(other)
    places = [{key: i for i, key in enumerate(own.keys)} for own in (first, second)]
    common = [record for record in records if all(key_of(record) in own for own in places)]
    if not common:
        raise ValueError(
            f"{folder} and {other} have no image in common: they are of {first.datasets[0]}, {second.datasets[0]}"
        )
    found = Compared(*(_Side(own, [at[key_of(r)] for r in common]) for own, at in zip((first, second), places)))
    sections = found.sections()
    with new_folder(folder / THUMBNAILS) as beside:
        needed = {i for own in sections.values() for i in own}
        shown, unreadable = pictures(common, needed, read_image, beside, folder / THUMBNAILS)
    data = {
        **columns(common, first.provenance["class_names"]), **shown, "own": len(common), "marks": False,
        "reasons": list(VERDICTS), "colours": _COLOURS, "reason": found.verdicts.tolist(), "kept": found.first.kept.astype(int).tolist(),
        "numbers": found.numbers(), "similarity": [None] * len(common), "sections": sections, "points": found.points(),
    }  # fmt: skip
    left_out = len(first) + len(second) - 2 * len(common)
    names = {"A": (first, folder), "B": (second, other)}
    return write_page(
        folder / PAGE, "compared.html", data, found=found, names=names, left_out=left_out, unreadable=unreadable
    )


class _Side:
    """What one selection says of the N images in common.

    Attributes:
        kept: (N,) bool.
        ranks: (N,), 1 for the highest score; NaN without a score.
        reasons: N strings; "stays" for an image that is kept, "no reason" where none is told.
    """

    def __init__(self, selection: Selection, places: Sequence[int]):
        self.kept = np.array(selection.kept, bool)[places]
        scores = np.array([np.nan if score is None else score for score in selection.scores])[places]
        self.ranks = stats.rankdata(-scores, nan_policy="omit")
        told = selection.columns.get(REASON_COLUMN, [""] * len(selection))
        self.reasons = ["stays" if kept else told[i] or "no reason" for i, kept in zip(places, self.kept)]


class Compared:
    """Selections A and B of N images."""

    def __init__(self, first: _Side, second: _Side):
        self.first, self.second = first, second
        self.verdicts = 2 * ~first.kept + ~second.kept  # of VERDICTS
        self.both_ranked = ~np.isnan(first.ranks) & ~np.isnan(second.ranks)

    def counts(self) -> dict[str, int]:
        """How many images each of VERDICTS holds for."""
        return dict(zip(VERDICTS, np.bincount(self.verdicts, minlength=4).tolist()))

    def overlap(self, kept: bool) -> tuple[float, float]:
        """Of the images that A keeps (or prunes), the share that B does too; and the share by chance, all that B does."""
        first, second = self.first.kept == kept, self.second.kept == kept
        return float(second[first].mean()) if first.any() else 1.0, float(second.mean())

    def rank_correlation(self) -> float | None:
        """Spearman's, of the scores."""
        ranks = self.first.ranks[self.both_ranked], self.second.ranks[self.both_ranked]
        if len(ranks[0]) < 2 or not all(map(np.ptp, ranks)):
            return None
        return float(stats.spearmanr(*ranks).statistic)

    def sections(self) -> dict[str, list[int]]:
        """Where they differ, the most first."""
        gap = np.nan_to_num(np.abs(self.first.ranks - self.second.ranks), nan=np.inf)
        order = np.argsort(-gap, kind="stable")
        return {name: order[self.verdicts[order] == VERDICTS.index(name)].tolist() for name in (FIRST, SECOND)}

    def numbers(self) -> dict[str, list[Any]]:
        ranks = {"rank in A": self.first.ranks, "rank in B": self.second.ranks}
        ranks["gap"] = np.abs(self.first.ranks - self.second.ranks)
        return {name: [None if np.isnan(v) else round(v) for v in values.tolist()] for name, values in ranks.items()}

    def points(self) -> list[list]:
        """[place, x, y]: rank in A and in B, from 0 to 1, y upward; of a sample."""
        places = np.flatnonzero(self.both_ranked)
        places = np.random.default_rng(0).permutation(places)[:_MAX_POINTS]
        x, y = (own.ranks[places] / max(1, np.nanmax(own.ranks, initial=1)) for own in (self.first, self.second))
        return [[int(i), round(a, 4), round(1 - b, 4)] for i, a, b in zip(places, x.tolist(), y.tolist())]

    def reasons(self) -> tuple[list[str], list[tuple[str, list[int]]]]:
        """Names of B's reasons, and for each of A's the number of images with it and each of those."""
        columns = sorted(set(self.second.reasons), key=lambda name: (name != "stays", name))
        rows = sorted(set(self.first.reasons), key=lambda name: (name != "stays", name))
        pairs = list(zip(self.first.reasons, self.second.reasons))
        return columns, [(row, [pairs.count((row, column)) for column in columns]) for row in rows]
