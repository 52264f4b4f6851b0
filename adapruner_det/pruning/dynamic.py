"""Which images an epoch of training leaves out, by their losses so far: in place of a list that is made once.

N images; losses (N,) of their last visits, NaN where there was none.
"""

import numpy as np

GROUPS, WINDOW = 5, 0.9  # SeTa: groups of like losses, and the share of them that an epoch sees


def infobatch(losses: np.ndarray, ratio: float, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Leaves out images with losses below the mean, each with the probability `ratio`; the others make up for them.

    Qin et al., "InfoBatch: Lossless Training Speed Up by Unbiased Dynamic Data Pruning" (2024): what stays of those below
    the mean is weighted by 1 / (1 - ratio), so that the expected gradient is that of all images.

    Returns:
        Places of the images that the epoch sees, and what the loss of each of all images is multiplied by, (N,).
    """
    mean = np.nanmean(losses) if not np.isnan(losses).all() else -np.inf
    easy = losses < mean
    gone = easy & (rng.random(len(losses)) < ratio)
    return np.flatnonzero(~gone), np.where(easy, 1 / (1 - ratio), 1.0)


def seta(losses: np.ndarray, ratio: float, rng: np.random.Generator, epoch: int) -> tuple[np.ndarray, np.ndarray]:
    """Leaves out images at random, and of the rest the hardest and easiest in turn.

    Zhou, Gao and Wang, "Scale Efficient Training for Large Datasets" (2025): the share `ratio` goes at random, the rest is
    grouped by loss with k-means, and a window slides over the groups from easy to hard, from epoch to epoch, and begins
    again. An epoch sees what is in the window. Losses are not weighted. Images without a loss yet are in every window.

    Args:
        epoch: counted from the first that has losses.

    Returns:
        As `infobatch`, all weights 1.
    """
    from sklearn.cluster import KMeans  # here: it takes a second to import

    drawn = np.sort(rng.permutation(len(losses))[: max(1, round((1 - ratio) * len(losses)))])
    known = drawn[~np.isnan(losses[drawn])]
    weights = np.ones(len(losses))
    groups = min(GROUPS, len(np.unique(losses[known])))
    if groups < 2:
        return drawn, weights
    k_means = KMeans(groups, n_init=1, random_state=0).fit(losses[known, None])
    place = np.argsort(np.argsort(k_means.cluster_centers_[:, 0]))[k_means.labels_]  # 0: the easiest
    width = round(WINDOW * groups)
    first = epoch % (groups - width + 1)
    outside = known[(place < first) | (place >= first + width)]
    return np.setdiff1d(drawn, outside), weights
