import numpy as np

from adapruner_det.baselines.ccs import stratified


def test_strata_by_hand():
    """Of 12, 6 go, of them the hardest third; those left are 7 easy ones, 1 in between and 2 hard ones, for 6 places."""
    difficulty = np.array([0.0, 1.0, 0.001, 0.5, 0.002, 9.0, 0.003, 0.004, 8.0, 0.005, 0.99, 0.006])
    drawn = [set(stratified(difficulty, 6, np.random.default_rng(seed))) for seed in range(5)]
    assert all(len(one) == 6 and {1, 3, 10} <= one and not one & {5, 8} for one in drawn)
    assert len(set(map(frozenset, drawn))) > 1


def test_as_many_stay_as_asked_for_whatever_the_losses():
    for keep in range(1, 40):
        chosen = stratified(np.random.default_rng(keep).exponential(size=40), keep, np.random.default_rng(0))
        assert len(set(chosen)) == keep
