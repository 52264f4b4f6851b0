from itertools import combinations

import numpy as np
import pytest

from adapruner_det.baselines import dataset_pruning_solver as solver
from adapruner_det.baselines.dataset_pruning_solver import (
    Influences,
    Removal,
    largest_removable,
    smallest_sum,
)


def uneven_vectors(seed, count, size):
    """Vectors of very different lengths, as influences are."""
    rng = np.random.default_rng(seed)
    return rng.normal(size=(count, size)) * np.exp(rng.normal(size=(count, 1)))


def removed(removal):
    return removal.order[: removal.size]


def length_of_sum(vectors, index):
    return np.linalg.norm(vectors[list(index)].sum(axis=0))


def lengths_of_all_sums(vectors):
    """(2^N, N) bool sets and (2^N,) the norms of their sums."""
    sets = (np.arange(2 ** len(vectors))[:, None] >> np.arange(len(vectors))) & 1
    return sets.astype(bool), np.linalg.norm(sets @ vectors, axis=1)


@pytest.mark.parametrize("seed", range(4))
def test_hardly_any_of_all_sets_of_the_same_size_has_a_shorter_sum(seed):
    vectors = uneven_vectors(seed, 12, 3)
    found = smallest_sum(Influences.of_vectors(vectors), 5, seed=0)
    sums = [length_of_sum(vectors, subset) for subset in combinations(range(12), 5)]
    assert np.mean(np.array(sums) < found.norm - 1e-9) < 0.04


def test_the_best_swap_is_made():
    # Beside image 0, image 3 leaves a sum of length 0.4, image 1 one of 0.2.
    vectors = np.array([[1, 0], [-1.2, 0], [0, 1.3], [-1.01, 0.4]])
    removal = Removal(Influences.of_vectors(vectors), seed=0)
    removal.order = np.array([0, 2, 1, 3])
    removal.shrink(2)
    removal.improve()
    assert removal.order.tolist() == [0, 1, 2, 3]


def test_growing_takes_the_image_that_leaves_the_shortest_sum():
    vectors = uneven_vectors(3, 40, 4)
    removal = Removal(Influences.of_vectors(vectors), seed=0)
    norms = removal.grow(40)
    total = np.zeros(4)
    for step, image in enumerate(removal.order):
        left = removal.order[step:]
        sums = np.linalg.norm(total + vectors[left], axis=1)
        assert left[np.argmin(sums)] == image
        total += vectors[image]
        assert norms[step] == pytest.approx(np.linalg.norm(total))


def test_pools_smaller_than_the_data_cost_little(monkeypatch):
    vectors = uneven_vectors(0, 400, 30)
    exact = Removal(Influences.of_vectors(vectors), seed=0)
    exact.grow(150)
    monkeypatch.setattr(solver, "POOL", 64)
    monkeypatch.setattr(solver, "STEPS", 16)
    pooled = Removal(Influences.of_vectors(vectors), seed=0)
    pooled.grow(150)
    assert pooled.norm < 1.1 * exact.norm
    before = pooled.norm
    pooled.improve()
    assert pooled.norm < 0.7 * before
    assert pooled.norm == pytest.approx(length_of_sum(vectors, removed(pooled)))
    assert sorted(pooled.order) == list(range(400))


def test_factors_stand_for_their_outer_products():
    rng = np.random.default_rng(0)
    left, right = rng.normal(size=(50, 4)), rng.normal(size=(50, 3))
    dense = Influences.of_vectors(np.einsum("np,nc->npc", left, right).reshape(50, 12))
    factors = Influences(left, right)
    np.testing.assert_allclose(factors.squared_norms(), dense.squared_norms())
    np.testing.assert_allclose(factors.sum(np.arange(9)).ravel(), dense.sum(np.arange(9)).ravel())
    np.testing.assert_array_equal(smallest_sum(factors, 20, 0).order, smallest_sum(dense, 20, 0).order)


def test_as_many_as_the_bound_allows():
    # Same direction: three of 0.1 stay within 0.35; those of 10 are at right angles and never do.
    vectors = np.zeros((8, 5))
    vectors[:4, 0] = 0.1
    vectors[4:, 1:] = 10 * np.eye(4)
    found = largest_removable(Influences.of_vectors(vectors), 0.35)
    assert found.size == 3 and set(removed(found)) < set(range(4))


def test_no_image_and_all_but_one():
    influences = Influences.of_vectors(uneven_vectors(0, 20, 3))
    assert largest_removable(influences, 0).size == 0
    assert largest_removable(influences, np.inf).size == 19


def test_sets_within_the_bound_are_nearly_as_large_as_any():
    missing = []
    for seed in range(10):
        vectors = uneven_vectors(seed, 10, 3)
        found = largest_removable(Influences.of_vectors(vectors), 1.0)
        assert found.norm <= 1 and found.norm == pytest.approx(length_of_sum(vectors, removed(found)))
        sets, lengths = lengths_of_all_sums(vectors)
        sizes = sets.sum(axis=1)
        missing.append(sizes[(lengths <= 1) & (sizes < 10)].max() - found.size)
    assert np.mean(np.array(missing) == 0) >= 0.5 and np.mean(missing) < 1.5
