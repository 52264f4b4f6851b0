import json

import numpy as np
import pytest
from scipy import sparse

from adapruner_det.pruning import Selection, selection
from adapruner_det.pruning.class_balance import class_weights, rarest_class
from adapruner_det.pruning.columns import SparseRows, packed, unpacked

TABLE = [[0, 2, 0], [0, 0, 0], [1, 0, 70000], [0, 0, 0]]


def rows_of(table):
    return SparseRows(sparse.csr_matrix(np.array(table)))


def test_sparse_rows_are_their_lists():
    rows = rows_of(TABLE)
    assert len(rows) == 4 and list(rows) == TABLE and rows == TABLE and rows[-2] == TABLE[2] and rows[1:] == TABLE[1:]
    with pytest.raises(IndexError):
        rows[4]


def test_the_rarest_class_and_its_weight_are_those_of_the_whole_table():
    counts = np.random.default_rng(0).poisson(0.4, (200, 7))
    counts[:, 3] = 0
    present = counts > 0
    images = np.where(present, present.sum(axis=0), 999)
    rarest = np.where(present.any(axis=1), images.argmin(axis=1), 7)
    assert rarest_class(counts).tolist() == rarest_class(sparse.csr_matrix(counts)).tolist() == rarest.tolist()
    shares = np.append(present.mean(axis=0), 1 - present.any(axis=1).mean())
    assert class_weights(counts, 0.5).tolist() == (shares[rarest] ** -0.5).tolist()


def test_columns_come_back_as_they_were():
    columns = {
        "kept": [True, False, True], "whole": [1, -(2**60), None], "number": [1.5, None, -2], "text": ["ü\udc80", "", "b"],
        "some": [None, "x", None], "none": [None] * 3, "mixed": [1, "a", [2]], "a/b.c": ["", "", ""],
        "counts": rows_of(TABLE[:3]),
    }  # fmt: skip
    back = unpacked(packed(columns))
    assert back == columns and list(back) == list(columns) and type(back["whole"][0]) is int
    assert type(back["kept"][0]) is bool and isinstance(back["counts"], SparseRows)


def made(number=4):
    columns = {"reason": ["random"] * number, "boxes_by_class": rows_of(TABLE[:number])}
    scores = [0.5, -1.0, None, 2.0][:number]
    return Selection(
        ["d"] * number, [f"i{i}" for i in range(number)], scores, [True, False] * (number // 2), 0.5, "m", columns
    )


def test_a_record_of_many_images_is_in_two_files_and_reads_the_same(tmp_path, monkeypatch):
    made().save(tmp_path / "one")
    monkeypatch.setattr(selection, "_MANY", 3)
    made().save(tmp_path / "two")
    one, two = Selection.load(tmp_path / "one"), Selection.load(tmp_path / "two")
    assert one == two == made() and isinstance(two.columns["boxes_by_class"], SparseRows)
    record = json.loads((tmp_path / "two/selection.json").read_text())
    assert "samples" not in record and (record["num_samples"], record["num_kept"]) == (4, 2)
    assert "boxes_by_class" in (tmp_path / "one/images.csv").read_text().splitlines()[0]
    assert (tmp_path / "two/images.csv").read_text().splitlines()[0] == "dataset,id,kept,score,reason"


def test_a_record_whose_other_file_is_not_its_own_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(selection, "_MANY", 1)
    made().save(tmp_path / "four")
    made(2).save(tmp_path / "two")
    (tmp_path / "two/selection.npz").replace(tmp_path / "four/selection.npz")
    with pytest.raises(ValueError, match="selection.npz is of another selection: it does not hold its 4 samples"):
        Selection.load(tmp_path / "four")
    with pytest.raises(ValueError, match="selection.npz, which is missing or broken"):
        Selection.load(tmp_path / "two")


def test_the_other_file_of_another_cut_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(selection, "_MANY", 1)
    made().save(tmp_path / "one")
    made().cut(0.9).save(tmp_path / "other")
    (tmp_path / "other/selection.npz").replace(tmp_path / "one/selection.npz")
    with pytest.raises(ValueError, match="selection.npz is of another selection"):
        Selection.load(tmp_path / "one")


def test_a_file_that_unpacks_to_far_too_much_is_not_unpacked(tmp_path, monkeypatch):
    monkeypatch.setattr(selection, "_MANY", 1)
    made().save(tmp_path)
    with np.load(tmp_path / "selection.npz") as arrays:
        np.savez_compressed(tmp_path / "selection.npz", **arrays, **{"99.text": np.zeros(2**21, np.uint8)})
    with pytest.raises(ValueError, match="broken .it unpacks to more than it can hold"):
        Selection.load(tmp_path)


@pytest.mark.parametrize(
    "values, columns, ends",
    [
        ([-1], [0], [1]),
        ([2**31], [0], [1]),
        ([1.0], [0], [1]),
        ([1], [0.0], [1]),
        ([1], [0], [1.0]),
        (["a"], [0], [1]),
        ([[1]], [0], [1]),
        ([1], [5], [1]),
        ([1, 1], [0, 1], [1, 3]),
        ([1, 1], [0, 1], [3, 1, 2]),
    ],
)
def test_sparse_rows_of_anything_but_counts_are_refused(values, columns, ends):
    with pytest.raises(ValueError):
        SparseRows.of_arrays(np.array(values), np.array(columns), np.array(ends), 2)
