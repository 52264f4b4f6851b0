from types import SimpleNamespace

import numpy as np
import pytest

from adapruner_det.baselines.cg_score import (
    cg_score,
    cg_scores,
    channel_statistics,
    complexity_gaps,
    cosines,
    relu_gram,
)


def plain_cosines(inputs):
    return cosines(inputs, np.zeros(inputs.shape[1]), np.ones(inputs.shape[1]))


def brute_force_gaps(gram, y):
    def complexity(index):
        return y[index] @ np.linalg.solve(gram[np.ix_(index, index)], y[index])

    everything = np.arange(len(y))
    return np.array([complexity(everything) - complexity(np.delete(everything, i)) for i in everything])


def two_clusters(size=20, noise=0.1):
    """Images around two orthogonal directions, the first `size` of class 0, the others of class 1."""
    rng = np.random.default_rng(0)
    means = np.repeat(np.eye(2, 6), size, axis=0)
    return means + noise * rng.standard_normal(means.shape), np.repeat([0, 1], size)


def test_gram_of_known_angles():
    """Of vectors at 0, 60, 90 and 180 degrees to the first, whatever their lengths."""
    degrees = np.radians([0, 60, 90, 180])
    inputs = np.stack([np.cos(degrees), np.sin(degrees)], axis=1) * [[1], [3], [0.2], [7]]
    gram = relu_gram(plain_cosines(inputs))
    assert gram[0] == pytest.approx([0.5, 0.5 * (2 / 3) / 2, 0, 0], abs=2e-6)
    assert gram == pytest.approx(gram.T)


def test_rounding_makes_no_angle_between_equal_inputs():
    """arccos(1 - 1e-15) is 4e-8 already."""
    assert relu_gram(np.array([[1, 1 - 1e-15], [1 - 1e-15, 1]]))[0, 1] == 0.5


def test_gram_is_the_expectation_over_random_neurons():
    """H_ij = E[x_i . x_j 1(w . x_i >= 0) 1(w . x_j >= 0)] of the definition."""
    rng = np.random.default_rng(0)
    inputs = rng.standard_normal((5, 4))
    inputs /= np.linalg.norm(inputs, axis=1, keepdims=True)
    active = (rng.standard_normal((200_000, 4)) @ inputs.T >= 0).astype(float)
    expected = (inputs @ inputs.T) * (active.T @ active) / len(active)
    assert relu_gram(plain_cosines(inputs)) == pytest.approx(expected, abs=5e-3)


def test_closed_form_is_leaving_one_out():
    rng = np.random.default_rng(1)
    gram = relu_gram(plain_cosines(rng.standard_normal((30, 5))))
    y = np.repeat([-1.0, 1.0], [17, 13])
    expected = brute_force_gaps(gram, y)
    assert complexity_gaps(gram.copy(), y, 30) == pytest.approx(expected, rel=1e-8)
    assert complexity_gaps(gram, y, 13) == pytest.approx(expected[17:], rel=1e-8)


def test_scores_are_gaps_of_one_class_against_the_others():
    """With all other images in every draw nothing is left to chance."""
    rng = np.random.default_rng(2)
    inputs, labels = rng.standard_normal((24, 5)), np.arange(24) % 2
    scores = cg_scores(inputs, labels, seed=0, draws=2)
    gram = relu_gram(plain_cosines(inputs))
    for label in range(2):
        gaps = brute_force_gaps(gram, np.where(labels == label, 1.0, -1.0))
        assert scores[labels == label] == pytest.approx(gaps[labels == label], rel=1e-6)


def test_duplicates():
    """One of two equal images adds nothing; two equal images with different labels add most."""
    inputs, labels = two_clusters()
    inputs[1] = 2.5 * inputs[0]  # as unit vectors the same
    inputs[21] = inputs[22] = inputs[5]
    scores = cg_scores(inputs, labels, seed=0)
    assert np.isfinite(scores).all()
    assert (scores[[0, 1]] < 0.01 * np.median(scores)).all()
    assert set(np.argsort(-scores)[:3]) == {5, 21, 22}


def test_all_images_the_same():
    inputs = np.full((400, 7), 0.3)
    assert np.isfinite(cg_scores(inputs, np.arange(400) % 2, seed=0)).all()


def test_large_class_is_dealt_out_to_several_matrices(monkeypatch):
    inputs, labels = two_clusters(size=25)
    sizes = []

    def record(gram, y, count):
        sizes.append((len(y), count))
        return complexity_gaps(gram, y, count)

    monkeypatch.setattr("adapruner_det.baselines.cg_score.complexity_gaps", record)
    labels[7] = 1
    scores = cg_scores(inputs, labels, seed=0, draws=1, class_images=10)
    assert sorted(sizes) == [(16, 8)] * 4 + [(18, 9)] * 2  # of 24 and 26 images
    assert np.argmax(scores) == 7 and (scores > 0).all()


def test_classes_of_one_image_and_a_single_class():
    inputs, _ = two_clusters(size=2)
    assert (cg_scores(inputs, np.arange(4), seed=0) > 0).all()
    assert (cg_scores(inputs, np.zeros(4, int), seed=0) > 0).all()


def test_channel_statistics(monkeypatch):
    images = np.random.default_rng(7).integers(0, 256, (11, 4, 5, 3), dtype=np.uint8)
    images[..., 1] = 7
    monkeypatch.setattr("adapruner_det.baselines.cg_score._IMAGES", 4)
    mean, deviation = channel_statistics(images)
    assert mean == pytest.approx(images.mean(axis=(0, 1, 2)))
    assert deviation == pytest.approx([images[..., 0].std(), 1, images[..., 2].std()])


def test_classes_are_pruned_each_by_itself():
    """However much higher the gaps of one class: a noisy class has them all above those of a tidy one."""
    rng = np.random.default_rng(9)
    labels = np.repeat([0, 1], 30)
    pictures = np.where(labels[:, None, None, None] == 0, rng.integers(0, 256, (60, 4, 4, 3)), 128)
    pictures = (pictures + rng.integers(0, 4, pictures.shape)).clip(0, 255).astype(np.uint8)
    scores = cg_score(SimpleNamespace(pixels=pictures, classes=labels), 0.5, 0)
    gaps = cg_scores(pictures.reshape(60, -1), labels, 0, *(np.tile(n, 16) for n in channel_statistics(pictures)))
    for label in (0, 1):
        mine = labels == label
        np.testing.assert_array_equal(np.argsort(scores[mine]), np.argsort(gaps[mine]))
        assert (mine & (scores > np.median(scores))).sum() == 15
    best = np.argsort(-gaps)[:30]
    assert (labels[best] == 0).sum() != 15  # what one cut through all gaps would keep
