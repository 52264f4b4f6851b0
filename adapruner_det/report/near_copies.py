"""Near-copies: one picture twice, shifted by a few pixels, mirrored, or in other light or compression.

A picture is described by its details: 32 x 32 grey pixels less the mean of their surroundings, as a row of length 1. No
network is asked, so that it means the same for all data: copies have a cosine of 0.88 and more, the two most alike of
1,178 pictures of PASCAL VOC 0.66. N pictures, D = 32 * 32 + 1.
"""

import logging
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import combinations
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import pandas as pd
from tqdm import tqdm

from ..files import write_text
from ..pruning.names import as_cell
from .thumbnails import ReadImage, open_image

ALIKE = 0.85  # cosine from which two pictures are near-copies
SIDE = 32
_SURROUNDINGS = 9
_NOISE = 2.0  # grey levels: what varies less is a blank page, and like all of these
_PROGRESS = {"delay": 5, "leave": False, "mininterval": 1 if sys.stderr.isatty() else 30}
_BLOCK, _CANDIDATES = 1024, 16  # pictures compared at a time; looked at closely
_NAMED = 3  # pairs in a warning

logger = logging.getLogger(__name__)


class Pair(NamedTuple):
    """Two near-copies by their places among N pictures."""

    first: int
    second: int
    likeness: float  # cosine


def describe(records: Sequence[dict], read_image: "ReadImage | None") -> tuple[np.ndarray, list[int]]:
    """(N, D) float32 and the places of those that cannot be read, which are like nothing."""

    def describe_one(record: dict) -> np.ndarray | None:
        try:
            image, _ = open_image(record, read_image, draft=2 * SIDE)
            return details(np.asarray(image.convert("L").resize((SIDE, SIDE), reducing_gap=2)))
        except (OSError, ValueError):
            return None

    found = np.zeros((len(records), SIDE * SIDE + 1), np.float32)
    unreadable = []
    with ThreadPoolExecutor(4) as threads:
        for i, row in enumerate(tqdm(threads.map(describe_one, records), "Near-copies", len(records), **_PROGRESS)):
            if row is None:
                unreadable.append(i)
            else:
                found[i] = row
    return found, unreadable


def details(grey: np.ndarray) -> np.ndarray:
    """(D,) of a grey picture (32, 32). The last number is the noise: all of a blank page, little of any other."""
    pixels = grey.astype(np.float32)
    pixels -= cv2.blur(pixels, (_SURROUNDINGS, _SURROUNDINGS), borderType=cv2.BORDER_REFLECT)
    row = np.append(pixels - pixels.mean(), np.float32(_NOISE * SIDE))
    return row / np.linalg.norm(row)


def likeness(first: np.ndarray, second: np.ndarray) -> float:
    """Cosine of two rows, (D,) each, the first as it is or mirrored."""
    return float(max(first @ second, _mirrored(first[None])[0] @ second))


def most_alike(described: np.ndarray, places: np.ndarray, among: np.ndarray, most: int = 1) -> list[Pair]:
    """For each of `places` the near-copies `among` others, itself excepted: `most` at most, the best first.

    Candidates are found on 16 x 16 pixels; as they are and mirrored.
    """
    coarse, mirrored = _halved(described), _halved(_mirrored(described))
    pairs = []
    for start in range(0, len(places), _BLOCK):
        own = places[start : start + _BLOCK]
        likeness = np.maximum(coarse[own] @ coarse[among].T, mirrored[own] @ coarse[among].T)
        likeness[own[:, None] == among] = -1
        length = min(_CANDIDATES, len(among))
        nearest = among[np.argpartition(-likeness, length - 1, axis=1)[:, :length]]
        rows = described[nearest]
        exact = np.maximum(
            np.einsum("bkd,bd->bk", rows, described[own]), np.einsum("bkd,bd->bk", rows, _mirrored(described[own]))
        )
        exact[own[:, None] == nearest] = -1
        best = np.argsort(-exact, axis=1, kind="stable")[:, :most]
        pairs += [
            Pair(int(i), int(nearest[row, k]), round(min(1.0, float(exact[row, k])), 4))
            for row, i in enumerate(own)
            for k in best[row]
            if exact[row, k] >= ALIKE
        ]
    return pairs


def _mirrored(described: np.ndarray) -> np.ndarray:
    pixels = described[:, :-1].reshape(-1, SIDE, SIDE)[:, :, ::-1]
    return np.hstack([pixels.reshape(len(described), -1), described[:, -1:]])


def _halved(described: np.ndarray) -> np.ndarray:
    """(N, 257) rows of length 1."""
    pixels = described[:, :-1].reshape(-1, SIDE // 2, 2, SIDE // 2, 2).sum(axis=(2, 4))
    rows = np.hstack([pixels.reshape(len(described), -1) / 2, described[:, -1:]])
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-9)


def leaks(described: np.ndarray, lists: Sequence[str], trained_on: int = 0) -> list[Pair]:
    """The near-copy that each picture of a list has in each list before it, the most alike first.

    Args:
        lists: of each picture, (N,); the first named is the training set.
        trained_on: so many pictures, the first, are one list whatever they are called.
    """
    lists = [lists[0]] * trained_on + list(lists[trained_on:])
    places = {name: np.flatnonzero(np.array(lists) == name) for name in dict.fromkeys(lists)}
    earlier = combinations(places, 2)
    found = [pair for other, own in earlier for pair in most_alike(described, places[own], places[other])]
    return sorted(found, key=lambda pair: -pair.likeness)


def leaks_into(tested: Sequence[dict], records: Sequence[dict], read_image: "ReadImage | None") -> list[Pair]:
    """The near-copy that each picture which is tested on has among N training pictures; warns of them.

    Returns:
        Pairs of places in [*records, *tested], the tested one first, the most alike first.
    """
    if not tested:
        return []
    everything = [*records, *tested]
    described, _ = describe(everything, read_image)
    found = leaks(described, [record["dataset_name"] for record in everything], len(records))
    found = [pair for pair in found if pair.second < len(records)]
    if found:
        named = [
            " = ".join(f"{everything[place]['image_id']} of {everything[place]['dataset_name']}" for place in pair[:2])
            for pair in found[:_NAMED]
        ]
        logger.warning(
            f"Leaks: {len(found):,} of {len(tested):,} images that are tested on are near-copies of training images "
            f"({', '.join(named)}{', ...' if len(found) > _NAMED else ''}): what is measured on them flatters"
        )
    return found


def save_pairs(path: Path, pairs: Sequence[Pair], records: Sequence[dict]) -> None:
    """Writes a CSV, a pair a line: the data sets and ids of both, and how alike they are."""
    rows = [
        {
            "dataset": records[pair.first]["dataset_name"],
            "id": records[pair.first]["image_id"],
            "like_dataset": records[pair.second]["dataset_name"],
            "like_id": records[pair.second]["image_id"],
            "likeness": pair.likeness,
        }
        for pair in pairs
    ]
    table = pd.DataFrame(rows, columns=["dataset", "id", "like_dataset", "like_id", "likeness"])
    write_text(path, table.map(as_cell).to_csv(index=False, lineterminator="\n"))
