"""A comparison in a line a method: its difference to random selection, averaged over the ratios."""
import math
from typing import List

import numpy as np
import pandas as pd

from .comparison import FULL
from .methods import RANDOM
from .table import DECIMALS, metrics_of, paired_differences


def over_ratios(frame: pd.DataFrame) -> pd.DataFrame:
    """A row each model, budget and method compared with random selection at several ratios, as text.

    `- random` is the mean over the ratios of a ratio's mean difference, ± its standard error
    (`standard_error`), with a * where it is more than two of them away from zero.

    Args:
        frame: see `table.collect`.
    """
    rows: List[dict] = []
    for (model, budget, method), group in frame.groupby(["model", "budget", "method"], sort=False):
        ratios = list(dict.fromkeys(group["keep_ratio"]))
        if method in (FULL, RANDOM) or len(ratios) < 2:
            continue
        own = frame[frame["model"] == model]
        cells = [{"method": method, "keep_ratio": ratio, "budget": budget} for ratio in ratios]
        found = {m: [paired_differences(own, cell, m) for cell in cells] for m in metrics_of(frame)}
        if not all(len(differences) for by_ratio in found.values() for differences in by_ratio):
            continue
        shown = {f"{m} - random": _shown(by_ratio, DECIMALS[m]) for m, by_ratio in found.items()}
        pairs = sum(map(len, next(iter(found.values()))))
        named = {"model": model, "method": method, "budget": budget, "ratios": len(ratios)}
        rows.append({**named, **shown, "pairs": pairs})
    return pd.DataFrame(rows)


OVERVIEW_CAPTION = (
    "- random: the mean over the ratios of the differences to random selection; ± its standard error, each "
    "ratio's from the spread over its seeds, as if ratios were independent (a seed's selections at several "
    "ratios have images in common); * more than two standard errors from zero; pairs: of ratio and seed."
)


def standard_error(by_ratio: List[np.ndarray]) -> float:
    """Of the mean over R ratios of each one's mean: sqrt(sum_r s_r^2 / n_r) / R.

    s_r is the standard deviation over the n_r seeds of a ratio, so that what one ratio has beyond another
    does not count as noise. NaN where a ratio has a single seed.
    """
    if min(map(len, by_ratio)) < 2:
        return math.nan
    return math.sqrt(sum(values.var(ddof=1) / len(values) for values in by_ratio)) / len(by_ratio)


def _shown(by_ratio: List[np.ndarray], decimals: int) -> str:
    mean, error = float(np.mean([values.mean() for values in by_ratio])), standard_error(by_ratio)
    if math.isnan(error):
        return f"{mean:+.{decimals}f}"
    mark = " *" if abs(mean) > 2 * error else ""
    return f"{mean:+.{decimals}f} ± {error:.{decimals + 1}f}{mark}"
