import numpy as np
import pytest

from adapruner_det.pruning.rarest_class import rarest_class, rarity


def test_by_hand():
    # Class 0 is in four images, class 1 in two, class 2 in one, class 3 in none.
    counts = np.array([[1, 0, 0, 0], [5, 1, 0, 0], [1, 9, 3, 0], [0, 0, 0, 0], [7, 0, 0, 0]])
    assert rarest_class(counts).tolist() == [0, 1, 2, 4, 0]


def test_how_many_objects_an_image_holds_does_not_count():
    counts = np.array([[90, 1], [0, 1], [0, 1]])
    assert rarest_class(counts).tolist() == [0, 1, 1]


def test_equally_rare():
    assert rarest_class(np.array([[0, 1, 1], [1, 1, 1]])).tolist() == [1, 0]
    assert rarest_class(np.array([[1, 0], [0, 1], [1, 1]])).tolist() == [0, 1, 0]


def test_no_image_has_an_object():
    assert rarest_class(np.zeros((3, 2), int)).tolist() == [2, 2, 2]


def test_rarity_by_hand():
    # Shares of the five images: class 0 0.8, class 1 0.4, class 2 0.2, none 0.2.
    counts = np.array([[1, 0, 0, 0], [5, 1, 0, 0], [1, 9, 3, 0], [0, 0, 0, 0], [7, 0, 0, 0]])
    assert rarity(counts, 1.0) == pytest.approx([1.25, 2.5, 5, 5, 1.25])
    assert rarity(counts, 0.5)[2] == pytest.approx(5**0.5)
    assert rarity(counts, 0.0).tolist() == [1, 1, 1, 1, 1]
    assert rarity(np.zeros((3, 2), int), 1.0).tolist() == [1, 1, 1]
