"""A person's choices take the place of a selection's, and the record says which they are."""

import os

import pytest
from conftest import write_voc_folder

from adapruner_det.data.corrections import CORRECTED_COLUMN, correct
from adapruner_det.data.detection_records import load_dataset
from adapruner_det.data.formats import register_voc
from adapruner_det.data.selection_record import _reasons_line, make_selection, verdict
from adapruner_det.pruning import Selection

HEADER = "dataset,id,kept\n"


def selection():
    return Selection(["a"] * 4, ["1", "2", "3", 'b,"4'], [3.0, 2.0, 1.0, 0.0], [True, True, False, False], 0.5, "el2n")


def written(tmp_path, text):
    path = tmp_path / "mine.csv"
    path.write_text(text)
    return path


def test_choices_are_kept_and_told_from_the_methods(tmp_path):
    corrected = correct(selection(), written(tmp_path, HEADER + 'a,2,0\na,"b,""4",1\n'))
    assert list(corrected.kept) == [True, False, False, True]
    assert corrected.columns[CORRECTED_COLUMN] == ["", "prune", "", "keep"]
    assert corrected.provenance["corrected"] == 2 and selection().kept == [True, True, False, False]


def test_ids_may_be_as_the_table_has_them(tmp_path):
    own = Selection(["a"] * 3, ["=1", "'=1", "2"], [3.0, 2.0, 1.0], [True, True, False], 0.5, "el2n")
    assert list(correct(own, written(tmp_path, HEADER + "a,=1,0\na,2,1\n")).kept) == [False, True, True]
    assert list(correct(own, written(tmp_path, HEADER + "a,''=1,0\na,2,1\n")).kept) == [True, False, True]
    assert list(correct(own, written(tmp_path, HEADER + "a,'=1,0\n")).kept) == [False, True, False]
    with pytest.raises(ValueError, match="line 2: =1 is both kept and pruned"):
        correct(own, written(tmp_path, HEADER + "a,'=1,0\na,=1,1\n"))


def test_where_the_file_may_be_is_said(tmp_path):
    with pytest.raises(FileNotFoundError, match="mine.csv: there is no such file; a browser puts what the page saves"):
        correct(selection(), tmp_path / "mine.csv")


def test_a_file_that_waits_for_a_writer_is_not_opened(tmp_path):
    os.mkfifo(tmp_path / "mine.csv")
    with pytest.raises(ValueError, match="is no file of corrections: it is no regular file"):
        correct(selection(), tmp_path / "mine.csv")


def test_a_cut_does_not_undo_them_and_a_later_file_may(tmp_path):
    corrected = correct(selection(), written(tmp_path, HEADER + "a,1,0\na,3,1\n"))
    cut = correct(corrected.cut(0.25), None)
    assert list(cut.kept) == [False, False, True, False]
    assert list(correct(cut, written(tmp_path, HEADER + "a,3,0\na,2,1\n")).kept) == [False, True, False, False]


def test_without_any_the_selection_is_the_same():
    own = selection()
    assert correct(own, None) is own


@pytest.mark.parametrize(
    "text, said",
    [
        ("", "its first line is to be dataset,id,kept"),
        ("id,kept\n1,0\n", "its first line is to be dataset,id,kept"),
        (HEADER + "a,1,yes\n", "line 2: kept is 'yes'"),
        (HEADER + "a,1,\n", "line 2: kept is ''"),
        (HEADER + "a,1,0\na,1,1\n", "line 2: 1 is both kept and pruned"),
        (HEADER + "a,1\n", "line 2: kept is ''"),
        ("kept,dataset,id\n1,a\n", "not in the selection:  of a"),
        ("dataset,id,kept,kept\na,1,0,1\n", "its first line is to be dataset,id,kept"),
        (HEADER + "a," + "9" * 200_000 + ",0\n", "is no file of corrections: field larger than field limit"),
        (HEADER + "a,9,0\nb,1,1\n", "not in the selection: 9 of a, 1 of b"),
        (HEADER + "a,1,0\na,2,0\n", "no image is kept"),
    ],
)
def test_what_is_wrong_with_a_file_is_said(tmp_path, text, said):
    with pytest.raises(ValueError, match=said):
        correct(selection(), written(tmp_path, text))


def test_the_summary_counts_what_goes_after_the_corrections(tmp_path):
    own = selection()
    own.columns.update(reason=["", "", "random", "label errors"])
    own.provenance["reasons"] = {"label errors": 1, "random": 1, "with_reason": 1}
    assert "go: 1 label errors, 1 random." in _reasons_line(own)
    assert verdict(own).endswith("1 by lot (a random choice would do as well)")
    own.provenance["reasons"]["alike"] = 3
    assert "3 as like others that stay" in verdict(own)
    del own.provenance["reasons"]["alike"]
    corrected = correct(own, written(tmp_path, HEADER + 'a,2,0\na,"b,""4",1\n'))
    assert "go: 1 random, 1 by hand." in _reasons_line(corrected)


def test_the_tools_make_the_page_and_take_its_corrections(tmp_path, run_tool, clean_catalogs):
    folder = write_voc_folder(tmp_path / "data", {"trainval": [f"{i:02}" for i in range(8)]})
    register_voc("boxes", str(folder), "trainval", class_names=["black", "white"])
    records = load_dataset("boxes")
    own = make_selection(
        records, [float(i) for i in range(8)], [i > 3 for i in range(8)], keep_ratio=0.5, method="el2n"
    )
    own.save(tmp_path / "selection")
    assert "images.png" in run_tool("selection.py", "pictures", tmp_path / "selection")
    assert "report.html" in run_tool("selection.py", "report", tmp_path / "selection")
    assert (tmp_path / "selection" / "thumbnails" / "7.jpg").is_file()
    mine, output = written(tmp_path, HEADER + "boxes,00,1\nboxes,07,0\n"), tmp_path / "mine"
    run_tool(
        "selection.py", "cut", tmp_path / "selection", "--keep-ratio", 0.5, "--corrections", mine, "--output", output
    )
    assert Selection.load(output).kept_ids("boxes") == {"00", "04", "05", "06"}
    wrong = written(tmp_path, HEADER + "boxes,99,1\n")
    said = run_tool("selection.py", "cut", tmp_path / "selection", "--keep-ratio", 0.5, "--corrections", wrong,
                    "--output", tmp_path / "wrong", expect=1)  # fmt: skip
    assert "99 of boxes" in said and "Traceback" not in said
    again = ("selection.py", "cut", tmp_path / "selection", "--keep-ratio", 0.75, "--output", output)
    said = run_tool(*again, expect=1)
    assert f"{output} holds a finished selection: name another folder, or replace it with --overwrite" in said
    assert (output / "report.html").is_file()
    run_tool(*again, "--overwrite", "--no-page")
    assert not (output / "report.html").exists()
    assert len(Selection.load(output).kept_ids("boxes")) == 6
