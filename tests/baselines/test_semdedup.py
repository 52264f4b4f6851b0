import numpy as np
from made_up import statistics

from adapruner_det.baselines import semdedup as semdedup_module
from adapruner_det.baselines.semdedup import likeness, semdedup


def test_by_hand():
    """In falling distance to the centre: 60 degrees off, then two copies; the fourth is alone in its cluster."""
    features = np.float32([[1, 0], [2, 0], [0.5, 0.75**0.5], [0, 1]])
    found = likeness(features, np.array([0, 0, 0, 1]), np.array([0.9, 0.8, 0.5, 1.0]))
    np.testing.assert_allclose(found, [1, 0.5, -1, -1], atol=1e-6)


def test_large_clusters_are_looked_at_in_parts(monkeypatch):
    random = np.random.default_rng(0)
    features, cluster, similarity = random.normal(size=(50, 3)), random.integers(0, 2, 50), random.random(50)
    whole = likeness(features, cluster, similarity)
    monkeypatch.setattr(semdedup_module, "_ROWS", 7)
    np.testing.assert_allclose(likeness(features, cluster, similarity), whole, atol=1e-12)


def test_one_of_two_copies_goes_first():
    features = np.random.default_rng(0).normal(size=(40, 8)).astype(np.float32)
    features[20:25] = features[:5]
    gone = np.argsort(semdedup(statistics(40, features=features), 0.5, 0))[:5]
    assert sorted(gone % 20) == [0, 1, 2, 3, 4]
