import numpy as np
import pytest

from adapruner_det.pruning.dynamic import infobatch, seta

NAN = np.nan


def test_infobatch_leaves_out_easy_images_alone_and_is_unbiased():
    """The mean over many epochs of the weighted gradients of what it sees is the sum over all images."""
    losses, gradients = np.array([0.1, 0.2, 0.3, 3.0, 2.0]), np.array([1.0, -2, 4, 8, -16])  # the mean is 1.12
    rng, sums, counts = np.random.default_rng(0), [], np.zeros(5)
    for _ in range(4000):
        images, weights = infobatch(losses, 0.5, rng)
        sums.append((weights * gradients)[images].sum())
        counts[images] += 1
    assert weights.tolist() == [2, 2, 2, 1, 1]
    assert np.mean(sums) == pytest.approx(gradients.sum(), abs=4 * np.std(sums) / len(sums) ** 0.5)
    assert (counts[3:] == 4000).all() and np.allclose(counts[:3] / 4000, 0.5, atol=0.04)


@pytest.mark.parametrize("losses, ratio", [([0.1, 0.2, 9.0], 0.0), ([NAN] * 3, 0.9), ([1.0, 1.0, 1.0], 0.9)])
def test_infobatch_sees_all_before_there_are_losses_and_at_the_end(losses, ratio):
    images, weights = infobatch(np.array(losses), ratio, np.random.default_rng(0))
    assert images.tolist() == [0, 1, 2] and weights.tolist() == [1, 1, 1]


def test_a_window_slides_over_groups_of_losses():
    """Five groups of two images each; nine tenths of five are four groups, which begin with the first, then the second."""
    losses = np.array([0.1, 0.11, 1, 1.1, 2, 2.1, 3, 3.1, 4, 4.1])[[3, 1, 4, 0, 5, 9, 2, 6, 8, 7]]
    for epoch, without in ((0, losses >= 4), (1, losses < 1), (2, losses >= 4)):
        images, weights = seta(losses, 0.0, np.random.default_rng(0), epoch)
        assert images.tolist() == np.flatnonzero(~without).tolist() and (weights == 1).all()


def test_two_groups_are_both_seen():
    losses = np.r_[np.zeros(99), 1.0]
    assert {len(seta(losses, 0.0, np.random.default_rng(0), epoch)[0]) for epoch in range(3)} == {100}


def test_without_losses_there_is_only_chance():
    drawn = [seta(np.full(10, NAN), 0.3, np.random.default_rng(seed), 0)[0] for seed in range(5)]
    assert {len(one) for one in drawn} == {7} and len({tuple(one) for one in drawn}) > 1
