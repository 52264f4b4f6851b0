import json
import sys
from importlib import import_module

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from adapruner_det.data.selection_record import CLASSES_COLUMN
from adapruner_det.pruning import Selection
from adapruner_det.report.injected import InjectedErrors, injected_report, injected_table, pairs_table

# id: (score, kept, boxes of two classes)
IMAGES = {
    "u1": (1.0, False, [2, 0]),
    "u2": (2.0, True, [1, 0]),
    "u3": (3.0, True, [0, 1]),
    "u4": (4.0, True, [0, 3]),
    "u5": (0.5, False, [0, 0]),
    "d1": (0.0, False, [1, 0]),
    "o1": (5.0, True, [1, 0]),
    "d2": (0.1, False, [0, 1]),
    "o2": (0.2, False, [0, 1]),
    "w1": (3.0, False, [0, 1]),
    "w2": (0.5, True, [0, 0]),
    "w3": (2.5, False, [1, 1]),
    "none": (None, False, [0, 0]),  # did not compete, so it is neither pruned nor kept by a method
}
INJECTED = InjectedErrors({"d1": "o1", "d2": "o2"}, {"w1": "class", "w2": "missing", "w3": "box"})
COLUMNS = ["ratio", "AUC", "share pruned, same classes", "AUC, same classes"]


def selection(images=IMAGES, datasets=None):
    scores, kept, boxes = zip(*images.values())
    return Selection(
        datasets=datasets or ["mine"] * len(images),
        ids=list(images),
        scores=scores,
        kept=kept,
        keep_ratio=0.5,
        method="m",
        columns={CLASSES_COLUMN: boxes},
        provenance={"class_names": ["a", "b"]},
    )


def row(table, name):
    (found,) = table[table["injected"] == name].to_dict("records")
    return found


def test_each_kind_against_all_others():
    table = injected_table(selection(), INJECTED)
    # others: u1 to u5, of which u1 and u5 were pruned
    assert row(table, "all others")["images"] == 5 and row(table, "all others")["pruned"] == 2
    doubles = row(table, "near-duplicates and their originals")
    assert (doubles["images"], doubles["pruned"], doubles["share pruned"]) == (4, 3, 0.75)
    # against 0.5, 1, 2, 3, 4: three of the four are below all, one above all
    assert [doubles["ratio"], doubles["AUC"]] == pytest.approx([0.75 / 0.4, 0.75])
    wrong = row(table, "wrong labels")
    assert (wrong["images"], wrong["pruned"]) == (3, 2)
    auc = roc_auc_score([0] * 3 + [1] * 5, [3, 0.5, 2.5, 1, 2, 3, 4, 0.5])
    assert [wrong["ratio"], wrong["AUC"]] == pytest.approx([2 / 3 / 0.4, auc])
    assert np.isnan(row(table, "all others")["AUC"])


def test_wrong_labels_against_images_of_the_class_they_are_labelled_with():
    table = injected_table(selection(), INJECTED)
    # w1 against u3 and u4, w2 (no boxes) against u5, w3 against u1 and u2, and against u3 and u4
    expected = {"class": [0, 0.75], "missing": [1, 0.5], "box": [0.25, 0.5]}
    for kind, values in expected.items():
        found = row(table, f"wrong labels: {kind}")
        assert found["images"] == 1 and [found[c] for c in COLUMNS[2:]] == values
    together = row(table, "wrong labels")
    assert [together[c] for c in COLUMNS[2:]] == pytest.approx([1.25 / 3, 1.75 / 3])


def test_what_cannot_be_said_is_not_a_number():
    images = {**IMAGES, "w1": (3.0, False, [0, 0])}
    del images["u5"]  # the only clean image without boxes
    found = row(injected_table(selection(images), INJECTED), "wrong labels: class")
    assert np.isnan([found[c] for c in COLUMNS[2:]]).all() and found["AUC"] == pytest.approx(1.5 / 4)
    none_pruned = {i: (s, k or i.startswith("u"), b) for i, (s, k, b) in IMAGES.items()}
    assert np.isnan(row(injected_table(selection(none_pruned), INJECTED), "wrong labels")["ratio"])


def test_images_without_boxes_are_a_group_and_none_of_the_others(tmp_path):
    record = {"near_duplicate_of": {}, "wrong_label": {}, "without_boxes": ["u5", "w2", "none"]}
    (tmp_path / "injected.json").write_text(json.dumps(record))
    table = injected_table(selection(), InjectedErrors.load(tmp_path / "injected.json"))
    empty = row(table, "without boxes")
    assert (empty["images"], empty["pruned"]) == (2, 1)  # "none" did not compete
    others = row(table, "all others")
    assert others["images"] == 10 and empty["ratio"] == pytest.approx(0.5 / others["share pruned"])


def test_pairs():
    table = pairs_table(selection(), INJECTED).set_index("pruned of a pair")
    assert table["pairs"].to_dict() == {"exactly one": 1, "both": 1, "none": 0}
    assert table["share"].to_dict() == {"exactly one": 0.5, "both": 0.5, "none": 0}
    chance = table["share by chance"].to_dict()
    assert chance == pytest.approx({"exactly one": 0.48, "both": 0.16, "none": 0.36})
    twice = InjectedErrors({"d1": "o1", "d2": "o1"}, {})  # an original with two copies is in two pairs
    assert pairs_table(selection(), twice)["pairs"].tolist() == [2, 0, 0]
    assert row(injected_table(selection(), twice), "near-duplicates and their originals")["images"] == 3


def test_defects_of_other_images_are_refused():
    both = selection(datasets=["mine"] * 12 + ["other"])
    assert row(injected_table(both, INJECTED, "mine"), "all others")["images"] == 5
    for found, injected, dataset, message in (
        (both, INJECTED, None, "--dataset"),
        (both, INJECTED, "third", "does not cover 'third'"),
        (selection(), InjectedErrors({}, {"x": "box"}), None, "1 injected images are not in the selection, such as x"),
    ):
        with pytest.raises(ValueError, match=message):
            injected_table(found, injected, dataset)


def test_report_of_two_selections():
    lines = injected_report({"one": selection(), "two": selection()}, INJECTED).splitlines()
    found = [line for line in lines if "| near-duplicates" in line]
    assert [line.split("|")[1].strip() for line in found] == ["one", "two"]
    cells = ["near-duplicates and their originals", "4", "3", "0.75", "1.88", "0.75"]
    assert [cell.strip() for cell in found[0].split("|")[2:8]] == cells
    assert sum("| both" in line for line in lines) == 2
    assert "of a pair" not in injected_report({"": selection()}, InjectedErrors({}, {"w1": "class"}))


@pytest.mark.parametrize(
    "content", ["{", "[]", "{}", '{"near_duplicate_of": {}, "wrong_label": {"a": {"kind": "odd"}}}']
)
def test_a_broken_record_is_told(tmp_path, content):
    (tmp_path / "injected.json").write_text(content)
    with pytest.raises(ValueError, match="injected.json"):
        InjectedErrors.load(tmp_path / "injected.json")


def test_command(tmp_path, monkeypatch, capsys):
    tool = import_module("adapruner_det.commands.selection")
    selection().save(tmp_path / "selection")
    wrong = {i: {"kind": kind} for i, kind in INJECTED.wrong_label.items()}
    record = {"near_duplicate_of": INJECTED.near_duplicate_of, "wrong_label": wrong}
    (tmp_path / "injected.json").write_text(json.dumps(record))
    command = ["selection.py", "injected", str(tmp_path / "selection"), "--injected"]
    monkeypatch.setattr(sys, "argv", [*command, str(tmp_path / "injected.json")])
    arguments = tool.parse_arguments()
    arguments.run(arguments)
    out = capsys.readouterr().out
    assert "| wrong labels: class" in out and "exactly one" in out and "AUC: the probability" in out
    monkeypatch.setattr(sys, "argv", [*command, str(tmp_path / "nothing.json")])
    arguments = tool.parse_arguments()
    with pytest.raises(SystemExit, match="nothing.json does not exist"):
        arguments.run(arguments)
