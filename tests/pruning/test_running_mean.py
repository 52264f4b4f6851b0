import torch

from adapruner_det.pruning.running_mean import RunningMean


def test_mean_so_far_then_that_of_the_epoch_before():
    mean = RunningMean(torch.tensor([4]))
    mean.add(6.0, 2)
    assert mean.value() == 3.0
    mean.next_epoch()
    mean.add(100.0, 1)
    assert mean.value() == 3.0
    mean.next_epoch()  # one of four values: no whole epoch
    assert mean.value() == 3.0
    mean.add(10.0, 2)
    mean.next_epoch()
    assert mean.value() == 5.0


def test_groups_are_averaged_each_and_unseen_ones_are_unknown():
    mean = RunningMean(torch.tensor([2, 2, 2]))
    mean.add(torch.tensor([2.0, 9.0, 0.0]), torch.tensor([1.0, 3.0, 0.0]))
    for _ in range(2):
        found = mean.values(torch.tensor([1, 0, 1, 2]))
        assert found[:3].tolist() == [3.0, 2.0, 3.0] and bool(found[3].isnan())
        mean.next_epoch()
    mean.add(torch.tensor([0.0, 0.0, 8.0]), torch.tensor([0.0, 0.0, 2.0]))
    assert mean.values(torch.tensor([2, 0])).tolist() == [4.0, 2.0]


def test_state_goes_on_where_it_was_and_is_a_copy():
    mean, other = RunningMean(torch.tensor([2])), RunningMean(torch.tensor([2]))
    mean.add(6.0, 2)
    mean.next_epoch()
    mean.add(1.0, 1)
    state = mean.state_dict()
    mean.add(1.0, 1)
    other.load_state_dict(state)
    assert other.value() == 3.0 and other.sums.tolist() == [1.0] and other.counts.tolist() == [1]
