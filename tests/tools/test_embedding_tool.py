"""The tool by its command, on scikit-learn's digits with pixels as features."""

import json

import numpy as np
import pytest
from conftest import ROOT, load_script
from PIL import Image
from sklearn.datasets import load_digits

from adapruner_det.pruning import Selection
from adapruner_det.report.embedding import measure, save_features

COUNT = 200


@pytest.fixture(scope="module")
def digits():
    features, labels = load_digits(return_X_y=True)
    ids = [f"digit_{i:04d}" for i in range(COUNT)]
    return features[:COUNT], labels[:COUNT], ids


def rows(markdown):
    return [[cell.strip() for cell in line.split("|")[1:-1]] for line in markdown.splitlines()]


def test_measures_and_picture_of_a_selection(digits, run_tool, tmp_path):
    features, labels, ids = digits
    centres = np.stack([features[labels == c].mean(axis=0) for c in range(10)])
    scores = -np.linalg.norm(features - centres[labels], axis=1)  # what lies far from its class goes
    save_features(tmp_path / "digits.npz", features, labels, ids)
    order = np.random.default_rng(0).permutation(COUNT)  # a selection need not be in the file's order
    whole = Selection(
        datasets=["digits"] * COUNT,
        ids=[ids[i] for i in order],
        scores=scores[order].tolist(),
        kept=[True] * COUNT,
        keep_ratio=1.0,
        method="made up",
    )
    whole.cut(0.7).save(tmp_path / "selection")
    out = run_tool("embedding.py", "--features", tmp_path / "digits.npz", "--selection",
                   tmp_path / "selection", "--output", tmp_path / "out", "--max-points", 100)  # fmt: skip

    result = json.loads((tmp_path / "out" / "embedding.json").read_text())
    kept = scores >= np.sort(scores)[COUNT - 140]
    expected = measure(features[kept], labels[kept])
    assert result["full"]["num_points"] == COUNT and result["kept"]["num_points"] == 140
    assert result["kept"]["dunn_index"] == pytest.approx(expected.dunn_index)
    change = result["relative_change"]
    assert change["radius"] < 0 < change["dunn_index"]
    full, own = result["full"], result["kept"]
    radius = [f"{full['radius']:.4g}", f"{own['radius']:.4g}", f"{change['radius']:+.1%}"]
    assert ["radius", *radius] in rows(out)
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["embedding.json", "embedding.png"]
    with Image.open(tmp_path / "out" / "embedding.png") as image:
        assert image.format == "PNG"


def run_here(monkeypatch, *arguments):
    """The tool within this process: starting another one takes longer than its work."""
    tool = load_script(ROOT / "tools" / "embedding.py")
    monkeypatch.setattr("sys.argv", ["embedding.py", *map(str, arguments)])
    tool.main(tool.parse_arguments())


def test_kept_from_the_file_itself(digits, monkeypatch, capsys, tmp_path):
    features, labels, ids = digits
    save_features(tmp_path / "own.npz", features, labels, ids, np.arange(COUNT) % 4 > 0)
    run_here(monkeypatch, "--features", tmp_path / "own.npz", "--output", tmp_path / "out",
             "--max-points", 60, "--pca-dims", 10)  # fmt: skip
    assert ["points", "200", "150", "-25.0%"] in rows(capsys.readouterr().out)
    assert len(list((tmp_path / "out").iterdir())) == 2


def test_without_a_word_on_what_was_kept_nothing_is_written(digits, monkeypatch, tmp_path):
    save_features(tmp_path / "bare.npz", *digits)
    with pytest.raises(SystemExit, match="does not say what was kept: name it by --selection"):
        run_here(monkeypatch, "--features", tmp_path / "bare.npz", "--output", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_numbers_that_make_no_picture_are_refused_first(monkeypatch, capsys, tmp_path):
    with pytest.raises(SystemExit):
        run_here(monkeypatch, "--features", "none.npz", "--output", tmp_path, "--max-points", 3)
    assert "3 is below 4" in capsys.readouterr().err
