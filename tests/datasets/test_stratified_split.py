import numpy as np
import pytest
from stratified_split import part_sizes, stratified_parts


def split(counts, shares, seed=0, sizes=None):
    counts = np.array(counts)
    sizes = np.ones(len(counts), int) if sizes is None else np.array(sizes)
    return stratified_parts(counts, sizes, shares, np.random.default_rng(seed))


@pytest.mark.parametrize(
    "total, shares, expected",
    [(10, [0.8, 0.2], [8, 2]), (7, [0.5, 0.5], [4, 3]), (10, [0.7, 0.2, 0.1], [7, 2, 1]), (1, [0.6, 0.4], [1, 0])],
)
def test_part_sizes(total, shares, expected):
    assert part_sizes(total, shares).tolist() == expected


@pytest.mark.parametrize("seed", range(5))
def test_each_class_is_divided_as_asked_for(seed):
    """20 images of one class, 10 of another, 5 of a third: 4/5 of each is a whole number."""
    counts = np.repeat(np.eye(3, dtype=int), [20, 10, 5], axis=0)
    parts = split(counts, [0.8, 0.2], seed)
    assert (parts == split(counts, [0.8, 0.2], seed)).all()
    assert (parts != split(counts, [0.8, 0.2], seed + 1)).any()
    assert [counts[parts == part].sum(axis=0).tolist() for part in (0, 1)] == [[16, 8, 4], [4, 2, 1]]


def test_images_with_several_classes_are_near_their_shares():
    rng = np.random.default_rng(0)
    counts = (rng.random((400, 6)) < [0.5, 0.3, 0.2, 0.1, 0.05, 0.02]).astype(int)
    counts[counts.sum(axis=1) == 0, 0] = 1
    parts = split(counts, [0.7, 0.3])
    assert np.bincount(parts).tolist() == [280, 120]
    expected = counts.sum(axis=0) * 0.3
    # by lot, the first class would be off by more than 4 in most cases
    assert np.abs(counts[parts == 1].sum(axis=0) - expected).max() <= 2.5


@pytest.mark.parametrize("images, expected", [(1, [1, 0]), (2, [2, 0]), (3, [2, 1]), (5, [4, 1]), (8, [6, 2])])
def test_few_images_of_a_class_are_divided_to_the_nearest(images, expected):
    """Among many of another class, so that there is room either way."""
    counts = np.repeat(np.eye(2, dtype=int), [images, 50], axis=0)
    parts = split(counts, [0.8, 0.2])
    assert np.bincount(parts[:images], minlength=2).tolist() == expected


def test_the_last_place_is_for_the_part_with_room():
    """Two classes of three images in halves: each has an odd one, and they go to different parts."""
    parts = split(np.repeat(np.eye(2, dtype=int), 3, axis=0), [0.5, 0.5])
    assert np.bincount(parts).tolist() == [3, 3]


def test_units_of_several_images_count_with_all_of_them():
    """Class 0 lies in blocks of 4, 2 and 2 images: its halves are the first, and the other two together."""
    counts = [[2, 0], [4, 0], [2, 0], [0, 4], [0, 4]]
    parts = split(counts, [0.5, 0.5], sizes=[2, 4, 2, 4, 4])
    assert parts[0] == parts[2] != parts[1] and parts[3] != parts[4]
