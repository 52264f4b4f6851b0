"""Exact order statistics of float32 values by counting alone.

Radix selection: a float32 has 32 bits which, mapped to an integer of the same order, are found digit by
digit from the top by counting how many values have which digit. Nothing is sorted or copied, and since
only counts are needed, the values may be spread over processes that add theirs up.

N values, G groups of them (1 unless told otherwise), T ranks asked for in each group.
"""
from typing import Callable, Iterator, Optional, Tuple

import torch
from torch import Tensor

# Values looked at together. On a CPU few enough that temporaries stay in the cache and in malloc's heap:
# larger ones are mapped anew each time, and their page faults take longer than the counting.
CPU_CHUNK = 1 << 15
CHUNK = 1 << 22
DIGIT = 11  # bits
MAX_BINS = 1 << 20  # of a histogram, all groups together: 8 MB a rank; digits get narrower beyond

Reduce = Callable[[Tensor], Tensor]


def chunks(
    values: Tensor, groups: Optional[Tensor]
) -> Iterator[Tuple[Tensor, "Tensor | None"]]:
    """Views of some values (float32) and their groups (int64) at a time, until all have come."""
    size = CPU_CHUNK if values.device.type == "cpu" else CHUNK
    for start in range(0, len(values), size):
        part = slice(start, start + size)
        yield values[part], None if groups is None else groups[part].long()


def count_by_group(members: Tensor, groups: Optional[Tensor], num_groups: int) -> Tensor:
    """How many of `members` (C,) bool are True in each group, (G,) int64."""
    if groups is None:
        return members.sum().reshape(1)
    return torch.bincount(groups[members], minlength=num_groups)


def ranked(
    values: Tensor, ranks: Tensor, groups: Optional[Tensor] = None, reduce: Optional[Reduce] = None
) -> Tensor:
    """The values at given ranks of each group, the highest having rank 0.

    Args:
        values: (N,) float32, finite or infinite but not NaN. With `reduce`, those of this process.
        ranks: (G, T) int64, each at least 0 and below the size of its group; a rank outside gives a
            value without meaning.
        groups: group of each value, (N,) integers in [0, G), any integer type; None for G = 1.
        reduce: adds up a tensor over the processes that share the values and returns the sums. It is
            called equally often by all, with tensors of the same shape.

    Returns:
        (G, T) float64, each exactly one of the values.
    """
    width = min(DIGIT, max(1, (MAX_BINS // len(ranks)).bit_length() - 1))
    prefix = torch.zeros_like(ranks)
    left = ranks.clone()  # rank among the values that begin with `prefix`
    shift = 32
    while shift:
        bits = min(width, shift)
        shift -= bits
        counts = _count_digits(values, groups, prefix, shift, bits)
        counts = reduce(counts) if reduce else counts
        above = counts.flip(2).cumsum(2).flip(2) - counts  # how many have a higher digit
        # The digit of the value sought is the lowest one that no more than `left` values exceed.
        digit = (above > left[..., None]).sum(2).clamp(max=(1 << bits) - 1)
        left = left - above.gather(2, digit[..., None]).squeeze(2)
        prefix = (prefix << bits) | digit
    return _from_ordered(prefix).double()


def _count_digits(
    values: Tensor, groups: Optional[Tensor], prefix: Tensor, shift: int, bits: int
) -> Tensor:
    """How many values of each group begin with each of its prefixes, by their next digit.

    Returns:
        (G, T, 2^bits) int64.
    """
    num_groups, num_ranks = prefix.shape
    size = 1 << bits
    counts = torch.zeros(num_ranks, num_groups * size, dtype=torch.int64, device=values.device)
    # Neighbours in rank mostly begin alike: those are counted once.
    alike = [r > 0 and torch.equal(prefix[:, r], prefix[:, r - 1]) for r in range(num_ranks)]
    for part, group in chunks(values, groups):
        ordered = _to_ordered(part)
        digit = (ordered >> shift).bitwise_and_(size - 1)
        key = digit if group is None else group * size + digit
        for rank in range(num_ranks):
            if not alike[rank]:
                begins = _begins_with(ordered, prefix[:, rank], group, shift + bits)
                found = key if begins is None else key[begins]
                counts[rank] += torch.bincount(found, minlength=num_groups * size)
    for rank in range(num_ranks):
        if alike[rank]:
            counts[rank] = counts[rank - 1]
    return counts.view(num_ranks, num_groups, size).transpose(0, 1)


def _begins_with(
    ordered: Tensor, prefix: Tensor, group: Optional[Tensor], shift: int
) -> Optional[Tensor]:
    """Which values have their group's prefix (G,) above the lowest `shift` bits; None for all."""
    if shift == 32:
        return None
    above = (ordered >> shift).bitwise_and_((1 << (32 - shift)) - 1)
    return above == (prefix if group is None else prefix[group])


def _to_ordered(values: Tensor) -> Tensor:
    """float32 as int32 whose bits, read as an unsigned number, compare as the floats do."""
    bits = values.contiguous().view(torch.int32)
    return (bits >> 31).bitwise_or_(-(1 << 31)).bitwise_xor_(bits)


def _from_ordered(ordered: Tensor) -> Tensor:
    """The inverse of `_to_ordered` for unsigned int64, as float32."""
    low = 1 << 31
    return torch.where(ordered < low, ~ordered, ordered - low).to(torch.int32).view(torch.float32)
