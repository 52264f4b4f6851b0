import json

import numpy as np
import pandas as pd
import pytest

from adapruner_det.pruning import Selection
from adapruner_det.pruning.names import from_cell
from adapruner_det.pruning.selection import quotas, ratio_label


def make(**changes):
    values = dict(
        datasets=["a", "a", "a", "b", "b"],
        ids=["1", "2", "3", "1", "x"],
        scores=[0.5, -1.0, 0.25, None, -0.125],
        kept=[True, False, True, True, False],
        keep_ratio=0.5,
        method="adapruner",
        columns={"boxes": [3, 1, 2, 0, 4]},
        provenance={"seed": 1},
    )
    return Selection(**{**values, **changes})


def of_scores(scores, ids=None, **columns):
    num = len(scores)
    ids = list(map(str, range(num))) if ids is None else ids
    return make(datasets=["a"] * num, ids=ids, scores=scores, kept=[True] * num, columns=columns)


def test_save_and_load_give_the_same_selection_and_a_record_in_plain_words(tmp_path):
    make().save(tmp_path)
    assert Selection.load(tmp_path) == make()
    record = json.loads((tmp_path / "selection.json").read_text())
    assert record["keep_ratio"] == 0.5 and record["reached_ratio"] == 0.5
    assert (record["num_samples"], record["num_kept"]) == (5, 3)


def test_table_opens_as_csv_with_one_row_a_sample_lowest_score_first(tmp_path):
    make().save(tmp_path)
    table = pd.read_csv(tmp_path / "images.csv", dtype={"id": str})
    assert table["id"].tolist()[:2] == ["2", "x"]
    assert table["kept"].tolist()[:2] == [0, 0] and set(table["boxes"]) == {0, 1, 2, 3, 4}


def test_ids_are_told_apart_by_data_set():
    assert make().kept_ids("a") == {"1", "3"} and make().kept_ids("b") == {"1"}
    assert make().known_ids("b") == {"1", "x"} and make().dataset_names() == ["a", "b"]
    assert make().column_of("b", "boxes") == {"1": 0, "x": 4}


@pytest.mark.parametrize("ratio, kept", [(0.01, {"1"}), (0.25, {"1"}), (0.5, {"1", "3"}), (1.0, {"1", "2", "3"})])
def test_cut_keeps_the_highest_scores_and_leaves_the_rest_alone(ratio, kept):
    cut = make().cut(ratio)
    assert cut.kept_ids("a") == kept and "1" in cut.kept_ids("b") and cut.keep_ratio == ratio
    left_out = make(kept=[True, False, True, False, False])
    assert "1" not in left_out.cut(ratio).kept_ids("b")


def test_ties_are_not_decided_by_position():
    ids = [str(i) for i in range(20)]
    tied, backwards = of_scores([0.0] * 20, ids), of_scores([0.0] * 20, ids[::-1])
    assert tied.cut(0.5).kept_ids("a") == backwards.cut(0.5).kept_ids("a") != set(ids[:10])


def test_a_balanced_cut_holds_every_class_to_the_ratio():
    whole = of_scores([float(i) for i in range(10)], animal=["cat"] * 6 + ["dog"] * 4)  # every dog above every cat
    assert whole.cut(0.5).kept_ids("a") == set("56789")
    assert whole.cut(0.5, "animal").kept_ids("a") == set("34589")
    with pytest.raises(ValueError, match=r"2 groups \(cat, dog\) cannot each keep a sample when 1 of 10"):
        whole.cut(0.1, "animal")


@pytest.mark.parametrize(
    "sizes, total, expected",
    [
        ([10, 10], 15, [8, 7]),  # equal fractions: the first
        ([10, 20, 30], 48, [8, 16, 24]),
        ([3, 3, 4], 7, [2, 2, 3]),  # shares 2.1, 2.1, 2.8
        ([5, 0, 5], 6, [3, 0, 3]),
        ([1, 1, 1, 7], 5, [1, 1, 1, 2]),  # shares of a half are raised to one
        ([1, 100], 80, [1, 79]),
        ([1, 1, 1], 3, [1, 1, 1]),
        ([10**9, 10**9], 2 * 10**9 - 1, [10**9, 10**9 - 1]),
    ],
)
def test_quotas_by_largest_remainder(sizes, total, expected):
    assert quotas(sizes, total) == expected


def test_quotas_of_many_random_groups_keep_their_promises():
    random = np.random.default_rng(0)
    for _ in range(100):
        sizes = random.integers(0, 30, 20)
        total = sizes.sum() * 7 // 10
        given = np.array(quotas(sizes, total))
        assert given.sum() == total and (given <= sizes).all() and (given >= np.minimum(sizes, 1)).all()
        large = sizes * total >= sizes.sum()
        assert (given[large] - sizes[large] * total / sizes.sum()).max() < 1  # nobody gains a whole place


@pytest.mark.parametrize(
    "changes, message",
    [
        (dict(ids=["1", "1", "3", "1", "x"]), "more than once.*'a', '1'"),
        (dict(scores=[1.0]), "one value a sample"),
        (dict(scores=[0.5, float("nan"), 0.25, None, 0.0]), r"\['2'\] are not numbers"),
    ],
)
def test_selections_that_make_no_sense_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        make(**changes)


def test_missing_and_broken_records_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="selection.json is missing"):
        Selection.load(tmp_path)
    for text, message in (('{"format": 1}', "selection.json is not a selection"), ('{"format": 99}', "format is 99")):
        (tmp_path / "selection.json").write_text(text)
        with pytest.raises(ValueError, match=message):
            Selection.load(tmp_path)


@pytest.mark.parametrize(
    "field, row, value, message",
    [
        ("method", None, "../../up", "method '../../up' cannot be part of a file name: .*no slash"),
        ("method", None, 7, "method is 7, not text"),
        ("keep_ratio", None, "0.5", "keep_ratio is '0.5', not a number"),
        ("keep_ratio", None, 2.0, "keep_ratio is 2.0, no share"),
        ("provenance", None, [], r"provenance is \[\], not an object"),
        ("provenance", None, {"sources": {"a": {"format": "voc", "dirname": 3}}}, "sources, a 3 is no text"),
        ("provenance", None, {"class_names": ["cat\ndog"]}, "class_names 'cat.ndog' holds a line break"),
        ("provenance", None, {"reasons": {"random": 1}}, "reasons has no with_reason"),
        ("provenance", None, {"seconds": float("inf")}, "not JSON compliant"),
        ("dataset", 2, "/tmp/x", "data set '/tmp/x' cannot be part of a file name"),
        ("dataset", 2, "..", "data set '..' cannot be part"),
        ("dataset", 2, None, r"samples: dataset, row 3 \('3'\) is None, not text"),
        ("id", 1, 7, r"samples: id, row 2 \(7\) is 7, not text"),
        ("id", 1, "a\nb", r"row 2 .* 'a.nb' holds a line break"),
        ("id", 1, "\x1b[31m", r"row 2 .* '.x1b.31m' holds a line break or a control character"),
        ("kept", 1, "yes", r"samples: kept, row 2 \('2'\) is 'yes', not true or false"),
        ("kept", 1, 1, "kept, row 2 .* is 1, not true or false"),
        ("score", 0, "high", r"samples: score, row 1 \('1'\) is 'high', not a number"),
        ("score", 0, float("inf"), "score, row 1 .* is inf, not a number"),
        ("score", slice(None), [None] * 5, "no image has a score"),
        ("boxes", 4, "four", r"samples: boxes, row 5 \('x'\) is 'four', not a number"),
        ("counts", 1, [1], r"counts, row 2 .* is \[1\], not a list of 2 whole numbers"),
        ("counts", 1, [1, 10**30], "counts, row 2 .* at most 2147483647"),
        ("score", 1, 10**400, "score, row 2 .*not a number"),
        ("counts", 1, [1, -2], r"counts, row 2 .* not a list of 2 whole numbers of at least 0"),
    ],
)
def test_edited_records_are_refused_by_field_and_row(tmp_path, field, row, value, message):
    make(columns={"boxes": [3, 1, 2, 0, 4], "counts": [[1, 2]] * 5}).save(tmp_path)
    record = json.loads((tmp_path / "selection.json").read_text())
    if row is None:
        record[field] = value
    else:
        record["samples"][field][row] = value
    (tmp_path / "selection.json").write_text(json.dumps(record))
    with pytest.raises(
        ValueError, match=f"selection.json is not a selection this version can read: .*{message}"
    ) as refused:
        Selection.load(tmp_path)
    assert str(refused.value).isprintable()


@pytest.mark.parametrize("text", ["[" * 10**5, "[]", "7", '{"format": "1"}', '{"format": 1, "samples": 3}', "\x00"])
def test_records_of_another_structure_are_refused(tmp_path, text):
    (tmp_path / "selection.json").write_text(text)
    with pytest.raises(ValueError, match="selection.json is not a selection this version can read"):
        Selection.load(tmp_path)


def test_cells_that_a_spreadsheet_would_run_begin_with_an_apostrophe(tmp_path):
    ids = ["=1+1", "+1", "-1", "@a", "'=x", "plain"]
    of_scores([-1.0, 0.0, 1.0, 2.0, 3.0, 4.0], ids, reason=["=cmd|' /C calc'!A0"] * 6).save(tmp_path)
    table = pd.read_csv(tmp_path / "images.csv", dtype={"id": str})
    assert table["id"].tolist() == ["'=1+1", "'+1", "'-1", "'@a", "''=x", "plain"] and table["score"][0] == -1.0
    assert set(table["reason"]) == {"'=cmd|' /C calc'!A0"}
    assert list(map(from_cell, table["id"])) == ids and Selection.load(tmp_path).ids == ids


@pytest.mark.parametrize("ratio", [0, 1.5, -0.1])
def test_cutting_at_no_ratio_is_refused(ratio):
    with pytest.raises(ValueError, match="share that stays"):
        make().cut(ratio)


def test_names_tell_ratios_apart():
    assert [ratio_label(ratio) for ratio in (0.9, 0.95, 0.925)] == ["0.90", "0.95", "0.925"]
