import json
import math

import numpy as np
import pytest
from scipy.spatial.distance import cdist, pdist
from sklearn.metrics import pairwise_distances_chunked

from adapruner_det.pruning import Selection
from adapruner_det.report import embedding
from adapruner_det.report.embedding import FeatureTable, compare, kept_by, load_features, measure, report, save_features

# Two squares and a pair on a line; every distance can be read off
SQUARE = np.array([[0, 0], [0, 2], [2, 0], [2, 2]])
FEATURES = np.concatenate([SQUARE, SQUARE + [5, 0], [[1, 11], [1, 15]]])
LABELS = np.array(["a"] * 4 + ["b"] * 4 + ["c"] * 2)


def make_selection(ids, kept, datasets=None):
    return Selection(
        datasets=datasets or ["train"] * len(ids),
        ids=list(ids),
        scores=[float(k) for k in kept],
        kept=list(kept),
        keep_ratio=0.5,
        method="made up",
    )


def test_measures_worked_out_by_hand():
    got = measure(FEATURES, LABELS)
    square = (4 * 2 + 2 * 2 * math.sqrt(2)) / 6  # mean over its four sides and two diagonals
    # Nearest: a-b are 3 apart side by side, a-c from (0, 2) to (1, 11), b-c from (5, 2) to (1, 11)
    linkages = [3, math.sqrt(82), math.sqrt(97)]
    # Centroids: (1, 1), (6, 1), (1, 13)
    centres = [5, 12, 13]
    assert got.num_points == 10 and got.classes == ["a", "b", "c"]
    assert got.max_diameter == pytest.approx(4)  # of c; the squares' is 2.28
    assert square < 4
    assert got.dunn_index == pytest.approx(3 / 4)
    assert got.single_linkage == pytest.approx(sum(linkages) / 3)
    assert got.centre_distance == pytest.approx(sum(centres) / 3)
    assert got.radius == pytest.approx((2 * math.sqrt(2) + 2) / 3)  # of the cluster, not of the points


def test_diameter_is_the_mean_over_pairs_of_different_points():
    got = measure(FEATURES[:8], LABELS[:8])
    assert got.max_diameter == pytest.approx((8 + 4 * math.sqrt(2)) / 6)
    assert got.dunn_index == pytest.approx(3 / got.max_diameter)


def brute_force(x, y):
    clusters = [x[y == name] for name in np.unique(y)]
    pairs = [(a, b) for i, a in enumerate(clusters) for b in clusters[:i]]
    linkages = [cdist(a, b).min() for a, b in pairs]
    diameters = [pdist(c).mean() for c in clusters]
    return {
        "dunn_index": min(linkages) / max(diameters),
        "centre_distance": np.mean([np.linalg.norm(a.mean(0) - b.mean(0)) for a, b in pairs]),
        "single_linkage": np.mean(linkages),
        "radius": np.mean([cdist(c, c.mean(0)[None]).mean() for c in clusters]),
        "max_diameter": max(diameters),
    }


@pytest.mark.parametrize("offset", [0, 1e7])  # far from the origin, squares lose digits
def test_in_chunks_it_is_what_whole_matrices_give(monkeypatch, offset):
    monkeypatch.setattr(embedding, "WORKING_MEMORY", 0.01)
    chunks = []

    def counted(*args, **kwargs):
        for chunk in pairwise_distances_chunked(*args, **kwargs):
            chunks.append(len(chunk))
            yield chunk

    monkeypatch.setattr(embedding, "pairwise_distances_chunked", counted)
    rng = np.random.default_rng(0)
    y = rng.integers(4, size=900)
    x = rng.normal(size=(900, 5)) + rng.normal(size=(4, 5))[y] + offset
    got = measure(x, y)
    assert sum(chunks) == 900 and len(chunks) > 100  # 0.01 MiB hold few rows of 225
    for name, value in brute_force(x, y).items():
        assert getattr(got, name) == pytest.approx(value, rel=1e-6), name


def test_clusters_that_nearly_touch_are_measured_to_the_last_digit():
    x = np.array([[1000.0, 0], [1000, 1], [1000, 1 + 1e-9], [1000, 3]])
    assert measure(x, [0, 0, 1, 1]).single_linkage == pytest.approx(1e-9, rel=1e-5)


def test_half_precision_features_are_computed_on_in_double():
    x = np.array([[300.0], [301], [-300], [-301]], np.float16)  # 600 squared overflows float16
    assert measure(x, [0, 0, 1, 1]).single_linkage == pytest.approx(600)


@pytest.mark.parametrize(
    "features, labels, message",
    [
        (FEATURES, ["a"] * 10, r"two classes at least, got \['a'\]"),
        (FEATURES, [0] * 5 + [1] * 4 + [7], r"1 classes have one point.*\[7\]"),
        (np.where(FEATURES == 15, np.nan, FEATURES), LABELS, r"1 points .* not finite, rows \[9\]"),
        (np.where(FEATURES == 15, np.inf, FEATURES), LABELS, "not finite"),
        (FEATURES, LABELS[:9], r"\(10, 2\) and \(9,\)"),
        (FEATURES[:, 0], LABELS, "needs features"),
        (np.full((4, 2), 0.1), [0, 0, 1, 1], "one point repeated"),
    ],
)
def test_what_cannot_be_measured_is_said(features, labels, message):
    with pytest.raises(ValueError, match=message):
        measure(features, labels)


def test_changes_are_relative_to_the_full_set():
    full = measure(FEATURES, LABELS)
    twice = compare(full, measure(2 * FEATURES, LABELS))
    assert twice.pop("dunn_index") == pytest.approx(0)  # a ratio of lengths
    assert twice == pytest.approx(dict.fromkeys(twice, 1.0)) and len(twice) == 4


def test_no_relative_change_of_nothing():
    touching = np.array([[0.0], [1], [1], [2]])
    got = report(FeatureTable(touching, np.array([0, 0, 1, 1]), np.array(list("wxyz"))), [True] * 4)
    assert got["full"]["dunn_index"] == 0
    assert got["relative_change"]["dunn_index"] is None
    assert got["relative_change"]["radius"] == 0
    json.dumps(got, allow_nan=False)


def test_report_measures_the_kept_points_alone():
    table = FeatureTable(FEATURES, LABELS, np.arange(10).astype(str))
    kept = np.ones(10, bool)
    kept[[1, 4]] = False
    got = report(table, kept)
    assert got["full"]["num_points"] == 10 and got["kept"]["num_points"] == 8
    assert got["full"]["single_linkage"] == measure(FEATURES, LABELS).single_linkage
    assert got["kept"]["single_linkage"] == measure(FEATURES[kept], LABELS[kept]).single_linkage
    with pytest.raises(ValueError, match="the kept set cannot be measured: 1 classes have one point"):
        report(table, np.arange(10) != 9)


def test_a_class_that_went_as_a_whole_is_no_change_of_means():
    with pytest.raises(ValueError, match=r"not in both.*\['c'\]"):
        report(FeatureTable(FEATURES, LABELS, np.arange(10).astype(str)), LABELS != "c")


@pytest.mark.parametrize("kept", [None, LABELS != "a"])
def test_features_come_back_from_their_file(tmp_path, kept):
    path = tmp_path / "new" / "train.features"  # keeps its name: no .npz is added
    save_features(path, FEATURES, LABELS, range(10), kept)
    assert [p.name for p in path.parent.iterdir()] == ["train.features"]
    got = load_features(path)
    np.testing.assert_array_equal(got.features, FEATURES)
    assert got.labels.tolist() == LABELS.tolist() and got.ids.tolist() == [str(i) for i in range(10)]
    assert (got.kept is None) if kept is None else (got.kept.tolist() == kept.tolist())


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"ids": ["1"] * 10}, r"more than once: \['1'\]"),
        ({"labels": LABELS[:9]}, "one label, id and kept flag a row"),
        ({"labels": [["a"]] * 10}, "one label, id and kept flag a row"),
        ({"labels": [1, None] * 5}, "mixture"),
        ({"features": FEATURES.astype(str)}, "rows? of numbers"),
        ({"features": FEATURES[0]}, r"\(2,\)"),
        ({"kept": [3, 4, 5]}, "looks like indices"),
    ],
)
def test_features_that_do_not_fit_leave_the_old_file_alone(tmp_path, changes, message):
    path = tmp_path / "f.npz"
    save_features(path, FEATURES, LABELS, range(10))
    before = path.read_bytes()
    with pytest.raises(ValueError, match=message):
        save_features(path, **{"features": FEATURES, "labels": LABELS, "ids": range(10), **changes})
    assert path.read_bytes() == before and len(list(tmp_path.iterdir())) == 1


def test_other_files_are_refused_by_name(tmp_path):
    def refused(message):
        with pytest.raises(ValueError, match=message) as caught:
            load_features(tmp_path / "f.npz")
        assert str(tmp_path / "f.npz") in str(caught.value)

    np.savez(tmp_path / "f.npz", features=FEATURES, y=LABELS)
    refused("no labels, ids, only features, y")
    np.savez(tmp_path / "f.npz", features=FEATURES, labels=LABELS, ids=np.arange(9))
    refused("'ids': 9")
    np.savez(tmp_path / "f.npz", features=FEATURES, labels=LABELS, ids=np.arange(10), kept=[5, 6])
    refused("looks like indices")
    (tmp_path / "f.npz").write_text("features")
    refused("no .npz file")
    (tmp_path / "f.npz").write_bytes(b"PK\x03\x04")
    refused("no .npz file")
    with open(tmp_path / "f.npz", "wb") as file:
        np.save(file, FEATURES)  # a single array
    refused("no .npz file")
    with pytest.raises(FileNotFoundError):
        load_features(tmp_path / "none.npz")


def test_kept_goes_by_id_and_not_by_place():
    selection = make_selection("abcd", [True, False, False, True])
    assert kept_by(selection, np.array(list("dcba"))).tolist() == [True, False, False, True]
    assert kept_by(selection, np.array(list("bdac"))).tolist() == [False, True, True, False]


def test_kept_of_the_data_set_named():
    selection = make_selection("abab", [True, False, False, True], ["x", "x", "y", "y"])
    assert kept_by(selection, "ab", "x").tolist() == [True, False]
    assert kept_by(selection, "ab", "y").tolist() == [False, True]
    with pytest.raises(ValueError, match="covers x, y: name"):
        kept_by(selection, "ab")
    with pytest.raises(ValueError, match="covers x, y, not z"):
        kept_by(selection, "ab", "z")


@pytest.mark.parametrize("ids, message", [("abcz", r"1 ids .*\['z'\].* 1 .*\['d'\]"), ("abc", r"\['d'\]")])
def test_a_selection_of_other_samples_is_refused(ids, message):
    with pytest.raises(ValueError, match=message):
        kept_by(make_selection("abcd", [True] * 4), list(ids))
