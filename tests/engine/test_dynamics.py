import numpy as np
import pytest
import torch

from adapruner_det.engine.dynamics import DynamicsRecorder, num_epochs

NAN = float("nan")


def test_each_visit_goes_to_its_epoch_and_those_beyond_the_last_are_left_out():
    recorder = DynamicsRecorder(3, epochs=2, answers=True)
    recorder.add(torch.tensor([2, 0]), torch.tensor([0.2, 0.0]), torch.tensor([True, False]))
    # over the end of the first epoch: image 2 comes for its second visit
    recorder.add(torch.tensor([1, 2]), torch.tensor([0.1, 1.2]), torch.tensor([False, False]))
    recorder.add(torch.tensor([2, 0]), torch.tensor([9.0, 1.0]), torch.tensor([True, True]))
    losses, correct, _ = recorder.dynamics()
    np.testing.assert_allclose(losses, np.array([[0.0, 0.1, 0.2], [1.0, NAN, 1.2]]), rtol=1e-6)
    np.testing.assert_array_equal(correct, [[0, 0, 1], [1, NAN, 0]])
    assert losses.dtype == correct.dtype == np.float32


def test_one_batch_may_hold_an_image_more_than_once():
    recorder = DynamicsRecorder(2, epochs=3, answers=False)
    recorder.add(torch.tensor([0, 1, 1, 0, 1]), torch.tensor([1.0, 2.0, 3.0, 4.0, 5.0]))
    np.testing.assert_array_equal(recorder.dynamics().losses, [[1, 2], [4, 3], [NAN, 5]])


def test_measurements_take_the_place_of_answers():
    recorder = DynamicsRecorder(2, epochs=1, answers=False)
    recorder.measure(np.array([0.5, 1.0]), np.array([0.3, 0.1, 0.9]))
    recorder.measure(np.array([0.0, 1.0]), np.array([0.2, 0.1, 0.8]))
    np.testing.assert_array_equal(recorder.dynamics().correct, [[0.5, 1], [0, 1]])
    np.testing.assert_allclose(recorder.dynamics().agreement, [[0.3, 0.1, 0.9], [0.2, 0.1, 0.8]])


def test_the_state_brings_everything_back_and_is_a_copy():
    def visit(recorder, loss):
        recorder.add(torch.tensor([0]), torch.tensor([loss]), torch.tensor([True]))

    first = DynamicsRecorder(1, epochs=2, answers=True)
    visit(first, 1.0)
    state = first.state_dict()
    visit(first, 2.0)
    second = DynamicsRecorder(1, epochs=2, answers=True)
    second.load_state_dict(state)
    np.testing.assert_array_equal(second.dynamics().losses, [[1], [NAN]])
    visit(second, 2.0)
    for one, other in zip(first.dynamics(), second.dynamics()):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize(
    "iterations, epochs",
    [(12, 4), (13, 4), (11, 4), (10, 3), (1, 1)],  # 3 batches of 8 are an epoch of 24 images
)
def test_an_epoch_that_lacks_less_than_a_batch_counts(iterations, epochs):
    assert num_epochs(iterations, 8, 24) == epochs
