import logging
import os

import numpy as np
import pytest
from image_files import picture, pixels, write_tree, write_zip

from adapruner_det.data.image_folders import find_class_names, load_images_dataset
from adapruner_det.data.images import read_images
from adapruner_det.data.validation import InvalidDatasetError

FILES = {
    "frog/00010.png": picture(0),
    "frog/00002.JPG": picture(1, format="JPEG"),
    "frog/0 pond/00003.png": picture(2),
    "Cat/a.bmp": picture(3, format="BMP"),
    "cat/a b.png": picture(4),
}
IDS = ["Cat/a.bmp", "cat/a b.png", "frog/00002.JPG", "frog/00010.png", "frog/0 pond/00003.png"]


@pytest.fixture(params=["folder", "zip"])
def make(request, tmp_path):
    """Writes a data set as a folder or as an archive."""
    if request.param == "folder":
        return lambda files: write_tree(tmp_path / "data", files)
    return lambda files: write_zip(tmp_path / "data.zip", files)


def load(path, class_names=None, on_invalid="error"):
    return load_images_dataset(path, find_class_names(path, class_names), on_invalid)


def ids(records):
    return [record["image_id"] for record in records]


def test_records_are_the_same_of_a_folder_and_an_archive(make, caplog):
    # in an archive's own order, whatever it is
    path = make(dict(sorted(FILES.items(), key=lambda item: hash(item[1]))))
    assert find_class_names(path) == ["Cat", "cat", "frog"]
    records = load(path)
    assert ids(records) == IDS and not caplog.messages
    assert [record["category_id"] for record in records] == [0, 1, 2, 2, 2]
    for record, image in zip(records, read_images(records, 8)):
        np.testing.assert_array_equal(image, pixels(FILES[record["image_id"]]))
    if path.is_dir():
        assert records[0]["file_name"] == str(path / "Cat" / "a.bmp") and "member" not in records[0]
    else:
        assert (records[0]["file_name"], records[0]["member"]) == (str(path), "Cat/a.bmp")


def test_given_classes_choose_and_order_and_need_not_all_be_there(make, caplog):
    path = make(FILES)
    records = load(path, ["frog", "dog", "Cat"])
    assert ids(records) == [*IDS[2:], "Cat/a.bmp"]
    assert [record["category_id"] for record in records] == [0, 0, 0, 2]
    assert "has no folder, and so no image, of 1 classes: dog" in caplog.text


@pytest.mark.parametrize("prefix", ["train/", "a/b/", "./train/"])
def test_common_folders_of_an_archive_are_gone_through(tmp_path, prefix):
    files = {prefix + name: data for name, data in {**FILES, "readme.txt": b"text"}.items()}
    records = load(write_zip(tmp_path / "a.zip", files))
    assert ids(records) == IDS and records[0]["member"] == f"{prefix}Cat/a.bmp"
    assert len(read_images(records, 8)) == 5


def test_a_lone_class_folder_is_no_common_folder(tmp_path):
    assert find_class_names(write_zip(tmp_path / "a.zip", {"frog/1.png": picture()})) == ["frog"]
    nested = write_zip(tmp_path / "b.zip", {"frog/pond/1.png": picture()})
    assert find_class_names(nested) == ["pond"]
    assert ids(load(nested, ["frog"])) == ["frog/pond/1.png"]  # said by the user


def test_windows_and_macos_archives(tmp_path):
    files = {"train\\frog\\1.png": picture(), "train\\toad\\1.png": picture(1)}
    extras = {"__MACOSX/train/frog/._1.png": b"fork", "train/.DS_Store": b"x", "train/.git/1.png": b"x"}
    records = load(write_zip(tmp_path / "a.zip", {**files, **extras}))
    assert ids(records) == ["frog/1.png", "toad/1.png"] and len(read_images(records, 8)) == 2


def test_links_are_followed_and_a_folder_that_cannot_be_read_is_no_empty_one(tmp_path, monkeypatch):
    write_tree(tmp_path / "real", {"pond/1.png": picture()})
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "frog").symlink_to(tmp_path / "real", target_is_directory=True)
    (tmp_path / "real" / "lake").symlink_to(write_tree(tmp_path / "far", {"2.png": picture()}))
    assert ids(load(tmp_path / "data")) == ["frog/lake/2.png", "frog/pond/1.png"]
    scandir = os.scandir

    def locked(folder):
        if str(folder).endswith("pond"):
            raise PermissionError(f"no permission for {folder}")
        return scandir(folder)

    monkeypatch.setattr(os, "scandir", locked)
    with pytest.raises(PermissionError, match="pond"):
        load(tmp_path / "data")


def test_other_files_are_ignored_with_one_warning(make, caplog):
    others = {"frog/notes.txt": b"x", "cat/._a.png": b"x", "labels.csv": b"x", "cat/Thumbs.db": b"x"}
    path = make({**FILES, **others})
    with caplog.at_level(logging.WARNING):
        assert len(load(path)) == 5
    (warning,) = caplog.messages
    assert "4 files" in warning and "the first is labels.csv" in warning


def test_empty_class_folder_is_refused(make):
    path = make({**FILES, "dog/": b"", "eel/readme.txt": b"x"})
    with pytest.raises(ValueError, match="no picture .* in 2 of 5 class folders: dog, eel"):
        load(path)
    assert len(load(path, ["frog"])) == 3


def test_what_holds_no_class_folders_is_refused(make, tmp_path):
    with pytest.raises(ValueError, match="data.* holds no class folder"):
        find_class_names(make({"1.png": picture()}))
    (tmp_path / "a.tar").write_bytes(b"text")
    with pytest.raises(ValueError, match="a.tar cannot be read as a zip"):
        find_class_names(tmp_path / "a.tar")
    with pytest.raises(FileNotFoundError, match="there is no folder or archive .*nothing"):
        find_class_names(tmp_path / "nothing")


def test_folders_of_splits_are_no_classes(make):
    path = make({f"{split}/{name}": data for split in ("train", "val") for name, data in FILES.items()})
    with pytest.raises(ValueError) as caught:
        find_class_names(path)
    way_out = f"register images:{path}/train" if path.is_dir() else "pack each into an archive of its own"
    assert str(caught.value) == f"{path} holds splits (train, val), not class folders: {way_out}"
    assert find_class_names(path, ["val", "train"]) == ["val", "train"]  # said by the user
    if path.is_dir():
        assert ids(load(path / "train")) == IDS


@pytest.mark.parametrize("names", [["dog", "eel"], ["frog", "frog"], ["frog", ""], []])
def test_unusable_class_names_are_refused(make, names):
    path = make(FILES)
    for function in (find_class_names, load):
        with pytest.raises(ValueError, match="missing, repeat, or have no folder in .*there: Cat, cat, frog"):
            function(path, names)


def test_a_path_twice_in_an_archive_is_refused(tmp_path):
    path = write_zip(tmp_path / "a.zip", {"frog/1.png": picture(), "frog\\1.png": picture(1)})
    with pytest.raises(ValueError, match="a.zip holds 1 paths more than once: frog/1.png"):
        find_class_names(path)


def test_broken_pictures(make, caplog):
    path = make({**FILES, "frog/0.png": b"text", "cat/0.jpg": b""})
    with pytest.raises(InvalidDatasetError, match="2 problems in ") as caught:
        load(path)
    assert [problem.file[-9:] for problem in caught.value.problems] == ["cat/0.jpg", "rog/0.png"]
    assert "skip_images" in str(caught.value)
    for on_invalid in ("skip_images", "skip_objects"):
        caplog.clear()
        assert ids(load(path, None, on_invalid)) == IDS
        assert "2 problems" in caplog.text and "cat/0.jpg" in caplog.text
    with pytest.raises(ValueError, match="on_invalid is 'ignore'"):
        load(path, None, "ignore")
    with pytest.raises(InvalidDatasetError, match="leaves no image"):
        load(make({"eel/0.png": b"text"}), ["eel"], "skip_images")


def test_encrypted_member_is_a_problem(tmp_path):
    path = write_zip(tmp_path / "a.zip", {"frog/1.png": picture()})
    content = bytearray(path.read_bytes())
    for start, place in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):  # the flags of both headers
        content[content.index(start) + place] |= 1
    path.write_bytes(bytes(content))
    with pytest.raises(InvalidDatasetError, match="a.zip: frog/1.png: .*encrypted"):
        load(path)


def test_cifar10_out_of_its_archive(shared_data):
    path = shared_data / "cifar10" / "test.zip"
    assert find_class_names(path) == "airplane automobile bird cat deer dog frog horse ship truck".split()
    records = load(path)
    assert len(set(ids(records))) == len(records) == 10_000
    assert np.bincount([record["category_id"] for record in records]).tolist() == [1000] * 10
    assert 110 < read_images(records[::50], 32).mean() < 130  # CIFAR-10's mean is 121
