"""Fig. 3's measures, on points whose every distance can be read off, and the road from a selection to a picture."""

import json
import math

import numpy as np
import pytest
from conftest import ROOT, load_script
from PIL import Image
from scipy.spatial.distance import cdist, pdist
from sklearn.datasets import load_digits

from adapruner_det.pruning import Selection

embedding = load_script(ROOT / "projects" / "embedding" / "embedding.py")
SQUARE = np.array([[0, 0], [0, 2], [2, 0], [2, 2]])
FEATURES = np.concatenate([SQUARE, SQUARE + [5, 0], [[1, 11], [1, 15]]])
LABELS = np.array(["a"] * 4 + ["b"] * 4 + ["c"] * 2)


def test_measures_worked_out_by_hand():
    # Nearest: a-b are 3 apart side by side, a-c from (0, 2) to (1, 11), b-c from (5, 2) to (1, 11)
    linkages = [3, math.sqrt(82), math.sqrt(97)]
    assert embedding.measure(FEATURES, LABELS) == pytest.approx({
        "dunn_index": 3 / 4,
        "centre_distance": (5 + 12 + 13) / 3,  # of (1, 1), (6, 1), (1, 13)
        "single_linkage": sum(linkages) / 3,
        "radius": (2 * math.sqrt(2) + 2) / 3,  # of the cluster, not of the points
        "max_diameter": 4,  # of c; the squares' is 2.28
    })  # fmt: skip


@pytest.mark.parametrize("offset", [0, 1e7])  # far from the origin, squares lose digits
def test_measures_are_those_of_whole_matrices(offset):
    rng = np.random.default_rng(0)
    y = rng.integers(4, size=300)
    x = rng.normal(size=(300, 5)) + rng.normal(size=(4, 5))[y] + offset
    clusters = [x[y == name] for name in range(4)]
    linkages = [cdist(a, b).min() for i, a in enumerate(clusters) for b in clusters[:i]]
    diameter = max(pdist(cluster).mean() for cluster in clusters)
    got = embedding.measure(x, y)
    assert got["max_diameter"] == pytest.approx(diameter, rel=1e-6)
    assert got["single_linkage"] == pytest.approx(np.mean(linkages), rel=1e-6)
    assert got["dunn_index"] == pytest.approx(min(linkages) / diameter, rel=1e-6)


def test_changes_are_those_of_the_kept_points_and_nothing_has_no_change():
    kept = np.ones(10, bool)
    kept[[1, 4]] = False
    got = embedding.report(FEATURES, LABELS, kept)
    assert got["kept"] == embedding.measure(FEATURES[kept], LABELS[kept])
    assert got["relative_change"]["radius"] == pytest.approx(got["kept"]["radius"] / got["full"]["radius"] - 1)
    touching = embedding.report(np.array([[0.0], [1], [1], [2]]), np.array([0, 0, 1, 1]), np.ones(4, bool))
    assert touching["full"]["dunn_index"] == 0 and touching["relative_change"]["dunn_index"] is None


@pytest.mark.parametrize(
    "features, kept, message",
    [
        (FEATURES, LABELS != "c", r"nothing is kept of the classes \['c'\]"),
        (FEATURES, np.arange(10) != 9, r"two points at least, got .*'c': 1"),
        (np.where(FEATURES == 15, np.nan, FEATURES), LABELS != "", "not finite"),
        (np.zeros((10, 2)), LABELS != "", "one point repeated"),
    ],
)
def test_what_cannot_be_measured_is_said(features, kept, message):
    with pytest.raises(ValueError, match=message):
        embedding.report(features, LABELS, kept)


def test_a_selection_of_other_samples_is_refused():
    selection = Selection(datasets=list("xxyy"), ids=list("abab"), scores=[1.0, 0.0] * 2, kept=[True, False] * 2,
                          keep_ratio=0.5, method="made up")  # fmt: skip
    assert embedding.kept_by(selection, np.array(["b", "a"]), "x").tolist() == [False, True]
    for ids, dataset, message in (("ab", None, "covers x, y"), ("ab", "z", "covers x, y"), ("abc", "x", "differ in 1")):
        with pytest.raises(ValueError, match=message):
            embedding.kept_by(selection, np.array(list(ids)), dataset)


def test_digits_are_measured_and_drawn(tmp_path, monkeypatch, capsys):
    digits = load_digits()
    ids = [f"d{i}" for i in range(600)]
    kept = [i % 4 > 0 for i in range(600)]
    np.savez(tmp_path / "digits.npz", features=digits.data[:600], labels=digits.target[:600], ids=ids[::-1])
    selection = Selection(datasets=["digits"] * 600, ids=ids, scores=[float(k) for k in kept], kept=kept,
                          keep_ratio=0.75, method="made up")  # fmt: skip
    selection.save(tmp_path / "selection")
    monkeypatch.setattr("sys.argv", ["embedding.py", "--features", str(tmp_path / "digits.npz"), "--selection",
                                     str(tmp_path / "selection"), "--output", str(tmp_path / "out"),
                                     "--max-points", "200"])  # fmt: skip
    embedding.main()
    assert "dunn_index" in capsys.readouterr().out
    result = json.loads((tmp_path / "out" / "embedding.json").read_text())
    assert result["points"] == {"full": 600, "kept": 450}
    by_id = np.array(kept[::-1])
    assert result["kept"]["radius"] == embedding.measure(digits.data[:600][by_id], digits.target[:600][by_id])["radius"]
    with Image.open(tmp_path / "out" / "embedding.png") as image:
        assert image.width > 1000
