"""Groups of samples that are each held to the ratio, such as the classes of a data set."""
import hashlib
from typing import Optional

import torch
from torch import Tensor

_SMALLEST = (torch.uint8, torch.int16, torch.int32)


def compact_groups(
    groups: Tensor, num_samples: int, num_groups: Optional[int] = None
) -> "tuple[Tensor, int]":
    """The group ids in the smallest integer type that holds them, and the number of groups G.

    Args:
        groups: id of each sample's group, (N,) integers, at least 0. An id that no sample has is
            an empty group.
        num_samples: N.
        num_groups: G where other processes hold further samples; otherwise the highest id + 1.

    Raises:
        ValueError: not one integer a sample, or ids outside [0, G).
    """
    groups = torch.as_tensor(groups)
    if groups.shape != (num_samples,) or groups.is_floating_point() or groups.is_complex():
        raise ValueError(
            f"groups are one integer a sample, of shape ({num_samples},); got {groups.dtype} of shape "
            f"{tuple(groups.shape)}"
        )
    lowest, highest = (int(groups.min()), int(groups.max())) if num_samples else (0, -1)
    if num_groups is None:
        num_groups = highest + 1
    if lowest < 0 or highest >= num_groups:
        raise ValueError(f"group ids go from {lowest} to {highest}, allowed are 0 to {num_groups - 1}")
    dtype = next(dtype for dtype in _SMALLEST if num_groups - 1 <= torch.iinfo(dtype).max)
    return groups.to(dtype, copy=True), num_groups


def fingerprint_of_groups(groups: Optional[Tensor]) -> Optional[str]:
    """SHA-256 of the ids in their order, None for None."""
    if groups is None:
        return None
    return hashlib.sha256(groups.cpu().contiguous().numpy()).hexdigest()


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
            f"{int(sizes.sum())} are to be kept: raise keep_ratio, join groups, or do without (CLASS_BALANCE "
            "False; in selection.py cut, --across-classes)"
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
