import numpy as np
from made_up import statistics

from adapruner_det.baselines.adapruner import OBJECTIVE, adapruner
from adapruner_det.pruning.decision import REASON_COLUMN, decide
from adapruner_det.pruning.energy import TermWeights


def test_the_mask_of_a_run_with_its_reasons_is_one_of_the_methods():
    seen, weights = statistics(20), TermWeights()
    found = adapruner(seen, 0.5, 3)
    np.testing.assert_array_equal(found.values, decide(seen, weights, 0.5, 3).logits)
    assert (found.values > 0).sum() == 10 and len(found.columns[REASON_COLUMN]) == 20
    assert found.columns["final_loss"] == seen.loss.tolist()
    assert found.facts[OBJECTIVE] == {**vars(weights), "seed": 3}
