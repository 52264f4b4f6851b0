import hashlib
import json
import os
import sys
from pathlib import Path

import pytest
from conftest import write_voc_folder, write_voc_image
from inject_label_errors import inject_label_errors, main
from make_demo_set import make_demo_set
from synthetic_errors import MAX_SHIFT, Shares

from adapruner_det.data.voc import load_voc_dataset, read_annotation, read_image_set
from adapruner_det.report.injected import InjectedErrors

SHARES = Shares(duplicates=0.2, wrong_classes=0.1, shifted_boxes=0.1, missing_boxes=0.1)


@pytest.fixture(scope="module")
def voc(tmp_path_factory):
    """20 images of two boxes, lists of their own and overlapping ones, and a test list."""
    ids = [f"{number:02d}" for number in range(20)]
    lists = {"train": ids, "test": ["t1", "t2"], "trainval": [*ids, "v"], "val": ["v"]}
    folder = write_voc_folder(tmp_path_factory.mktemp("plant") / "voc", lists)
    for image_id in ids:
        write_voc_image(folder, image_id, [("black", 5, 5, 20, 24), ("white", 30, 8, 60, 40)])
    return folder


@pytest.fixture(scope="module")
def injected(voc):
    """The folder with defects, and its record."""
    return voc.parent / "injected", inject_label_errors(voc, "train", voc.parent / "injected", SHARES)


def objects(folder, image_id):
    found = read_annotation(Path(folder) / "Annotations" / f"{image_id}.xml").objects
    return [(obj.name, list(obj.box)) for obj in found]


def digests(folder):
    return {str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest()
            for p in folder.rglob("*") if p.is_file()}  # fmt: skip


def test_the_record_is_true(voc, injected):
    folder, record = injected
    assert json.loads((folder / "injected.json").read_text()) == record
    kinds = [fault["kind"] for fault in record["wrong_label"].values()]
    assert sorted(kinds) == ["box", "box", "class", "class", "missing", "missing"]
    for image_id, fault in record["wrong_label"].items():
        true, written = objects(voc, image_id), objects(folder, image_id)
        for truth in [(item["name"], item["bndbox"]) for item in fault["objects"]]:
            assert truth in true and truth not in written
        if fault["kind"] == "missing":
            assert len(written) == 1 and written[0] in true and len(fault["objects"]) == 1
        elif fault["kind"] == "class":
            assert [box for _, box in written] == [box for _, box in true]
            assert [name for name, _ in written] == ["white", "black"]
        else:
            assert [name for name, _ in written] == ["black", "white"]
            assert all(one != other for (_, one), (_, other) in zip(written, true))


def test_copies_are_shifted_originals(voc, injected):
    folder, record = injected
    pairs = record["near_duplicate_of"]
    assert len(pairs) == 4 and not set(pairs.values()) & set(record["wrong_label"])
    for copy, original in pairs.items():
        moved = {(b[0] - a[0], b[1] - a[1], b[2] - a[2], b[3] - a[3])
                 for (_, a), (_, b) in zip(objects(voc, original), objects(folder, copy))}  # fmt: skip
        ((x, y, *rest),) = moved
        assert rest == [x, y] and (x or y) and max(abs(x), abs(y)) <= MAX_SHIFT
        assert not (folder / "JPEGImages" / f"{copy}.jpg").is_symlink()
        assert objects(folder, original) == objects(voc, original)


def test_all_else_is_as_it_was(voc, injected):
    folder, record = injected
    ids = read_image_set(folder, "train")
    assert len(ids) == 24 == len(set(ids)) and ids != sorted(ids)
    assert len(load_voc_dataset(folder, "train", record["classes"])) == 24
    # trainval shares images with train, so it would not be clean
    assert {p.stem for p in (folder / "ImageSets" / "Main").iterdir()} == {"train", "test", "val"}
    assert read_image_set(folder, "test") == ["t1", "t2"]
    changed = {f"Annotations/{i}.xml" for i in record["wrong_label"]}
    before, after = digests(voc), digests(folder)
    for name in before.keys() - changed:
        if not name.startswith("ImageSets"):
            assert after[name] == before[name] and (folder / name).is_symlink()
    assert all(after[name] != before[name] and not (folder / name).is_symlink() for name in changed)


def test_same_seed_same_bytes_and_nothing_is_overwritten(voc, injected, tmp_path):
    folder, record = injected
    again = inject_label_errors(voc, "train", tmp_path / "copies", SHARES, copy=True)
    assert not any(path.is_symlink() for path in (tmp_path / "copies").rglob("*"))
    one, other = digests(folder), digests(tmp_path / "copies")
    assert one.pop("injected.json") != other.pop("injected.json")  # one of them says "copy"
    assert one == other and again["wrong_label"] == record["wrong_label"]
    inode = (folder / "injected.json").stat().st_ino
    assert inject_label_errors(voc, "train", folder, SHARES) == record
    assert (folder / "injected.json").stat().st_ino == inode
    with pytest.raises(FileExistsError, match="another folder"):
        inject_label_errors(voc, "train", folder, SHARES, seed=1)
    assert (folder / "injected.json").stat().st_ino == inode
    with pytest.raises(ValueError, match="injected there already"):
        inject_label_errors(folder, "train", tmp_path / "twice", SHARES)


def test_a_file_in_the_way_of_a_copy_is_told(voc, injected, tmp_path):
    copy = next(iter(injected[1]["near_duplicate_of"]))
    os.symlink(voc / "JPEGImages" / "t1.jpg", voc / "JPEGImages" / f"{copy}.jpg")
    try:
        with pytest.raises(ValueError, match=f"has an image {copy} already"):
            inject_label_errors(voc, "train", tmp_path / "out", SHARES)
    finally:
        (voc / "JPEGImages" / f"{copy}.jpg").unlink()
    assert not (tmp_path / "out").exists()


def test_the_report_reads_the_demo_sets_record_and_this_one(injected, tmp_path):
    record = make_demo_set(tmp_path / "demo", images=20, test_images=2, duplicates=0.2, wrong_labels=0.15)
    for folder, content in (injected, (tmp_path / "demo", record)):
        read = InjectedErrors.load(folder / "injected.json")
        assert read.near_duplicate_of == content["near_duplicate_of"] and len(read.near_duplicate_of) == 4
        assert set(read.wrong_label) == set(content["wrong_label"])
        assert set(read.wrong_label.values()) == {"class", "box", "missing"}
    assert {"made_by", "version", "settings", "classes"} <= record.keys() & injected[1].keys()


def test_command_line(voc, tmp_path, monkeypatch, capsys):
    arguments = ["inject_label_errors.py", str(voc), "train", "--output", str(tmp_path / "out"), "--duplicates", "0.3"]
    monkeypatch.setattr(sys, "argv", [*arguments, "--wrong-classes", "0"])
    main()
    printed = capsys.readouterr().out
    assert "26 images, of which 6 near-duplicates and 2 with wrong labels (box 1, missing 1)" in printed
    assert "clean lists: test, val" in printed
    monkeypatch.setattr(sys, "argv", arguments)
    with pytest.raises(SystemExit, match="not what these settings give"):
        main()
