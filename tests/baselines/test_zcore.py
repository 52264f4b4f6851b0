from types import SimpleNamespace

import numpy as np

from adapruner_det.baselines.zcore import covered, zcore


def test_coverage_and_redundancy_by_hand():
    """Points 9 and 9.5 are nearest to 10, 0.2 to 0; the one neighbour of 10 and of 0 is 1, which loses 2 and 1."""
    draws = SimpleNamespace(triangular=lambda *_: np.array([[9.0], [9.5], [0.2]]))
    assert covered(np.array([[0.0], [1], [10]]), 3, draws).tolist() == [1, -3, 2]


def test_a_copy_takes_the_loss_and_never_the_image_itself():
    """Whichever of the two at 0 is nearest to the point, the other loses 1 and it gains 1."""
    draws = SimpleNamespace(triangular=lambda *_: np.array([[0.2]]))
    for places in ([0.0, 0, 10], [10, 0.0, 0], [0.0, 10, 0]):
        found = covered(np.array(places)[:, None], 1, draws)
        assert sorted(found.round(6)) == [-1, 0, 1] and found[np.argmax(places)] == 0


def test_distances_are_city_blocks():
    """(3, 3) is nearer to the point (0, 0) than (5, 0) as the crow flies, and farther by blocks. Of neighbours too."""
    draws = SimpleNamespace(triangular=lambda *_: np.array([[0.0, 0]]))
    assert np.argmax(covered(np.array([[3.0, 3], [5, 0], [90, 90]]), 1, draws)) == 1
    assert covered(np.array([[3.0, 3], [5, 0], [0, 0]]), 1, draws).tolist() == [0, -1, 1]


def test_points_are_drawn_around_the_median():
    asked = []
    draws = SimpleNamespace(
        triangular=lambda low, mode, high, shape: asked.append((low, mode, high)) or np.zeros(shape)
    )
    covered(np.array([[0.0], [1], [11]]), 2, draws)
    assert [values.item() for values in asked[0]] == [0, 1, 11]


def test_of_many_alike_few_stay_and_what_is_alone_does():
    rng = np.random.default_rng(0)
    heap, alone = rng.normal(0, 0.01, (60, 3)), rng.uniform(-1, 1, (20, 3))
    scores = zcore(SimpleNamespace(features=np.concatenate([heap, alone])), 0.5, 0)
    assert scores[60:].mean() > scores[:60].mean() + 10


def test_features_that_say_nothing_leave_a_draw():
    scores = zcore(SimpleNamespace(features=np.ones((5, 2))), 0.5, 0)
    assert len(set(scores)) == 5
