"""The selections of the default do not change by accident: they are frozen in `tests/golden`, with how they were made."""

from pathlib import Path

import numpy as np
import pytest

from adapruner_det.pruning.decision import decide
from adapruner_det.pruning.energy import TermWeights
from adapruner_det.pruning.statistics import Statistics

FROZEN = sorted(path.parent for path in (Path(__file__).parents[1] / "golden").glob("*/logits.npz"))


@pytest.mark.parametrize("folder", FROZEN, ids=lambda folder: folder.name)
def test_the_default_selects_what_it_did(folder):
    statistics = Statistics.load(folder)
    frozen = np.load(folder / "logits.npz")
    for ratio, logits in zip(frozen["ratios"], frozen["logits"], strict=True):
        found = decide(statistics, TermWeights(), float(ratio), seed=0).logits
        assert ((found > 0) == (logits > 0)).all(), ratio
        assert np.abs(found - logits).max() < 1e-6, ratio


def test_all_six_runs_are_frozen():
    assert [folder.name for folder in FROZEN] == [f"{name}_{s}" for name in ("bccd", "demo", "neu_det") for s in (0, 1)]
