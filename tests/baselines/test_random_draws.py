import numpy as np
import pytest

from adapruner_det.baselines.random_draws import (
    objects_by_size,
    random,
    random_class_weighted,
    random_stratified,
    stratified_choice,
)
from adapruner_det.pruning.class_balance import class_weights, image_key, weighted_draw
from adapruner_det.pruning.matching import Labels
from adapruner_det.pruning.statistics import WHOLE_IMAGE, Statistics


def labelled(classes, images, num, boxes=None, crowds=None):
    """Statistics of `num` images with objects of up to three classes."""
    boxes = np.tile([0, 0, 9, 9], (len(classes), 1)) if boxes is None else np.array(boxes)
    labels = Labels(boxes, np.array(classes), np.array(images), crowds)
    return Statistics.of_labels(["d"] * num, [f"i{n}" for n in range(num)], labels, ["a", "b", "c"])


def some_objects(num=50):
    rng = np.random.default_rng(0)
    return labelled(rng.integers(0, 3, 2 * num), rng.integers(0, num, 2 * num), num)


def choice(strata, ratio, seed):
    return stratified_choice(np.asarray(strata), ratio, np.random.default_rng(seed))


def photographs(images=400):
    """Objects as photographs have them: frequent and rare strata, several in an image, a tenth of them empty."""
    rng = np.random.default_rng(0)
    objects = rng.poisson([0.02, 0.05, 0.1, 0.2, 0.5, 1.0], (images, 6)) * rng.integers(1, 4, (images, 1))
    objects[rng.random(images) < 0.1] = 0
    return objects


def test_random_is_uniform_and_by_the_seed():
    scores = random(some_objects(1000), 0.5, 0)
    assert scores.mean() == pytest.approx(0.5, abs=0.05) and np.array_equal(scores, random(some_objects(1000), 0.9, 0))
    assert (random(some_objects(1000), 0.5, 1) != scores).any()


def test_class_weighted_is_the_draw_of_a_pruning_run():
    statistics = some_objects()
    expected = weighted_draw([image_key("d", f"i{n}") for n in range(50)], 7, class_weights(statistics.counts, 1))
    np.testing.assert_array_equal(random_class_weighted(statistics, 0.5, 7), expected)
    assert (random_class_weighted(statistics, 0.5, 8) != expected).any()


def test_images_of_rare_classes_stay_more_often():
    statistics = labelled([0] * 180 + [1] * 20, range(200), 200)
    kept = np.array([random_class_weighted(statistics, 0.1, seed) > 0.9 for seed in range(50)])
    assert (kept.sum(axis=1) == 20).all()
    # one weighs as much as the other together, at the first draw
    assert 0.3 < kept[:, 180:].sum() / kept.sum() < 0.5


def test_objects_are_counted_by_class_and_by_coco_s_sizes():
    sizes = [(31, 32), (32, 32), (96, 95), (96, 96), (300, 200), (9, 9)]
    boxes = [[5, 5, 5 + width, 5 + height] for width, height in sizes]
    crowds = np.array([False] * 5 + [True])
    counts = objects_by_size(labelled([0, 0, 2, 2, 2, 1], [0] * 6, 2, boxes, crowds))
    assert counts[0].tolist() == [[1, 1, 0], [0, 0, 0], [0, 1, 2]] and not counts[1].any()


@pytest.mark.parametrize("ratio", (0.95, 0.5, 0.1))
@pytest.mark.parametrize("seed", range(3))
def test_strata_that_share_no_image_keep_the_ratio_to_within_one(ratio, seed):
    strata = np.repeat(np.eye(4, dtype=int), [3, 40, 57, 100], axis=0)
    strata[:3] = 0  # images without objects
    kept = choice(strata, ratio, seed)
    assert kept.sum() == round(ratio * 200)
    assert abs(kept[:3].sum() - ratio * 3) <= 1
    # the last strata take what rounding the others has left
    np.testing.assert_array_less(np.abs(kept @ strata - ratio * strata.sum(axis=0)), [1.01, 1.01, 1.01, 2.01])


@pytest.mark.parametrize("ratio", (0.8, 0.3))
def test_strata_in_the_same_images_are_much_nearer_to_the_ratio_than_by_chance(ratio):
    strata = photographs()
    quota = ratio * strata.sum(axis=0)
    drawn = [np.random.default_rng(seed).permutation(len(strata)) < round(ratio * len(strata)) for seed in range(20)]
    chosen = [choice(strata, ratio, seed) for seed in range(20)]
    off, by_chance = (np.mean([np.abs(kept @ strata - quota) for kept in some]) for some in (chosen, drawn))
    assert off < 0.6 * by_chance


def test_every_image_can_stay_and_go_one_alone_in_its_stratum_too():
    strata = np.append(photographs(100), np.zeros((100, 1), int), axis=1)
    strata[0] = [0, 0, 0, 0, 0, 0, 1]
    kept = np.mean([choice(strata, 0.3, seed) for seed in range(200)], axis=0)
    assert 0 < kept.min() and kept.max() < 1
    assert kept[0] == pytest.approx(0.3, abs=0.1)


def test_scores_of_those_that_stay_are_above_the_others_and_the_seed_decides():
    statistics = some_objects()
    scores = random_stratified(statistics, 0.7, 3)
    assert (scores >= 1).sum() == 35
    np.testing.assert_array_equal(scores, random_stratified(statistics, 0.7, 3))
    assert (random_stratified(statistics, 0.7, 4) != scores).all()


def test_pictures_of_classes_keep_the_ratio_of_each():
    classes = np.repeat([0, 1, 2], [10, 20, 30])
    pictures = labelled(classes, range(60), 60, [WHOLE_IMAGE] * 60)
    assert pictures.classes.tolist() == classes.tolist() and not some_objects().classifies
    with pytest.raises(ValueError, match="no one class"):
        _ = some_objects().classes
    kept = random_stratified(pictures, 0.5, 0) >= 1
    assert np.bincount(classes[kept]).tolist() == [5, 10, 15]
