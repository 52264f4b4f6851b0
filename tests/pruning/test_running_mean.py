import math

from adapruner_det.pruning.running_mean import RunningMean


def test_mean_so_far_then_that_of_the_epoch_before():
    mean = RunningMean(4)
    assert math.isnan(mean.value())
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
    mean.next_epoch()  # nothing was seen
    assert mean.value() == 5.0


def test_state_goes_on_where_it_was():
    mean, other = RunningMean(2), RunningMean(2)
    mean.add(6.0, 2)
    mean.next_epoch()
    mean.add(1.0, 1)
    other.load_state_dict(mean.state_dict())
    assert (other.value(), other.sum, other.count) == (3.0, 1.0, 1)
