"""What a path holds is found out; what is none or several of the formats is said in one line."""

import json
import shutil

import pytest
from coco_files import coco_content, write_coco
from conftest import write_voc_folder
from detectron2.data import MetadataCatalog
from image_files import picture, write_tree, write_zip

from adapruner_det.data.formats import FORMATS
from adapruner_det.data.recognise import TESTING, recognise
from adapruner_det.data.registration import register_from_spec

IMAGES = {f"{cls}/{n}.png": picture(n) for cls in ("cat", "dog") for n in range(2)}


@pytest.fixture
def voc(tmp_path):
    return write_voc_folder(tmp_path / "mine", {"train": ["a", "b"], "val": ["c"]})


def make_voc(root):
    write_voc_folder(root, {"trainval": ["a", "b"], "train": ["a"], "test": ["c"]})
    return root, f"mine_trainval=voc:{root}:trainval", f"mine_test=voc:{root}:test"


def make_coco(root):
    return write_coco(root, coco_content()), f"mine_instances=coco:{root}/instances.json:{root}/images", ""


def make_coco_tree(root):
    for part in ("train2017", "val2017"):
        file = write_coco(root, coco_content(), f"instances_{part}.json")
        (root / "annotations").mkdir(exist_ok=True)
        shutil.move(file, root / "annotations")
    spec = f"coco:{root}/annotations/instances_{{0}}.json:{root}/images"
    return root, f"mine_train2017={spec.format('train2017')}", f"mine_val2017={spec.format('val2017')}"


def make_yolo(root):
    write_tree(root, {"images/train/a.png": picture(), "images/val/b.png": picture(1), "labels/val/b.txt": b""})
    (root / "data.yaml").write_text("{path: ., train: images/train, val: images/val, names: [cat]}")
    return root / "data.yaml", f"mine_train=yolo:{root}/data.yaml:train", f"mine_val=yolo:{root}/data.yaml:val"


def make_yolo_folder(root):
    _, train, test = make_yolo(root)
    return root, train, test


def make_roboflow(root):
    """As Roboflow writes it, with a data.yaml of another name: train and valid, but no test."""
    files = {f"{split}/images/a.png": picture() for split in ("train", "valid")}
    write_tree(root, {**files, "train/labels/a.txt": b"", "valid/labels/a.txt": b""})
    splits = "train: ../train/images\nval: ../valid/images\ntest: ../test/images"
    (root / "cells.yaml").write_text(f"{splits}\nnames: [cell]\n")
    return root, f"mine_train=yolo:{root}/cells.yaml:train", f"mine_val=yolo:{root}/cells.yaml:val"


def make_roboflow_coco(root):
    content = {"images": [{"file_name": "a.png"}], "annotations": [], "categories": [{"id": 1, "name": "cell"}]}
    write_tree(root, {"a.PNG": picture(), "_annotations.coco.json": json.dumps(content).encode()})
    return root, f"mine=coco:{root}/_annotations.coco.json:{root}", ""


def make_images(root):
    return write_tree(root, IMAGES), f"mine=images:{root}", ""


def make_splits(root):
    write_tree(root, {f"{split}/{name}": content for split in ("train", "test") for name, content in IMAGES.items()})
    return root, f"mine_train=images:{root}/train", f"mine_test=images:{root}/test"


def make_zip(root):
    root.mkdir()
    return write_zip(root / "mine.zip", {**IMAGES, "data.yaml": b"no YOLO data"}), f"mine=images:{root}/mine.zip", ""


@pytest.mark.parametrize(
    "make",
    [
        make_voc,
        make_coco,
        make_coco_tree,
        make_yolo,
        make_yolo_folder,
        make_roboflow,
        make_roboflow_coco,
        make_images,
        make_splits,
        make_zip,
    ],
)
def test_each_format_is_recognised_and_can_be_registered(make, tmp_path, clean_catalogs):
    path, train, test = make(tmp_path / "mine")
    found = recognise(str(path))
    assert (found.spec, found.test) == (train, test)
    for spec in filter(None, (found.spec, found.test)):
        register_from_spec(spec, FORMATS)


def test_a_part_is_taken_when_it_is_named(voc):
    assert recognise(f"{voc}:val").spec == f"mine_val=voc:{voc}:val"
    assert recognise(str(voc), TESTING).spec == f"mine_val=voc:{voc}:val"
    assert recognise(f"voc:{voc}:train").spec == f"mine_train=voc:{voc}:train"
    with pytest.raises(ValueError, match="there is no 'test', but train, val"):
        recognise(f"{voc}:test")


def test_a_list_that_is_trained_on_is_not_tested_on(tmp_path):
    folder = write_voc_folder(tmp_path / "mine", {"trainval": ["a", "b"], "train": ["a"], "val": ["b"]})
    assert recognise(str(folder))[:2] == (f"mine_trainval=voc:{folder}:trainval", "")


def test_a_coco_file_away_from_its_pictures_takes_their_folder(tmp_path):
    (tmp_path / "far.json").write_text(json.dumps({"images": [{"file_name": "gone.jpg"}]}))
    (tmp_path / "pictures").mkdir()
    found = recognise(f"{tmp_path}/far.json:{tmp_path}/pictures")
    assert found.spec.endswith(f"=coco:{tmp_path}/far.json:{tmp_path}/pictures") and not found.test


def test_yolo_s_splits_that_are_not_there_are_left_out_and_said_once(tmp_path, caplog):
    folder, train, test = make_roboflow(tmp_path / "mine")
    assert recognise(str(folder))[:2] == (train, test)
    (warning,) = caplog.messages
    assert warning.startswith(
        f"{folder}/cells.yaml: left out test: {folder}/cells.yaml names ../test/images, but there is"
    )
    with pytest.raises(FileNotFoundError, match="names ../test/images"):
        recognise(f"{folder}/cells.yaml:test")
    shutil.rmtree(folder / "train")  # val does not take its place
    with pytest.raises(FileNotFoundError, match="names ../train/images"):
        recognise(str(folder))
    assert recognise(f"{folder}/cells.yaml:val").spec.endswith("cells.yaml:val")
    assert recognise(str(folder), TESTING[1:]).spec.endswith("cells.yaml:val")  # as --test asks


def test_yolo_s_pictures_without_labels_are_not_evaluated_on(tmp_path):
    folder, _, test = make_yolo_folder(tmp_path / "mine")
    write_tree(folder, {"images/test/c.png": picture(2)})
    (folder / "data.yaml").write_text("{train: images/train, val: images/val, test: images/test, names: [cat]}")
    assert recognise(str(folder)).test == test
    write_tree(folder, {"labels/test/c.txt": b""})
    assert recognise(str(folder)).test.endswith("data.yaml:test")


def coco_of(name):
    return json.dumps({"images": [{"file_name": name}], "annotations": [], "categories": []}).encode()


def test_coco_s_parts_without_pictures_are_left_out_and_said(tmp_path, caplog):
    files = {f"annotations/instances_{part}.json": coco_of("1.jpg") for part in ("train2017", "val2017")}
    folder = write_tree(tmp_path / "mine", {**files, "train2017/1.JPG": b""})
    spec = f"mine_train2017=coco:{folder}/annotations/instances_train2017.json:{folder}/train2017"
    assert recognise(str(folder))[:2] == (spec, "")
    (warning,) = caplog.messages
    assert "left out val2017: " in warning and "its first picture, 1.jpg, is not near it" in warning
    write_tree(folder, {"val2017/1.jpg": b""})
    shutil.rmtree(folder / "train2017")
    with pytest.raises(ValueError, match=r"train2017.json: its first picture, 1\.jpg, is not near it"):
        recognise(str(folder))


@pytest.mark.parametrize("images", ["", "images/"])
def test_of_pictures_with_one_name_those_in_the_part_s_own_folder_are_meant(tmp_path, images):
    folder = write_tree(
        tmp_path, {"annotations/instances_val.json": coco_of("1.jpg"), "images/1.jpg": b"", f"{images}val/1.jpg": b""}
    )
    assert recognise(str(folder)).spec.endswith(f":{folder}/{images}val")


def test_what_is_not_clear_is_said_in_one_line(voc, tmp_path):
    (voc / "data.yaml").write_text("{train: JPEGImages, names: [cat]}")
    others = write_voc_folder(tmp_path / "odd", {"first": ["a"], "second": ["b"]})
    (tmp_path / "empty").mkdir()
    lone = {"images": [{"file_name": "gone.jpg"}], "annotations": [], "categories": []}
    (tmp_path / "lone.json").write_text(json.dumps(lone))
    (tmp_path / "deep.json").write_text('{"info": ' + "[" * 100_000 + "]" * 100_000 + "}")
    (tmp_path / "bare/Annotations").mkdir(parents=True)
    write_tree(tmp_path, {f"roboflow/{part}/images/a.png": picture() for part in ("train", "valid")})
    write_tree(tmp_path, {f"roboflow/{part}/labels/a.txt": b"" for part in ("train", "valid")})
    write_tree(tmp_path, {f"yamls/{name}.yaml": b"{train: a, names: [cat]}" for name in "ab"})
    write_tree(tmp_path, {"studio/result.json": coco_of("images/1.jpg"), "studio/images/1.jpg": picture()})
    write_tree(tmp_path, {"flat/a.png": picture(), "flat/a.xml": b"<annotation/>"})
    write_zip(tmp_path / "packed.zip", {"set/data.yaml": b"", "set/train/labels/a.txt": b""})
    write_tree(tmp_path, {f"labelme/{number}.json": b"{}" if number else coco_of("1.jpg") for number in range(11)})
    cases = {
        voc: f"is a PASCAL VOC folder and a YOLO data set: say which, voc:{voc}:train or yolo:{voc}/data.yaml:train",
        others: f"has first, second: say which, {others}:first",
        tmp_path / "empty": "no data set that is recognised; known are a PASCAL VOC folder",
        tmp_path / "lone.json": "its first picture, gone.jpg, is not near it: name the folder",
        tmp_path / "deep.json": "deep.json is no COCO JSON",
        tmp_path / "bare": "no list of images in ImageSets/Main",
        tmp_path / "roboflow": "has YOLO pictures and labels, but no data.yaml: add one",
        tmp_path / "yamls": f"has a.yaml, b.yaml: give the one that is meant, {tmp_path}/yamls/a.yaml",
        tmp_path / "studio": f"holds COCO JSON: give the file itself, {tmp_path}/studio/result.json",
        tmp_path / "labelme": "no data set that is recognised",
        tmp_path / "flat": "has .xml files: put those of PASCAL VOC in Annotations/",
        tmp_path / "packed.zip": "packed.zip holds a data.yaml: unpack it",
        tmp_path / "nowhere": "there is no ",
    }
    for path, message in cases.items():
        with pytest.raises((ValueError, OSError)) as refused:
            recognise(str(path))
        assert message in str(refused.value) and "\n" not in str(refused.value)


def test_a_coco_file_is_recognised_in_every_encoding_that_is_read(tmp_path):
    (tmp_path / "a.jpg").touch()
    content = {"images": [{"file_name": "a.jpg"}], "annotations": [], "categories": []}
    (tmp_path / "mine.json").write_text(json.dumps(content), encoding="utf-16")
    assert recognise(str(tmp_path / "mine.json")).spec.endswith(f"=coco:{tmp_path}/mine.json:{tmp_path}")


def test_a_split_that_lacks_a_class_is_evaluated_on_with_all_of_them(tmp_path, clean_catalogs):
    pictures = {f"train/{name}/1.png": picture() for name in "abc"}
    found = recognise(str(write_tree(tmp_path / "mine", {**pictures, "val/b/2.png": picture(1)})))
    assert found.test == f"mine_val=images:{tmp_path}/mine/val:a,b,c"
    odd = write_tree(
        tmp_path / "odd", {"train/a,b/1.png": picture(), "train/c/1.png": picture(), "val/c/2.png": picture()}
    )
    assert recognise(str(odd)).test == f"odd_val=images:{odd}/val"
    for spec in (found.spec, found.test):
        assert MetadataCatalog.get(register_from_spec(spec, FORMATS)).thing_classes == ["a", "b", "c"]
