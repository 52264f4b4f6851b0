import torch

from adapruner_det.pruning.visit_means import VisitMeans


def test_means_change_by_what_each_visit_adds():
    means = VisitMeans(3)
    touched, change = means.add(torch.tensor([2, 0, 2]), torch.tensor([1.0, 2.0, 3.0]))
    assert touched.tolist() == [0, 2] and change.tolist() == [2.0, 2.0]
    touched, change = means.add(torch.tensor([2]), torch.tensor([8.0]))
    assert touched.tolist() == [2] and change.tolist() == [2.0]  # of 1, 3, 8: 4 after 2
    touched, change = means.add(torch.tensor([], dtype=torch.long), torch.tensor([]))
    assert len(touched) == len(change) == 0


def test_a_saved_state_goes_on():
    means, other = VisitMeans(2), VisitMeans(2)
    means.add(torch.tensor([1]), torch.tensor([4.0]))
    other.load_state_dict(means.state_dict())
    assert other.add(torch.tensor([1]), torch.tensor([0.0]))[1].tolist() == [-2.0]
