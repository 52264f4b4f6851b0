from types import SimpleNamespace

import numpy as np
import pytest

from adapruner_det.baselines.random_stratified import random_stratified, stratified_choice

RATIOS = (0.95, 0.8, 0.5, 0.3, 0.1)


def choice(strata, ratio, seed):
    return stratified_choice(np.asarray(strata), ratio, np.random.default_rng(seed))


def photographs(images=400):
    """Objects as photographs have them: frequent and rare strata, several in an image, a tenth of them empty."""
    rng = np.random.default_rng(0)
    objects = rng.poisson([0.02, 0.05, 0.1, 0.2, 0.5, 1.0], (images, 6)) * rng.integers(1, 4, (images, 1))
    objects[rng.random(images) < 0.1] = 0
    return objects


@pytest.mark.parametrize("ratio", RATIOS)
@pytest.mark.parametrize("seed", range(5))
def test_strata_that_share_no_image_keep_the_ratio_to_within_one(ratio, seed):
    sizes = [3, 40, 57, 100]
    strata = np.repeat(np.eye(4, dtype=int), sizes, axis=0)
    strata[:3] = 0  # images without objects
    kept = choice(strata, ratio, seed)
    assert kept.sum() == round(ratio * 200)
    assert abs(kept[:3].sum() - ratio * 3) <= 1
    # the last strata take what rounding the others has left
    np.testing.assert_array_less(np.abs(kept @ strata - ratio * strata.sum(axis=0)), [1.01, 1.01, 1.01, 2.01])


@pytest.mark.parametrize("ratio", RATIOS)
def test_strata_in_the_same_images_are_much_nearer_to_the_ratio_than_by_chance(ratio):
    strata = photographs()
    quota = ratio * strata.sum(axis=0)
    drawn = [np.random.default_rng(seed).permutation(len(strata)) < round(ratio * len(strata)) for seed in range(30)]
    chosen = [choice(strata, ratio, seed) for seed in range(30)]
    off, by_chance = (np.mean([np.abs(kept @ strata - quota) for kept in some]) for some in (chosen, drawn))
    assert off < 0.6 * by_chance
    empty = ~strata.any(axis=1)
    assert all(abs(kept[empty].sum() - ratio * empty.sum()) < 4 for kept in chosen)


@pytest.mark.parametrize("ratio", (0.8, 0.3))
def test_every_image_can_stay_and_go_one_alone_in_its_stratum_too(ratio):
    strata = np.append(photographs(), np.zeros((400, 1), int), axis=1)
    strata[0] = [0, 0, 0, 0, 0, 0, 1]
    kept = np.mean([choice(strata, ratio, seed) for seed in range(200)], axis=0)
    assert 0 < kept.min() and kept.max() < 1
    assert kept[0] == pytest.approx(ratio, abs=0.1)


def test_scores_of_those_that_stay_are_above_the_others_and_the_seed_decides():
    objects = photographs(60).reshape(60, 2, 3)
    evidence = SimpleNamespace(labels=np.zeros(60), objects=lambda: objects)
    scores = random_stratified(evidence, 0.7, 3)
    np.testing.assert_array_equal(scores >= 1, choice(objects.reshape(60, 6), 0.7, 3))
    np.testing.assert_array_equal(scores, random_stratified(evidence, 0.7, 3))
    assert (random_stratified(evidence, 0.7, 4) != scores).all()


def test_pictures_of_classes_keep_the_ratio_of_each():
    objects = np.eye(3, dtype=int)[np.repeat([0, 1, 2], [10, 20, 30])][:, :, None]
    evidence = SimpleNamespace(labels=np.zeros(60), objects=lambda: objects)
    kept = random_stratified(evidence, 0.5, 0) >= 1
    assert (kept @ objects[:, :, 0]).tolist() == [5, 10, 15]
