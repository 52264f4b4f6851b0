import json

import pandas as pd
import pytest

from adapruner_det.pruning import Selection
from adapruner_det.pruning.selection import ratio_label


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


def test_save_and_load_give_the_same_selection(tmp_path):
    make().save(tmp_path)
    assert Selection.load(tmp_path) == make()


def test_record_says_in_plain_words_what_was_asked_and_reached(tmp_path):
    make().save(tmp_path)
    record = json.loads((tmp_path / "selection.json").read_text())
    assert record["keep_ratio"] == 0.5 and record["reached_ratio"] == 0.5
    assert (record["num_samples"], record["num_kept"]) == (5, 3)


def test_table_opens_as_csv_with_one_row_a_sample_lowest_score_first(tmp_path):
    make().save(tmp_path)
    table = pd.read_csv(tmp_path / "images.csv", dtype={"id": str})
    assert table["id"].tolist()[:2] == ["2", "x"]
    assert table["kept"].tolist()[:2] == [0, 0] and set(table["boxes"]) == {0, 1, 2, 3, 4}


def test_kept_ids_are_told_apart_by_data_set():
    assert make().kept_ids("a") == {"1", "3"}
    assert make().kept_ids("b") == {"1"}
    assert make().known_ids("b") == {"1", "x"}


@pytest.mark.parametrize("ratio, kept", [(0.25, {"1"}), (0.5, {"1", "3"}), (1.0, {"1", "2", "3"})])
def test_cut_keeps_the_highest_scores_and_leaves_others_alone(ratio, kept):
    cut = make().cut(ratio)
    assert cut.kept_ids("a") == kept and "1" in cut.kept_ids("b")
    assert cut.keep_ratio == ratio and cut.reached_ratio == ratio


def test_a_cut_leaves_one_at_least():
    cut = make().cut(0.01)
    candidates = [k for k, score in zip(cut.kept, cut.scores) if score is not None]
    assert sum(candidates) == 1


def test_an_image_that_was_left_out_on_purpose_stays_out_when_cut():
    left_out = make(kept=[True, False, True, False, False])
    assert "1" not in left_out.cut(1.0).kept_ids("b")


def test_ties_are_not_decided_by_position():
    ids = [str(i) for i in range(20)]
    tied = make(datasets=["a"] * 20, ids=ids, scores=[0.0] * 20, kept=[True] * 20, columns={})
    backwards = make(datasets=["a"] * 20, ids=ids[::-1], scores=[0.0] * 20, kept=[True] * 20, columns={})
    assert tied.cut(0.5).kept_ids("a") == backwards.cut(0.5).kept_ids("a") != set(ids[:10])


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
    (tmp_path / "selection.json").write_text('{"format": 1}')
    with pytest.raises(ValueError, match="selection.json is not a selection"):
        Selection.load(tmp_path)
    (tmp_path / "selection.json").write_text('{"format": 99}')
    with pytest.raises(ValueError, match="format is 99"):
        Selection.load(tmp_path)


@pytest.mark.parametrize("ratio", [0, 1.5, -0.1])
def test_cutting_at_no_ratio_is_refused(ratio):
    with pytest.raises(ValueError, match="share that stays"):
        make().cut(ratio)


@pytest.mark.parametrize("ratio, label", [(0.9, "0.90"), (0.95, "0.95"), (0.925, "0.925")])
def test_names_tell_ratios_apart(ratio, label):
    assert ratio_label(ratio) == label


def test_a_balanced_cut_holds_every_class_to_the_ratio():
    classes = ["cat"] * 6 + ["dog"] * 4
    whole = Selection(
        datasets=["a"] * 10,
        ids=[str(i) for i in range(10)],
        scores=[float(i) for i in range(10)],  # every dog above every cat
        kept=[True] * 10,
        keep_ratio=1.0,
        method="adapruner",
        columns={"class": classes},
    )
    assert whole.cut(0.5).kept_ids("a") == set("56789")
    assert whole.cut(0.5, "class").kept_ids("a") == set("34589")
    with pytest.raises(ValueError, match="2 groups cannot each keep a sample when 1 of 10"):
        whole.cut(0.1, "class")
