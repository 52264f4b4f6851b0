from types import SimpleNamespace

import numpy as np
import pytest

from adapruner_det.baselines.near_duplicates import near_duplicates, removal_distances
from adapruner_det.pruning import neighbors


def at_angles(degrees):
    radians = np.radians(degrees)
    return np.stack([np.cos(radians), np.sin(radians)], axis=1)


def one_minus_cosine(degrees):
    return 1 - np.cos(np.radians(degrees))


def without_the_last(scores):
    """Which of the last two stays is the seed's choice: both get the distance between them."""
    last_two = np.sort(scores)[-2:]
    assert last_two[1] == 2
    return np.where(scores == 2, last_two[0], scores)


def written_out(features):
    """The definition, word by word, in float64, for features without ties."""
    units = features.astype(np.float64) / np.linalg.norm(features.astype(np.float64), axis=1, keepdims=True)
    distances = 1 - units @ units.T
    np.fill_diagonal(distances, np.inf)
    scores, left = np.full(len(features), 2.0), list(range(len(features)))
    while len(left) > 1:
        among = distances[np.ix_(left, left)]
        pair = np.unravel_index(among.argmin(), among.shape)
        goes = left[min(pair, key=lambda i: np.sort(among[i])[1])]
        scores[goes] = among.min()
        left.remove(goes)
    return scores


def test_on_a_circle_by_hand():
    # 0 and 4 are closest, and 4 goes: 10 from the next, where 0 is 14. Of 0 and 14 goes 14 (26 against 40),
    # of 0 and 40 goes 40 (60 against 100).
    scores = removal_distances(at_angles([0, 4, 14, 40, 100]), 0)
    np.testing.assert_allclose(without_the_last(scores), one_minus_cosine([100, 4, 14, 40, 100]), rtol=1e-5)


@pytest.mark.parametrize("neighbours", [2, 5, 32, 500])
@pytest.mark.parametrize("spread", ["uniform", "clustered"])
def test_as_written_out_however_short_the_lists(neighbours, spread):
    rng = np.random.default_rng(0)
    features = rng.normal(size=(90, 6)).astype(np.float32)
    if spread == "clustered":
        features = np.repeat(features[:5], 18, axis=0) + 0.05 * rng.normal(size=(90, 6)).astype(np.float32)
    # Number 0 is left to the end: where lists have room to spare, it must not be taken for what fills them.
    features = features[np.argsort(-written_out(features))]
    scores = removal_distances(features, 0, neighbours)
    np.testing.assert_allclose(without_the_last(scores), without_the_last(written_out(features)), atol=1e-6)


@pytest.mark.parametrize("copies", [2, 3, 40])
def test_all_copies_but_one_go_first(copies):
    rng = np.random.default_rng(2)
    distinct = rng.normal(size=(30, 8))
    features = np.concatenate([distinct, np.repeat(distinct[:3], copies - 1, axis=0)])
    shuffled = rng.permutation(len(features))
    picture = np.concatenate([np.arange(30), np.repeat(np.arange(3), copies - 1)])[shuffled]
    given = SimpleNamespace(features=features[shuffled])
    scores = near_duplicates(given, 0.5, 0)
    gone = scores == 0
    assert np.bincount(picture[gone]).tolist() == [copies - 1] * 3
    assert sorted(picture[~gone]) == list(range(30))
    assert scores[~gone].min() > 1e-3


def test_of_many_images_the_copies_go_first_too(monkeypatch):
    pytest.importorskip("faiss")
    rng = np.random.default_rng(3)
    distinct = rng.normal(size=(1000, 16)).astype(np.float32)
    features = np.concatenate([distinct, distinct[:300], distinct[:100] + 0.001])
    exact = removal_distances(features, 0)
    monkeypatch.setattr(neighbors, "LARGE", 100)
    scores = removal_distances(features, 0)
    assert ((scores == 0) == (exact == 0)).all() and (scores == 0).sum() == 300
    order, wanted = np.argsort(scores, kind="stable"), np.argsort(exact, kind="stable")
    assert set(order[:400]) == set(wanted[:400]) and len(set(order[:700]) & set(wanted[:700])) > 650


def test_which_copy_stays_is_the_seeds_choice():
    features = np.ones((20, 3))
    stays = [int(removal_distances(features, seed).argmax()) for seed in (0, 0, 1, 2, 3)]
    assert stays[0] == stays[1]
    assert len(set(stays)) > 2


def test_zero_vectors_are_copies_of_each_other_and_like_nothing_else():
    features = np.array([[0, 0], [1, 0], [0, 0], [1, 0.1], [0, 0]])
    scores = removal_distances(features, 0)
    assert (scores[[0, 2, 4]] == 0).sum() == 2
    assert scores[[1, 3]].min() == pytest.approx(1 - 1 / np.sqrt(1.01))
    assert sorted(scores)[3:] == pytest.approx([1, 2])


def test_one_image_and_two():
    assert removal_distances(np.ones((1, 4)), 0).tolist() == [2]
    assert sorted(removal_distances(np.array([[1, 0], [-1, 0]]), 0)) == [2, 2]
