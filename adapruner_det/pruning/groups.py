"""How many samples of each group to keep, such as of the classes of a data set."""

import torch
from torch import Tensor


def quotas(sizes: Tensor, total: int) -> Tensor:
    """How many of each group to keep, `total` together: in proportion to its size, at least one.

    Largest remainder (Hamilton's method): each group gets the whole part of its share, and the places
    left go to the largest fractions, the lower id first among equals. A group whose share is below one
    gets one, and the rest is divided among the others.

    Args:
        sizes: samples of each group, (G,) int64; a group without samples gets none.
        total: at most the sum of the sizes.

    Returns:
        (G,) int64, none above its size.

    Raises:
        ValueError: more groups than samples to keep.
    """
    sizes = sizes.cpu()
    given = torch.zeros_like(sizes)
    if int((sizes > 0).sum()) > total:
        raise ValueError(
            f"{int((sizes > 0).sum())} groups cannot each keep a sample when {total} of "
            f"{int(sizes.sum())} are to be kept: raise keep_ratio, join groups, or do without "
            "(SCORING.CLASS_BALANCE False; in selection.py cut, --across-classes)"
        )
    free = sizes > 0
    while True:
        places, among = total - int(given.sum()), int(sizes[free].sum())
        small = free & (sizes * places < among)
        if not small.any():
            break
        given[small] = 1
        free &= ~small
    if free.any():
        shares, remainders = sizes[free] * places // among, sizes[free] * places % among
        largest = remainders.argsort(descending=True, stable=True)[: places - int(shares.sum())]
        shares[largest] += 1
        given[free] = shares
    return given
