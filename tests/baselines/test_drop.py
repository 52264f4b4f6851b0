import numpy as np
from made_up import statistics

from adapruner_det.baselines.drop import drop
from adapruner_det.pruning.statistics import Dynamics


def test_quotas_by_error_by_hand():
    """Two classes of four images, wrong in a quarter and in three quarters: of four that stay, one and three."""
    correct = np.float32([[1, 0, 1, 0, 0, 1, 0, 0], [1, 0, np.nan, 0, 1, 0, 1, 1]])
    seen = statistics(8, dynamics=Dynamics(correct, correct))
    kept = [tuple(np.sort(np.argsort(-drop(seen, 0.5, seed))[:4])) for seed in range(8)]
    assert all(sum(i % 2 for i in one) == 3 for one in kept) and len(set(kept)) > 2
