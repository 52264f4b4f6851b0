"""Divides images into parts that have about the same share of every class.

Iterative stratification (Sechidis, Tsoumakas and Vlahavas, "On the Stratification of Multi-Label Data", 2011), for
units of several images and with parts that are full at their size. Where the paper gives the next image to the part
that lacks most, the parts take turns in proportion to their shares (Sainte-Lague's rule): images with the same classes
come one after the other, so their other classes are divided as well.

U units (an image, or images that stay together), K classes, P parts.
"""

from collections.abc import Sequence

import numpy as np


def part_sizes(total: int, shares: Sequence[float]) -> np.ndarray:
    """How many of `total` images each of P parts gets: `total` together, each within one of its share."""
    ends = np.floor(np.cumsum(shares) * total + 0.5).astype(int)
    ends[-1] = total  # whatever the sum of the shares is in floating point
    return np.diff(ends, prepend=0)


def stratified_parts(
    counts: np.ndarray, unit_sizes: np.ndarray, shares: Sequence[float], rng: np.random.Generator
) -> np.ndarray:
    """The part of each unit.

    The class with the fewest images left goes first, since later choices could not make good for it. Its turn is the
    part's that lacks most of it for its share, among the parts with room; between equals, the part's with most room.

    Args:
        counts: (U, K) images of each class in each unit, no row without any: an image counts for every class it has,
            and having none is a class as well.
        unit_sizes: (U,) images of each unit.
        shares: (P,) of the images, summing to 1.

    Returns:
        (U,) int, the number of the part. With units of one image the parts are of `part_sizes`; else they may miss them
        by the largest unit.
    """
    lacking = np.outer(shares, counts.sum(axis=0))
    room = part_sizes(int(unit_sizes.sum()), shares).astype(float)
    parts = np.full(len(counts), -1)
    shuffled = rng.permutation(len(counts))
    while (left := shuffled[parts[shuffled] < 0]).size:
        totals = counts[left].sum(axis=0)
        rarest = np.where(totals > 0, totals, np.inf).argmin()
        units = left[counts[left, rarest] > 0]
        # Units that hold many first: small ones can still even out what these leave uneven. lexsort's last key is the
        # first criterion, and equals stay in their order.
        for unit in units[np.lexsort((*-counts[units].T, -counts[units, rarest]))]:
            turn = (lacking[:, rarest] - counts[unit, rarest] / 2) / shares
            part = np.lexsort((room, turn, room > 0))[-1]
            parts[unit] = part
            room[part] -= unit_sizes[unit]
            lacking[part] -= counts[unit]
    return parts
