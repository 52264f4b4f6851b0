"""What few seeds can say: intervals, corrected p-values, images needed. Plain arrays in, numbers out.

S seeds, R ratios, n values. In arrays over seeds and ratios NaN stands where a seed was not run.
"""

import functools
import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from scipy import stats
from scipy.optimize import brentq
from scipy.special import ndtr
from sklearn.isotonic import isotonic_regression

LEVEL = 0.95  # of all intervals
DRAWS = 1000  # of a bootstrap
MISSING = 0.05  # share of these draws that may be undefined


class Estimate(NamedTuple):
    """A mean, the interval it lies in, and the two-sided p of zero; NaN where too little is known."""

    mean: float
    low: float = math.nan
    high: float = math.nan
    p: float = math.nan
    rival: str = ""  # whose difference to it is estimated, where the table has to say so


def over_cells(cells: Sequence[Sequence[float] | np.ndarray]) -> Estimate:
    """The mean of the means of R cells; its variance is from within them, sum_r v_r / R^2 with v_r = s_r^2 / n_r.

    Of one cell it is the mean with Student's t interval, n - 1 degrees of freedom ("Student", "The probable error of a
    mean", Biometrika 1908). What one ratio has beyond another does not count as noise: degrees of freedom are
    Satterthwaite's, (sum_r v_r)^2 / sum_r (v_r^2 / (n_r - 1)) ("An approximate distribution of estimates of variance
    components", Biometrics 1946). As if cells were independent: a seed's selections at two ratios share images.

    Args:
        cells: R of them, paired differences of n_r seeds each. One with a single value, or with none that differ, and
            there is no interval.
    """
    mean = float(np.mean([np.mean(cell) for cell in cells]))
    if min(map(len, cells)) < 2:
        return Estimate(mean)
    variances = np.array([np.var(cell, ddof=1) / len(cell) if _differ(cell) else 0.0 for cell in cells])
    if not variances.any():
        return Estimate(mean)
    freedom = variances.sum() ** 2 / sum(v**2 / (len(cell) - 1) for v, cell in zip(variances, cells))
    error = math.sqrt(variances.sum()) / len(cells)
    half = float(stats.t.ppf((1 + LEVEL) / 2, freedom)) * error
    return Estimate(mean, mean - half, mean + half, float(2 * stats.t.sf(abs(mean) / error, freedom)))


def _differ(values: Sequence[float] | np.ndarray) -> bool:
    """By more than rounding: 91.2 - 90.1 is not quite 88.3 - 87.2."""
    return bool(np.ptp(values) > 1e-9 * max(1.0, np.abs(values).max()))


def against_control(samples: Sequence[np.ndarray], control: np.ndarray) -> list[Estimate]:
    """The means of several methods less that of one control, with intervals that hold for all of them at once.

    Dunnett's ("A multiple comparison procedure for comparing several treatments with a control", 1955): one variance from
    within all methods, so that many with few seeds each know it well. Seeds are not paired; there are no p.

    Args:
        samples, control: (n,) each, of the seeds that were run. If none has two, or none differ, there are no intervals.
    """
    means = [float(sample.mean() - control.mean()) for sample in samples]
    everything = [*samples, control]
    if not samples or not any(map(_differ, everything)):
        return [Estimate(mean) for mean in means]
    sizes = np.array(list(map(len, samples)))
    freedom = sizes.sum() + len(control) - len(everything)
    variance = sum(np.square(own - own.mean()).sum() for own in everything) / freedom
    limit = _dunnett_limit(tuple(np.sqrt(sizes / (sizes + len(control))).tolist()), int(freedom))
    halves = (limit * np.sqrt(variance * (1 / sizes + 1 / len(control)))).tolist()
    return [Estimate(mean, mean - half, mean + half) for mean, half in zip(means, halves)]


@functools.cache
def _dunnett_limit(loads: tuple[float, ...], freedom: int) -> float:
    """What no |t| of the k methods exceeds, with the probability LEVEL, if all are as the control.

    By quadrature over the control's part in the t, whose share of each is its load, and over the estimated deviation.
    (scipy.stats.dunnett searches by random numbers, and for some k and degrees of freedom finds 230 in place of 3.6.)
    """
    nodes, weights = np.polynomial.legendre.leggauss(64)
    shares, weights = (nodes + 1) / 2, weights / 2
    part, deviation = stats.norm.ppf(shares)[:, None, None], np.sqrt(stats.chi2.ppf(shares, freedom) / freedom)[:, None]
    load, times = np.unique(loads, return_counts=True)
    own = np.sqrt(1 - load**2)

    def beyond(limit: float) -> float:
        high, low = ((load * part + side * limit * deviation) / own for side in (1, -1))
        return LEVEL - float(weights @ ((ndtr(high) - ndtr(low)) ** times).prod(axis=2) @ weights)

    apart = stats.t.isf((1 - LEVEL) / 2 / len(loads), freedom)  # if each were tested alone, which is no less
    return float(brentq(beyond, 0, 2 * apart))


def holm(p: Sequence[float]) -> np.ndarray:
    """p-values corrected for their number (Holm, "A simple sequentially rejective multiple test procedure", 1979).

    The i-th smallest of n is multiplied by n - i + 1, and none is below a smaller one's.

    Args:
        p: (n,); NaN is no test, and stays.
    """
    corrected = np.array(p, dtype=float)
    tested = np.flatnonzero(~np.isnan(corrected))
    order = tested[np.argsort(corrected[tested], kind="stable")]
    factors = np.arange(len(order), 0, -1)
    corrected[order] = np.minimum(1.0, np.maximum.accumulate(corrected[order] * factors))
    return corrected


def bootstrap(statistic: Callable[[np.ndarray], float], num_seeds: int) -> tuple[float, float]:
    """The percentile interval of a statistic when seeds are drawn anew, with replacement (Efron 1979).

    Too narrow for the three to five seeds of most tables: three have ten different draws.

    Args:
        statistic: of (num_seeds,) indices; NaN where these say nothing.

    Returns:
        (low, high); NaN for fewer than two seeds, or if more than MISSING of the draws say nothing.
    """
    if num_seeds < 2:
        return math.nan, math.nan
    rng = np.random.default_rng(0)
    once = functools.cache(lambda seeds: statistic(np.array(seeds)))  # few seeds have few different draws
    found = np.array([once(tuple(sorted(rng.integers(num_seeds, size=num_seeds)))) for _ in range(DRAWS)])
    if np.isnan(found).mean() > MISSING:
        return math.nan, math.nan
    low, high = np.nanquantile(found, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)


def columns(values: np.ndarray) -> list[np.ndarray]:
    """The cells of (S, R) values: one array a ratio, of the seeds that were run."""
    return [column[~np.isnan(column)] for column in values.T]


def share_saved(ours: np.ndarray, random: np.ndarray, full: np.ndarray) -> Estimate:
    """Which share of what random selection loses is not lost: (ours - random) / (full - random).

    Numerator and denominator are means over the ratios of mean paired differences; the interval bootstraps seeds.
    Undefined, all NaN, where Student's t over the seeds that have all ratios does not have full - random above zero.

    Args:
        ours, random: (S, R) metrics.
        full: (S,), of training on everything.
    """
    gained, lost = ours - random, full[:, None] - random
    of_seeds = lost.mean(axis=1)  # a seed's ratios share its training on everything: they are no cells of their own
    of_seeds = of_seeds[~np.isnan(of_seeds)]
    if not len(of_seeds) or not over_cells([of_seeds]).low > 0:
        return Estimate(math.nan)

    def share(seeds: np.ndarray) -> float:
        if any(np.isnan(values[seeds]).all(axis=0).any() for values in (gained, lost)):
            return math.nan
        return float(np.nanmean(gained[seeds], axis=0).mean() / np.nanmean(lost[seeds], axis=0).mean())

    return Estimate(share(np.arange(len(full))), *bootstrap(share, len(full)))


def images_needed(ratios: Sequence[float], values: np.ndarray, full: np.ndarray, within: float = 1.0) -> float:
    """The smallest ratio at which a metric is within so many points of training on everything.

    On the curve of its means over the seeds, made monotone (isotonic regression, a mean weighs as many as it has seeds;
    Barlow et al., "Statistical inference under order restrictions", 1972) and linear between the ratios; everything
    is its point at 1.

    Args:
        ratios: (R,) in any order.
        values: (S, R) metrics.
        full: (S,).

    Returns:
        At least the smallest ratio that was run, which says no more than "at most that"; NaN where a ratio, or
        `full`, has no seed.
    """
    everything = full[~np.isnan(full)]
    cells = sorted([*zip(ratios, columns(values)), (1.0, everything)], key=lambda pair: pair[0])
    if not all(len(cell) for _, cell in cells):
        return math.nan
    places = np.array([ratio for ratio, _ in cells])
    curve = isotonic_regression([cell.mean() for _, cell in cells], sample_weight=[len(cell) for _, cell in cells])
    enough = np.flatnonzero(curve >= everything.mean() - within)
    if not len(enough):  # where the curve is flat up to 1, below what everything has
        return 1.0
    first = enough[0]
    if first == 0:
        return float(places[0])
    rise = (everything.mean() - within - curve[first - 1]) / (curve[first] - curve[first - 1])
    return float(places[first - 1] + rise * (places[first] - places[first - 1]))
