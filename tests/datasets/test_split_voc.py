import os
import shutil
import sys

import numpy as np
import pytest
import split_voc
from conftest import write_voc_folder, write_voc_image

from adapruner_det.data.voc import read_image_set

PARTS = {"train": 0.75, "val": 0.25}


@pytest.fixture
def voc(tmp_path):
    """12 images with a black box, 4 with a white one, 4 with none; a test image; two lists of classes."""
    ids = [f"{number:02d}" for number in range(20)]
    lists = {"trainval": ids, "test": ["t"], "train": ids[:3], "black_train": ids[:2]}
    folder = write_voc_folder(tmp_path / "voc", lists)
    for number, image_id in enumerate(ids):
        name = "black" if number < 12 else "white"
        write_voc_image(folder, image_id, [(name, 2, 3, 20, 30)] if number < 16 else [])
    return folder


def lists_of(folder):
    return {path.stem for path in (folder / "ImageSets" / "Main").iterdir()}


def test_parts_have_the_same_share_of_every_class(voc, tmp_path):
    text = split_voc.split_voc(voc, "trainval", PARTS, tmp_path / "out")
    train, val = (read_image_set(tmp_path / "out", name) for name in PARTS)
    assert sorted([*train, *val]) == read_image_set(voc, "trainval")
    assert train == sorted(train)
    kinds = [[sum(low <= int(i) < high for i in own) for low, high in ((0, 12), (12, 16), (16, 20))]
             for own in (train, val)]  # fmt: skip
    assert kinds == [[9, 3, 3], [3, 1, 1]]
    assert "9 (0.600)" in text and "(no boxes)" in text


def test_files_are_links_or_copies_and_old_lists_stay(voc, tmp_path):
    for name, copy in (("links", False), ("copies", True)):
        out = tmp_path / name
        split_voc.split_voc(voc, "trainval", PARTS, out, copy=copy)
        for sub in ("JPEGImages", "Annotations"):
            assert (out / sub).is_symlink() != copy
            assert sorted(os.listdir(out / sub)) == sorted(os.listdir(voc / sub))
        # the old train is replaced; black_train was its own
        assert lists_of(out) == {"train", "val", "trainval", "test"}
        assert read_image_set(out, "test") == ["t"] and len(read_image_set(out, "train")) == 15


def test_again_is_the_same_and_nothing_else_is_overwritten(voc, tmp_path):
    out = tmp_path / "out"
    split_voc.split_voc(voc, "trainval", PARTS, out, seed=1)
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*.txt")}
    assert "was there already" in split_voc.split_voc(voc, "trainval", PARTS, out, seed=1)
    path = voc / "ImageSets" / "Main" / "trainval.txt"
    path.write_text("\n".join(reversed(path.read_text().split())))  # the order of the list does not matter
    assert "was there already" in split_voc.split_voc(voc, "trainval", PARTS, out, seed=1)
    with pytest.raises(FileExistsError, match="another folder"):
        split_voc.split_voc(voc, "trainval", PARTS, out, seed=2)
    assert {path: path.stat().st_mtime_ns for path in out.rglob("*.txt")} == before
    other = tmp_path / "thesis"
    other.mkdir()
    (other / "thesis.txt").write_text("years of work")
    with pytest.raises(FileExistsError, match="something else"):
        split_voc.split_voc(voc, "trainval", PARTS, other)
    assert [path.name for path in other.iterdir()] == ["thesis.txt"]
    shutil.move(voc, tmp_path / "moved")
    with pytest.raises(FileExistsError, match="has moved"):
        split_voc.split_voc(tmp_path / "moved", "trainval", PARTS, out, seed=1)


def test_blocks_keep_neighbours_together(voc, tmp_path):
    split_voc.split_voc(voc, "trainval", {"train": 0.6, "val": 0.4}, tmp_path / "out", blocks=4)
    train, val = (set(read_image_set(tmp_path / "out", name)) for name in ("train", "val"))
    assert (len(train), len(val)) == (12, 8)
    ids = read_image_set(voc, "trainval")
    for start in range(0, 20, 4):
        block = set(ids[start : start + 4])
        assert block <= train or block <= val


@pytest.mark.parametrize(
    "settings, word",
    [
        (dict(parts={"train": 0.8, "val": 0.1}), "1 together"),
        (dict(parts={"train": 1.0}), "two parts"),
        (dict(parts={"../train": 0.5, "val": 0.5}), "no name"),
        (dict(parts={"train": 0.99, "val": 0.01}), "no image for val"),
        (dict(blocks=20), "no image for val"),
        (dict(blocks=0), "--blocks is 0"),
        (dict(seed=-1), "--seed is -1"),
        (dict(imbalance=0.5), "--imbalance is 0.5; it is a ratio, at least 1"),
    ],
)
def test_what_cannot_be_is_refused(voc, tmp_path, settings, word):
    with pytest.raises(ValueError, match=word):
        split_voc.split_voc(voc, "trainval", output=tmp_path / "out", **{"parts": PARTS, **settings})
    assert not (tmp_path / "out").exists()


def test_command_line(voc, tmp_path, monkeypatch, capsys):
    arguments = ["split_voc.py", str(voc), "trainval", "--output", str(tmp_path / "out"), "--parts"]
    monkeypatch.setattr(sys, "argv", [*arguments, "a=0.5", "b=0.5"])
    split_voc.main()
    assert "| images " in capsys.readouterr().out and len(read_image_set(tmp_path / "out", "a")) == 10
    monkeypatch.setattr(sys, "argv", [*arguments, "a=0.5", "a=0.5"])
    with pytest.raises(SystemExit):
        split_voc.main()
    monkeypatch.setattr(sys, "argv", [arguments[0], str(voc), "nothing", *arguments[3:], "a=0.5", "b=0.5"])
    with pytest.raises(SystemExit, match="lists in that folder: black_train"):
        split_voc.main()


def test_a_long_tail(tmp_path):
    """200 images of a, 81 of b, 100 of c, of which 5 hold b as well, 7 of nothing, thinned to 9 to 1."""
    kinds = [[0]] * 200 + [[1]] * 76 + [[1, 2]] * 5 + [[2]] * 95 + [[]] * 7
    records = [{"image_id": f"{n:03}", "annotations": [{"category_id": c} for c in own]} for n, own in enumerate(kinds)]
    orders = set()
    for seed in range(8):
        own = split_voc.long_tail(records, 3, 9.0, np.random.default_rng(seed))
        ids = [record["image_id"] for record in own]
        assert ids == sorted(set(ids)) and set(ids) >= {f"{n:03}" for n in range(376, 383)}
        counts = [sum(low <= int(i) < high for i in ids) for low, high in ((0, 200), (200, 281), (281, 376))]
        assert sorted(counts) == [9, 27, 81]
        orders.add(tuple(counts))
    assert len(orders) > 2
    again = split_voc.long_tail(records, 3, 9.0, np.random.default_rng(7))
    assert [record["image_id"] for record in again] == ids
    with pytest.raises(ValueError, match="leaves nothing of a class: it can be at most 162"):
        split_voc.long_tail(records, 3, 163.0, np.random.default_rng(0))


def test_the_first_part_alone_is_thinned_out(voc, tmp_path):
    plain = split_voc.split_voc(voc, "trainval", PARTS, tmp_path / "plain")
    text = split_voc.split_voc(voc, "trainval", PARTS, tmp_path / "tail", imbalance=3.0)
    whole = set(read_image_set(tmp_path / "plain", "train"))
    train, val = (read_image_set(tmp_path / "tail", name) for name in PARTS)
    assert val == read_image_set(tmp_path / "plain", "val") and set(train) < whole and len(train) == 7
    assert sorted(sum(low <= int(i) < high for i in train) for low, high in ((12, 16), (0, 12))) == [1, 3]
    assert text.split("\n", 1)[1] != plain.split("\n", 1)[1]
    with pytest.raises(FileExistsError, match="another folder"):
        split_voc.split_voc(voc, "trainval", PARTS, tmp_path / "tail")
