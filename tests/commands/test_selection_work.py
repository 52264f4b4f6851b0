"""The commands on selections, called as the command line does."""

import json

import pytest
from conftest import write_voc_folder
from detectron2.data import DatasetCatalog, MetadataCatalog

from adapruner_det import cli
from adapruner_det.data.detection_records import load_dataset
from adapruner_det.data.formats import register_voc
from adapruner_det.data.selection_record import make_selection

pytestmark = pytest.mark.usefixtures("clean_catalogs")


@pytest.fixture
def moved(tmp_path):
    """(folder of a selection, where its VOC folder is now); its config names a test list too."""
    before = write_voc_folder(tmp_path / "before", {"trainval": [*"abcd"], "test": ["t"]})
    register_voc("mine", before, "trainval")
    records = load_dataset("mine")
    lists = [f"{name}=voc:{before}:{split}" for name, split in (("mine", "trainval"), ("tested", "test"))]
    config = {"DATASETS": {"REGISTER": lists, "TRAIN": ["mine"], "TEST": ["tested"]}}
    provenance = {"config": json.dumps(config)}
    selection = make_selection(records, [1.0, 2.0, 3.0, 4.0], keep_ratio=0.5, method="el2n", provenance=provenance)
    selection.save(tmp_path / "selection")
    DatasetCatalog.remove("mine")
    MetadataCatalog.remove("mine")
    return tmp_path / "selection", before.rename(tmp_path / "now")


def run(capsys, *words):
    """What a command prints, and its error."""
    error = ""
    try:
        cli.main(list(map(str, words)))
    except SystemExit as ended:
        error = str(ended.code)
    said = capsys.readouterr()
    return said.out.splitlines(), error + said.err


@pytest.mark.parametrize("words", [("report",), ("pictures",), ("export", "--format", "yolo", "--output", "out")])
def test_where_data_has_moved_the_way_out_is_named(moved, words, capsys):
    folder, now = moved
    command, *more = words
    lines, error = run(capsys, command, folder, *more)
    assert error == (
        f"adapruner {command}: error: mine: there is no {now.with_name('before')} any more; "
        "has it moved? --register mine=voc:DIR:trainval"
    )
    if command == "export":
        return
    (tested,) = lines
    assert tested.startswith("tested is not looked at: cannot register") and tested.endswith(
        "--register tested=voc:DIR:SPLIT"
    )
    lines, error = run(capsys, command, folder, "--register", f"mine=voc:{now}:trainval")
    assert not error and lines[0] == tested and len(lines) == 2


def test_the_way_out_is_named_for_data_of_every_format(moved, capsys):
    folder, _ = moved
    record = json.loads((folder / "selection.json").read_text())
    record["provenance"]["sources"]["mine"] = {"format": "other"}
    record["provenance"]["config"] = record["provenance"]["config"].replace("voc:", "images:")
    (folder / "selection.json").write_text(json.dumps(record))
    assert run(capsys, "report", folder)[1].endswith("--register mine=images:PATH")


@pytest.mark.parametrize("gone, hint", [("", "--register mine=voc:DIR:trainval); `adapruner report {} makes it"),
                                        ("JPEGImages/a.jpg", "`adapruner report {} makes it, with --register if the data has moved")])  # fmt: skip
def test_a_cut_is_written_where_its_page_cannot_be_made(moved, tmp_path, gone, hint, capsys):
    folder, now = moved
    if gone:
        (now.rename(now.with_name("before")) / gone).unlink()
    lines, error = run(capsys, "cut", folder, "--keep-ratio", "0.25", "--output", tmp_path / "cut")
    assert not error and (tmp_path / "cut/selection.json").is_file()
    assert lines[-1].startswith("no page was made (") and lines[-1].endswith(hint.format(f"{tmp_path}/cut`"))
