import numpy as np
from made_up import statistics

from adapruner_det.baselines.adadedup import adadedup, loss_ratio


def test_ratio_of_losses_by_hand():
    losses, cluster = np.array([2.0, 4, 1, 3, 5]), np.array([0, 0, 1, 1, 2])
    assert loss_ratio(losses, cluster, np.array([True, False, True, True, False])).tolist() == [2, 1, 1]


def test_a_cluster_that_suffers_keeps_more():
    """Three clusters of 12 pairs of copies; in the first one, what goes is dearer than what stays."""
    directions = np.repeat(np.eye(3), 12, axis=0)
    near = np.random.default_rng(0).normal(0, 0.02, (36, 3))
    features = np.tile(directions + near, (2, 1)).astype(np.float32)
    seen = statistics(72, features=features, losses={"loss": np.ones(72, np.float32)})
    before = adadedup(seen, 0.6, 0) >= np.sort(adadedup(seen, 0.6, 0))[-43]
    dear = np.where((np.arange(72) % 36 < 12) & ~before, 9, 1).astype(np.float32)
    after = adadedup(statistics(72, features=features, losses={"loss": dear}), 0.6, 0)
    after = after >= np.sort(after)[-43]
    of_first = np.arange(72) % 36 < 12
    assert after.sum() == before.sum() == 43 and (after & of_first).sum() > (before & of_first).sum()
