"""The parts of the search for the mask of lowest E; its end is tested with E itself."""

import numpy as np
import pytest
from test_energy import problem

from adapruner_det.pruning.annealing import _marginals, exchange, minimise, rests


def test_what_an_image_adds_to_e_is_the_difference_of_e_with_and_without_it():
    energy, kept = problem(40, 0, 0.5), np.random.default_rng(0).random(40) < 0.5
    found = _marginals(energy, kept, energy.powers() @ kept.astype(float))
    for image in range(40):
        with_it, without = kept.copy(), kept.copy()
        with_it[image], without[image] = True, False
        assert found[image] == pytest.approx(energy.value(with_it) - energy.value(without), abs=1e-9)


@pytest.mark.parametrize("share", [0.5, 0.8])
def test_exchanges_bring_a_random_mask_of_many_images_near_the_lowest_e(share):
    energy, keep = problem(2000, 0, share), round(2000 * share)
    drawn = np.isin(np.arange(2000), np.random.default_rng(0).permutation(2000)[:keep])
    lowest = energy.value(minimise(energy, keep) > 0)
    exchanged = exchange(energy, drawn)
    assert exchanged.sum() == keep
    assert energy.value(exchanged) - lowest < 0.05 * (energy.value(drawn) - lowest)


def test_a_logit_that_is_not_the_sum_of_its_reasons_is_not_at_rest():
    energy = problem(40, 0, 0.5)
    m = minimise(energy, 20)
    assert rests(energy, m)
    m[3] += 0.01
    assert not rests(energy, m)
