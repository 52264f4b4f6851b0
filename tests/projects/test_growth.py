"""The growth curves of docs/performance.md are made, as small as they can be."""

from conftest import ROOT, load_script


def test_growth_of_a_selection_is_measured(clean_catalogs, monkeypatch):
    script = load_script(ROOT / "projects" / "benchmark" / "growth.py")
    monkeypatch.setattr(script, "CLASSES", 2)
    monkeypatch.setattr(script, "PICTURES", 3)
    sent = []
    script.measure(60, type("Connection", (), {"send": sent.append}))
    assert sent[0]["images"] == 60 and sent[0]["solving"] > 0 and sent[0]["MB on disk"] > 0
    assert sent[0]["MB of the page"] > 0.02 and sent[0]["MB beside it"] > 0.06


def test_growth_of_reading_is_measured(clean_catalogs, monkeypatch):
    script = load_script(ROOT / "projects" / "benchmark" / "growth.py")
    monkeypatch.setattr(script, "PICTURES", 3)
    sent = []
    script.measure_reading(60, type("Connection", (), {"send": sent.append}))
    assert sent[0]["registering and checking a COCO file"] > 0 and sent[0]["MB of the COCO file"] > 0.05
