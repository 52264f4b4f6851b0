"""The pages of data before training, and of two selections."""

import re
from dataclasses import replace

import pandas as pd
import pytest
from conftest import write_voc_folder
from detectron2.data import MetadataCatalog
from test_page import CLASSES, EVIL, NUM, Parsed, in_chromium, make_record, make_set, picture

from adapruner_det.commands.look import look
from adapruner_det.report.comparison import write_comparison
from adapruner_det.report.look import BOTH, COPY, LEAK, SINGLE

pytestmark = pytest.mark.usefixtures("clean_catalogs")


@pytest.fixture
def lists(tmp_path):
    """Two VOC lists: b is like a, and so is t in the other list; c has no picture."""
    folder = write_voc_folder(tmp_path / "voc", {"train": [*"abc"], "test": [*"tu"]})
    for name, number in (("a", 0), ("b", 0), ("t", 0), ("u", 1)):
        size = picture(0).size
        picture(number).resize(size).save(folder / f"JPEGImages/{name}.jpg")
        xml = folder / f"Annotations/{name}.xml"
        xml.write_text(resized(xml.read_text(), size))
    (folder / "JPEGImages/c.jpg").write_bytes(b"no picture")
    return [f"{name}=voc:{folder}:{name}" for name in ("train", "test")]


def resized(xml, size):
    for tag, value in zip(("width", "height"), size):
        xml = re.sub(f"<{tag}>.*?</{tag}>", f"<{tag}>{value}</{tag}>", xml)
    return xml


def test_a_look_finds_copies_leaks_and_broken_files(lists, tmp_path):
    said = look(lists, str(tmp_path / "look"), pretrained=False)
    assert said.startswith(
        "4 images in 2 lists: 2 of them near-copies of others in their list, 1 in a later list of some in an earlier one (leaks), "
        "1 file with something wrong."
    )
    page = Parsed((tmp_path / "look/look.html").read_text(encoding="utf-8"))
    data = page.data()
    assert sorted(data["sections"]["copies"][0]) == [0, 1] and data["sections"]["leaks"][0][1] == 2
    assert [data["reasons"][i] for i in data["reason"]] == [BOTH, COPY, LEAK, SINGLE]
    assert (
        "with a near-copy in their list 2 0 with a near-copy in another list 1 1 without a near-copy 0 1" in page.text()
    )
    assert "c.jpg" in page.text() and "not readable as an image" in page.text()
    pairs = pd.read_csv(tmp_path / "look/pairs.csv")
    assert pairs["like_dataset"].tolist() == ["train", "train"] and (pairs["likeness"] > 0.99).all()
    assert in_chromium(tmp_path / "look/look.html", 'count("#list .card")', tmp_path) == 4
    (tmp_path / "look/mine.txt").write_text("")
    with pytest.raises(FileExistsError, match="mine.txt"):
        look(lists, str(tmp_path / "look"), pretrained=False)


def test_two_selections_side_by_side(tmp_path):
    records = make_set(tmp_path)
    first = make_record(records, tmp_path / "a")
    kept = list(first.kept)
    kept[1], kept[NUM - 2] = True, False
    replace(first, kept=kept, scores=[-score for score in first.scores]).save(tmp_path / "b")
    page = Parsed(write_comparison(tmp_path / "a", tmp_path / "b", records, None).read_text(encoding="utf-8"))
    data = page.data()
    assert data["sections"] == {"only A keeps": [NUM - 2], "only B keeps": [1]}
    assert "A and B differ on 2 of 20 images." in page.text()
    assert "-1.00" in page.text() and "94%" in page.text() and "by chance 80%" in page.text()
    assert [name for name, _ in page.tags].count("script") == 2 and data["id"][NUM - 2] == EVIL
    assert in_chromium(tmp_path / "a/compared.html", 'count("[data-cards] .card")', tmp_path) == 2
    MetadataCatalog.get("others").set(thing_classes=CLASSES)
    others = [{**record, "dataset_name": "others"} for record in records]
    with pytest.raises(ValueError, match="no image in common"):
        make_record(others, tmp_path / "c")
        write_comparison(tmp_path / "a", tmp_path / "c", records, None)
