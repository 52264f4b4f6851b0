import logging
import os

import numpy as np
import pytest
from image_files import picture, pixels, write_tree, write_zip

from adapruner_det.data import image_folders
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


def make(tmp_path, kind, files, prefix=""):
    if kind == "folder":
        return write_tree(tmp_path / "data", files)
    return write_zip(tmp_path / "data.zip", {prefix + name: data for name, data in files.items()})


both = pytest.mark.parametrize("kind", ["folder", "zip"])


@both
def test_records(tmp_path, kind):
    path = make(tmp_path, kind, FILES)
    names = find_class_names(path)
    assert names == ["Cat", "cat", "frog"]
    records = load_images_dataset(path, names)
    assert [record["image_id"] for record in records] == IDS
    assert [record["category_id"] for record in records] == [0, 1, 2, 2, 2]
    assert all("annotations" not in record for record in records)
    for record, image in zip(records, read_images(records, 8)):
        np.testing.assert_array_equal(image, pixels(FILES[record["image_id"]]))


def test_folder_and_archive_give_the_same_ids_in_the_same_order(tmp_path):
    # in an archive's own order, whatever it is
    shuffled = dict(sorted(FILES.items(), key=lambda item: hash(item[1])))
    records = [
        load_images_dataset(path, find_class_names(path))
        for path in (make(tmp_path, "folder", FILES), make(tmp_path, "zip", shuffled))
    ]
    assert [(r["image_id"], r["category_id"]) for r in records[0]] == [
        (r["image_id"], r["category_id"]) for r in records[1]
    ]
    assert records[0][0]["file_name"] == str(tmp_path / "data" / "Cat" / "a.bmp")
    assert (records[1][0]["file_name"], records[1][0]["member"]) == (str(tmp_path / "data.zip"), "Cat/a.bmp")


@both
def test_given_classes_choose_and_order(tmp_path, kind):
    path = make(tmp_path, kind, FILES)
    records = load_images_dataset(path, find_class_names(path, ["frog", "Cat"]))
    assert [(r["image_id"], r["category_id"]) for r in records] == [
        *((image_id, 0) for image_id in IDS[2:]),
        ("Cat/a.bmp", 1),
    ]


@pytest.mark.parametrize("prefix", ["train/", "a/b/", "./train/"])
def test_common_folders_of_an_archive_are_gone_through(tmp_path, prefix):
    path = make(tmp_path, "zip", {**FILES, "readme.txt": b"text"}, prefix)
    records = load_images_dataset(path, find_class_names(path))
    assert [record["image_id"] for record in records] == IDS
    assert records[0]["member"] == f"{prefix}Cat/a.bmp"
    assert len(read_images(records, 8)) == 5


def test_a_lone_class_folder_is_no_common_folder(tmp_path):
    path = write_zip(tmp_path / "a.zip", {"frog/1.png": picture()})
    assert find_class_names(path) == ["frog"]
    nested = write_zip(tmp_path / "b.zip", {"frog/pond/1.png": picture()})
    assert find_class_names(nested) == ["pond"]
    assert find_class_names(nested, ["frog"]) == ["frog"]  # said by the user
    assert load_images_dataset(nested, ["frog"])[0]["image_id"] == "frog/pond/1.png"


def test_windows_and_macos_archives(tmp_path):
    files = {"train\\frog\\1.png": picture(), "train\\toad\\1.png": picture(1)}
    extras = {"__MACOSX/train/frog/._1.png": b"fork", "train/.DS_Store": b"x", "train/.git/1.png": b"x"}
    path = write_zip(tmp_path / "a.zip", {**files, **extras})
    assert find_class_names(path) == ["frog", "toad"]
    records = load_images_dataset(path, ["frog", "toad"])
    assert [record["image_id"] for record in records] == ["frog/1.png", "toad/1.png"]
    assert read_images(records, 8).shape[0] == 2


def test_a_folder_within_a_class_that_cannot_be_read_is_no_empty_one(tmp_path, monkeypatch):
    path, scandir = make(tmp_path, "folder", FILES), os.scandir

    def locked(folder):
        if str(folder).endswith("pond"):
            raise PermissionError(f"no permission for {folder}")
        return scandir(folder)

    monkeypatch.setattr(os, "scandir", locked)
    with pytest.raises(PermissionError, match="0 pond"):
        load_images_dataset(path, find_class_names(path))


@both
def test_other_files_are_ignored_with_one_warning(tmp_path, kind, caplog):
    others = {"frog/notes.txt": b"x", "cat/._a.png": b"x", "labels.csv": b"x", "cat/Thumbs.db": b"x"}
    path = make(tmp_path, kind, {**FILES, **others})
    with caplog.at_level(logging.WARNING):
        assert len(load_images_dataset(path, find_class_names(path))) == 5
    (warning,) = caplog.messages
    assert "4 files" in warning and "the first is labels.csv" in warning


@both
def test_no_warning_without_reason(tmp_path, kind, caplog):
    with caplog.at_level(logging.WARNING):
        path = make(tmp_path, kind, FILES)
        load_images_dataset(path, find_class_names(path))
    assert not caplog.messages


@both
def test_empty_class_folder_is_refused(tmp_path, kind):
    path = make(tmp_path, kind, {**FILES, "dog/": b"", "eel/readme.txt": b"x"})
    with pytest.raises(ValueError, match="no picture .* in 2 of 5 class folders: dog, eel"):
        load_images_dataset(path, find_class_names(path))
    assert len(load_images_dataset(path, ["frog"])) == 3


@both
def test_no_class_folder_is_refused(tmp_path, kind):
    path = make(tmp_path, kind, {"1.png": picture()})
    with pytest.raises(ValueError, match="data.* holds no class folder"):
        find_class_names(path)


@both
@pytest.mark.parametrize("names", [["frog", "dog"], ["frog", "frog"], []])
def test_unusable_class_names_are_refused(tmp_path, kind, names):
    path = make(tmp_path, kind, FILES)
    for function in (find_class_names, load_images_dataset):
        with pytest.raises(ValueError, match="missing, repeat, or have no folder in .*there: Cat, cat, frog"):
            function(path, names)


def test_a_path_twice_in_an_archive_is_refused(tmp_path):
    path = write_zip(tmp_path / "a.zip", {"frog/1.png": picture(), "frog\\1.png": picture(1)})
    with pytest.raises(ValueError, match="a.zip holds 1 paths more than once: frog/1.png"):
        find_class_names(path)


def test_no_archive_and_nothing_at_all(tmp_path):
    (tmp_path / "a.tar").write_bytes(b"text")
    with pytest.raises(ValueError, match="a.tar cannot be read as a zip"):
        find_class_names(tmp_path / "a.tar")
    with pytest.raises(FileNotFoundError, match="there is no folder or archive .*nothing"):
        find_class_names(tmp_path / "nothing")


@both
def test_broken_pictures(tmp_path, kind, caplog):
    path = make(tmp_path, kind, {**FILES, "frog/0.png": b"text", "cat/0.jpg": b""})
    names = find_class_names(path)
    with pytest.raises(InvalidDatasetError, match="2 problems in ") as caught:
        load_images_dataset(path, names)
    assert [problem.file[-9:] for problem in caught.value.problems] == ["cat/0.jpg", "rog/0.png"]
    assert "skip_images" in str(caught.value)
    for on_invalid in ("skip_images", "skip_objects"):
        caplog.clear()
        records = load_images_dataset(path, names, on_invalid)
        assert [record["image_id"] for record in records] == IDS
        assert "2 problems" in caplog.text and "cat/0.jpg" in caplog.text
    with pytest.raises(ValueError, match="on_invalid is 'ignore'"):
        load_images_dataset(path, names, "ignore")


@both
def test_nothing_but_broken_pictures(tmp_path, kind):
    path = make(tmp_path, kind, {"frog/0.png": b"text"})
    with pytest.raises(InvalidDatasetError, match="leaves no image"):
        load_images_dataset(path, ["frog"], "skip_images")


def test_encrypted_member_is_a_problem(tmp_path):
    path = write_zip(tmp_path / "a.zip", {"frog/1.png": picture()})
    content = bytearray(path.read_bytes())
    for start, place in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):  # the flags of both headers
        content[content.index(start) + place] |= 1
    path.write_bytes(bytes(content))
    with pytest.raises(InvalidDatasetError, match="a.zip: frog/1.png: .*encrypted"):
        load_images_dataset(path, ["frog"])


@pytest.fixture
def counted(monkeypatch):
    """How often an archive was listed and how many headers were read."""
    counts = {"listed": 0, "headers": 0}
    list_archive, find = image_folders.open_archive, image_folders.find_unreadable

    def listing(path):
        counts["listed"] += 1
        return list_archive(path)

    def reading(records, description):
        counts["headers"] += len(records)
        return find(records, description)

    monkeypatch.setattr(image_folders, "open_archive", listing)
    monkeypatch.setattr(image_folders, "find_unreadable", reading)
    return counts


def test_an_archive_is_listed_and_its_headers_are_read_once(tmp_path, counted):
    path = make(tmp_path, "zip", {**FILES, "frog/0.png": b"text"})
    names = find_class_names(path)
    first = load_images_dataset(path, names, "skip_images")
    assert load_images_dataset(str(path), names, "skip_images") == first and len(first) == 5
    with pytest.raises(InvalidDatasetError, match="frog/0.png"):
        load_images_dataset(path, names)
    assert counted == {"listed": 1, "headers": 6}
    assert len(load_images_dataset(path, ["cat"])) == 1  # other classes, other headers
    assert counted == {"listed": 1, "headers": 7}


@pytest.mark.parametrize("change", ["size", "time", "replaced"])
def test_a_changed_archive_is_read_again(tmp_path, counted, change):
    path = write_zip(tmp_path / "a.zip", {"frog/1.png": picture()})
    assert load_images_dataset(path, ["frog"])[0]["image_id"] == "frog/1.png"
    before = os.stat(path)
    (tmp_path / "new").mkdir()
    name = "frog/large 2.png" if change == "size" else "frog/2.png"
    new = write_zip(tmp_path / "new/a.zip", {name: picture()})
    if change == "replaced":
        os.replace(new, path)
    else:
        path.write_bytes(new.read_bytes())
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns + (change == "time")))
    assert (os.stat(path).st_size == before.st_size) == (change != "size")
    assert (os.stat(path).st_ino == before.st_ino) == (change != "replaced")
    assert load_images_dataset(path, ["frog"])[0]["image_id"] == name
    assert counted == {"listed": 2, "headers": 2}


def test_a_folder_is_looked_at_each_time(tmp_path, counted):
    path = make(tmp_path, "folder", FILES)
    for number in (5, 10):
        load_images_dataset(path, find_class_names(path))
        assert counted == {"listed": 0, "headers": number}


def test_links_to_folders_are_followed(tmp_path):
    write_tree(tmp_path / "real", {"pond/1.png": picture()})
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "frog").symlink_to(tmp_path / "real", target_is_directory=True)
    (tmp_path / "real" / "lake").symlink_to(write_tree(tmp_path / "far", {"2.png": picture()}))
    assert find_class_names(tmp_path / "data") == ["frog"]
    records = load_images_dataset(tmp_path / "data", ["frog"])
    assert [record["image_id"] for record in records] == ["frog/lake/2.png", "frog/pond/1.png"]


def test_cifar10_out_of_its_archive(shared_data):
    path = shared_data / "cifar10" / "test.zip"
    names = find_class_names(path)
    assert names == "airplane automobile bird cat deer dog frog horse ship truck".split()
    records = load_images_dataset(path, names)
    assert len(records) == 10_000
    assert len({record["image_id"] for record in records}) == 10_000
    assert np.bincount([record["category_id"] for record in records]).tolist() == [1000] * 10
    images = read_images(records[::50], 32)
    assert images.shape == (200, 32, 32, 3)
    assert 110 < images.mean() < 130  # CIFAR-10's mean is 121
