"""The neighbours that faiss's lists find are those that comparing all with all finds, but for a few of the farther."""

import numpy as np
import pytest

from adapruner_det.pruning import neighbors


def test_lists_find_what_comparing_all_finds(monkeypatch):
    pytest.importorskip("faiss")
    random = np.random.default_rng(0)
    units = neighbors.unit_vectors(random.normal(size=(3000, 16)).astype(np.float32))
    units[:10] = units[10:20]  # copies
    places, distances = neighbors.nearest_neighbours(units, 8)
    monkeypatch.setattr(neighbors, "MANY", 1000)
    near, far = neighbors.nearest_neighbours(units, 8)
    assert (near != np.arange(3000)[:, None]).all() and (np.diff(far, axis=1) >= 0).all()
    assert np.mean([len(np.intersect1d(*both)) / 8 for both in zip(places, near)]) > 0.9  # of noise, which has no clusters
    np.testing.assert_array_equal(near[:10, 0], np.arange(10, 20))
    few = np.array([3, 2999])
    asked, _ = neighbors.nearest_neighbours(units, 2995, few)  # more than the lists searched hold
    assert len(np.unique(asked[0])) == 2995
