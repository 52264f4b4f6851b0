from types import SimpleNamespace

import numpy as np

from adapruner_det.baselines.random_class_weighted import random_class_weighted
from adapruner_det.pruning.class_balance import class_weights, image_key, weighted_draw


def evidence(objects):
    records = [{"dataset_name": "d", "image_id": f"i{n}", "annotations": []} for n in range(len(objects))]
    return SimpleNamespace(records=records, objects=lambda: np.asarray(objects), labels=np.zeros(len(objects)))


def test_it_is_the_draw_of_a_pruning_run_whatever_the_sizes():
    objects = np.random.default_rng(0).integers(0, 2, (50, 4, 3))
    of_images = evidence(objects)
    expected = weighted_draw([image_key("d", f"i{n}") for n in range(50)], 7, class_weights(objects.sum(axis=2), 1))
    np.testing.assert_array_equal(random_class_weighted(of_images, 0.5, 7), expected)
    assert (random_class_weighted(of_images, 0.5, 8) != expected).any()


def test_images_of_rare_classes_stay_more_often():
    objects = np.zeros((200, 2, 3), int)
    objects[:180, 0, 1] = objects[180:, 1, 2] = 1  # nine of one class for one of the other
    kept = np.array([random_class_weighted(evidence(objects), 0.1, seed) > 0.9 for seed in range(50)])
    assert (kept.sum(axis=1) == 20).all()
    # one weighs as much as the other together, at the first draw
    assert 0.3 < kept[:, 180:].sum() / kept.sum() < 0.5
