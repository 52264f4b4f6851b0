"""The mask that minimises E: mean-field annealing, as the paper's schedule does it, then exchanges of two images.

N images, logits m (N,), alpha the scale of the sigmoid, s = sigmoid(alpha m).

Alpha rises, the ratio is held by a shift of all logits, and a step is m <- m - eta (m + g). g is what speaks against each
image while s of the others stay: u + R, what an image answers to the others, or dE/ds, which has what it adds to the R
of others as well. None always ends lowest, nor do other p on the way, so several are tried. What is left to gain is
gained with alpha at infinity, where s is 0 or 1: two images change places as long as E falls. At rest
m_i = nu_a - u_i - R_i: an image's logit is the threshold of its class less the sum of what speaks against it, and the
images with m > 0 stay. Nothing is between images of two classes, so each class is solved by itself.
"""

import itertools
from collections.abc import Callable

import numpy as np
from scipy.special import expit

from .energy import NORM, NORMS, Energy

STEPS, STEP_SIZE = 300, 0.2  # eta
ALPHA = 0.1, 60.0  # first and last; it rises geometrically
_ROUNDS = 100  # of exchanges, and of answers by half of those that would change their side, at most
_ANSWERS = 20_000  # at most, those of one pair at a time that come after
_EACH_WITH_EACH = 12  # of the worst that stay and the best that go
_GAIN = 1e-9  # less is rounding
_MARGIN = 1e-6  # that the threshold of a class which stays as a whole is above the last of its images


def minimise(energy: Energy) -> np.ndarray:
    """The logits (N,) of the mask that minimises E, as many of each class above 0 as its quota says.

    Where a class keeps all or none, its threshold is the common one, or as near to it as that allows.
    """
    m = np.empty(len(energy.unary))
    whole = []
    for cls, quota in enumerate(energy.quotas):
        images = np.flatnonzero(energy.classes == cls)
        if 0 < quota < len(images):
            m[images] = of_class(energy.of(images), quota)
        elif len(images):
            whole.append((images, quota > 0))
            m[images] = quota - 0.5
    against = energy.unary + energy.response(m > 0)
    common = common_threshold(against, int((m > 0).sum()))
    for images, stay in whole:
        own = against[images]
        m[images] = (max(common, own.max() + _MARGIN) if stay else min(common, own.min() - _MARGIN)) - own
    return m


def common_threshold(against: np.ndarray, keep: int) -> float:
    """The number that what speaks against `keep` of the images (N,) is below."""
    if not 0 < keep < len(against):
        return float(against.max() if keep else against.min())
    return float(np.partition(against, [keep - 1, keep])[[keep - 1, keep]].mean())


def of_class(energy: Energy, keep: int) -> np.ndarray:
    """The logits (N,) of the mask that minimises E, `keep` of them above 0: at least 1 and below N."""
    unary = energy.unary
    ways = [lambda s, norm=norm: unary + energy.response(s, norm) for norm in NORMS]
    starts = [anneal(energy, keep, against) for against in (*ways, energy.gradient)]
    ends = [at_rest(energy, kept) for start in starts for kept in (start, exchange(energy, start))]
    return min(ends, key=lambda m: (not rests(energy, m), energy.value(m > 0)))


def rests(energy: Energy, m: np.ndarray) -> bool:
    """Whether the logits are one number a class less what speaks against each image, the others being in or out as they say."""
    thresholds = m + energy.unary + energy.response(m > 0)
    spread = max(np.ptp(thresholds[energy.classes == cls]) for cls in np.unique(energy.classes))
    return bool(spread <= _GAIN * max(1.0, np.abs(m).max()))


def anneal(energy: Energy, keep: int, against: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """Which images stay, (N,) bool, when alpha has risen; `against` gives g (N,) for s (N,)."""
    m = np.zeros(len(energy.unary))
    for alpha in np.geomspace(*ALPHA, STEPS):
        m = shifted(m, keep)
        m = m - STEP_SIZE * (m + against(expit(alpha * m)))
    return shifted(m, keep) > 0


def shifted(m: np.ndarray, keep: int) -> np.ndarray:
    """Less the number halfway between the lowest logit to keep and the next."""
    last_in, first_out = -np.partition(-m, [keep - 1, keep])[[keep - 1, keep]]
    return m - (last_in + first_out) / 2


def at_rest(energy: Energy, kept: np.ndarray) -> np.ndarray:
    """The logits once each image has answered to the others' being in or out for good, from `kept` (N,) bool on.

    Half of those that would change their side do so at a time, those that gain most by it first: images that are alike
    would all go, and all come back. Where that goes round in a circle, it is one pair at a time.
    """
    kept, keep = kept.copy(), int(kept.sum())
    for turn in range(_ANSWERS):
        m = shifted(-energy.unary - energy.response(kept), keep)
        leave, enter = np.flatnonzero(kept & (m <= 0)), np.flatnonzero(~kept & (m > 0))
        if not len(leave) or not len(enter):
            break
        number = (min(len(leave), len(enter)) + 1) // 2 if turn < _ROUNDS else 1
        kept[leave[np.argsort(m[leave], kind="stable")[:number]]] = False
        kept[enter[np.argsort(-m[enter], kind="stable")[:number]]] = True
    return m


def exchange(energy: Energy, kept: np.ndarray) -> np.ndarray:
    """Lets two images, one that stays and one that goes, change places as long as E falls; (N,) bool.

    Tried are those that E itself would sooner have the other way round, each with each.
    """
    kept, unary = kept.copy(), energy.unary
    sums = energy.powers[NORM] @ kept.astype(np.float64)  # R^p
    for _ in range(_ROUNDS):
        marginals, inside, outside = _marginals(energy, kept, sums), np.flatnonzero(kept), np.flatnonzero(~kept)
        worst = inside[np.argsort(-marginals[inside], kind="stable")][:_EACH_WITH_EACH]
        best = outside[np.argsort(marginals[outside], kind="stable")][:_EACH_WITH_EACH]
        gained = False
        for out, into in itertools.product(worst, best):
            if kept[out] and not kept[into]:
                gained |= _try(energy, unary[into] - unary[out], kept, sums, out, into)
        if not gained:
            break
    return kept


def _marginals(energy: Energy, kept: np.ndarray, sums: np.ndarray) -> np.ndarray:
    """By how much E rises with an image that goes, and is higher for one that stays, (N,)."""
    near = energy.powers[NORM]
    rows = np.repeat(np.arange(len(kept)), np.diff(near.indptr))
    columns, powers = near.indices, near.data
    with_it = np.where(kept[columns], sums[rows], sums[rows] + powers)
    without = np.maximum(with_it - powers, 0)
    adds = np.where(kept[rows], with_it ** (1 / NORM) - without ** (1 / NORM), 0)
    return energy.unary + (sums ** (1 / NORM) + np.bincount(columns, adds, len(kept))) / 2


def _try(energy: Energy, rise_of_own: float, kept: np.ndarray, sums: np.ndarray, out: int, into: int) -> bool:
    """Exchanges the two, in `kept` and `sums`, if E falls; whether it did. `rise_of_own` is the part of u."""
    near = energy.powers[NORM]
    of_out, of_in = (slice(*near.indptr[image : image + 2]) for image in (out, into))
    touched = np.unique(np.concatenate([near.indices[of_out], near.indices[of_in], [out, into]]))
    before, stays = sums[touched], kept[touched]
    after = before.copy()
    after[np.searchsorted(touched, near.indices[of_out])] -= near.data[of_out]
    after[np.searchsorted(touched, near.indices[of_in])] += near.data[of_in]
    after = np.maximum(after, 0)
    will = np.where(touched == out, False, np.where(touched == into, True, stays))
    rise = (will @ after ** (1 / NORM) - stays @ before ** (1 / NORM)) / 2 + rise_of_own
    if rise > -_GAIN:
        return False
    kept[out], kept[into], sums[touched] = False, True, after
    return True
