"""A short form of tools/stress.py: kills and broken files, each with a fixed seed."""

from collections import Counter
from types import SimpleNamespace

import pytest
from conftest import ROOT, load_script


@pytest.fixture
def stress(monkeypatch):
    monkeypatch.chdir(ROOT)
    return load_script(ROOT / "tools" / "stress.py")


def test_killed_runs_end_with_the_same_selection(stress, tmp_path):
    found = stress.kills(SimpleNamespace(output=tmp_path, seed=3, times=4))
    results = Counter(what.split(": ")[1] for what in found.elements())
    assert results["same selection"] >= 2 and set(results) <= {"same selection", "not killed"}, found


def test_broken_files_are_read_or_refused_by_name(stress, tmp_path):
    found = stress.fuzz(SimpleNamespace(output=tmp_path, seed=5, minutes=0.01))
    kinds = {what.split(": ")[0] for what in found}
    assert len(kinds) == 12 and found.total() >= 1200  # a round of each
    assert {what for what in found if what.split(": ")[1] not in ("read", "refused")} == set()
