import numpy as np
from made_up import statistics

from adapruner_det.baselines.moderate import moderate, moderate_order


def test_on_a_line_by_hand():
    # the mean is 4, distances are 4, 3, 1, 0, 8, their median 3
    assert list(moderate_order(np.array([[0.0], [1], [3], [4], [12]]))) == [1, 0, 2, 3, 4]


def test_each_class_keeps_its_share_and_a_detector_has_one():
    seen = statistics(40)
    alone = statistics(40, labels=seen.labels._replace(boxes=np.tile([0, 0, 1, 1], (40, 1))))
    for given in (seen, alone):
        kept = np.argsort(-moderate(given, 0.5, 0))[:20]
        assert not alone.classifies or given is seen or (kept % 2).sum() == 10
    assert not seen.classifies and list(np.argsort(-moderate(seen, 0.5, 0))) != list(
        np.argsort(-moderate(alone, 0.5, 0))
    )
