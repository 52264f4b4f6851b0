import numpy as np
import pytest

from adapruner_det.pruning import neighbors
from adapruner_det.pruning.energy import nearest_of_class
from adapruner_det.pruning.neighbors import nearest_neighbours, nearest_of_all, unit_vectors


@pytest.fixture
def large(monkeypatch):
    """A hundred images are many, and their lists are those of faiss."""
    pytest.importorskip("faiss")
    monkeypatch.setattr(neighbors, "LARGE", 100)


def units(number, seed=0):
    """Each image has a copy that differs by a hundredth."""
    random = np.random.default_rng(seed)
    features = random.normal(size=(number // 2, 16))
    return unit_vectors(
        np.concatenate([features, features + random.normal(0, 0.01, features.shape)]).astype(np.float32)
    )


@pytest.mark.usefixtures("large")
def test_many_images_have_nearly_the_lists_of_all_with_all():
    many = units(4000)
    exact, distances = nearest_neighbours(many, 5)
    places, near = nearest_of_all(many, 5)
    assert (places[:, 0] == exact[:, 0]).all() and np.array_equal(near[:, 0], distances[:, 0])  # the copies
    assert 0.9 < (places == exact).mean() < 1
    assert (np.diff(near, axis=1) >= 0).all() and not (places == np.arange(4000)[:, None]).any()


@pytest.mark.usefixtures("large")
def test_images_whose_lists_hold_too_few_are_compared_with_all(monkeypatch):
    monkeypatch.setattr(neighbors, "_SEARCHED", 2)
    far = np.repeat(np.eye(40), 3, axis=0).astype(np.float32)
    places, distances = nearest_of_class(np.zeros(120, int), far)
    assert places.shape == (120, 32) and (distances[:, :2] == 0).all() and (distances[:, 2:] == 1).all()
    assert all(len(set(own)) == 32 and image not in own for image, own in enumerate(places.tolist()))


@pytest.mark.usefixtures("large")
@pytest.mark.parametrize("length, as_all", [(50, 0.8), (100, 1)])  # nine in ten lack neighbours, and the last; all do
def test_the_last_image_may_lack_neighbours_too(monkeypatch, length, as_all):
    monkeypatch.setattr(neighbors, "_SEARCHED", 2)
    many = units(400)
    places, distances = nearest_of_all(many, length)
    exact, near = nearest_neighbours(many, length)
    assert ((places == exact) & (distances == near)).all(axis=1).mean() >= as_all
    assert not (places == np.arange(400)[:, None]).any()


@pytest.mark.usefixtures("large")
def test_some_of_many_are_looked_for_among_others():
    many = units(1000)
    candidates, images = np.arange(0, 1000, 2), np.arange(0, 100, 4)
    exact = nearest_neighbours(many, 3, images, candidates)
    places, distances = nearest_of_all(many, 3, images, candidates)
    assert (places % 2 == 0).all() and (places != images[:, None]).all()
    assert (places[:, 0] == exact[0][:, 0]).all() and np.array_equal(distances[:, 0], exact[1][:, 0])
    assert (places == exact[0]).mean() > 0.8


def test_without_faiss_all_are_compared_with_all(monkeypatch, caplog):
    monkeypatch.setattr(neighbors, "LARGE", 100)
    monkeypatch.setattr(neighbors, "_SLOW", 200)
    monkeypatch.setattr(neighbors, "find_spec", lambda name: None)
    many = units(400)
    for found, exact in zip(nearest_of_all(many, 5), nearest_neighbours(many, 5)):
        assert np.array_equal(found, exact)
    assert "400 images of one class are compared all with all: faiss-cpu makes that fast" in caplog.text
