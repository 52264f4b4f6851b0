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
    write_tree(root, {"images/train/a.png": picture(), "images/val/b.png": picture(1)})
    (root / "data.yaml").write_text("{path: ., train: images/train, val: images/val, names: [cat]}")
    return root / "data.yaml", f"mine_train=yolo:{root}/data.yaml:train", f"mine_val=yolo:{root}/data.yaml:val"


def make_yolo_folder(root):
    _, train, test = make_yolo(root)
    return root, train, test


def make_images(root):
    return write_tree(root, IMAGES), f"mine=images:{root}", ""


def make_splits(root):
    write_tree(root, {f"{split}/{name}": content for split in ("train", "test") for name, content in IMAGES.items()})
    return root, f"mine_train=images:{root}/train", f"mine_test=images:{root}/test"


def make_zip(root):
    root.mkdir()
    return write_zip(root / "mine.zip", IMAGES), f"mine=images:{root}/mine.zip", ""


@pytest.mark.parametrize(
    "make", [make_voc, make_coco, make_coco_tree, make_yolo, make_yolo_folder, make_images, make_splits, make_zip]
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


def test_what_is_not_clear_is_said_in_one_line(voc, tmp_path):
    (voc / "data.yaml").write_text("{train: JPEGImages, names: [cat]}")
    others = write_voc_folder(tmp_path / "odd", {"first": ["a"], "second": ["b"]})
    (tmp_path / "empty").mkdir()
    lone = {"images": [{"file_name": "gone.jpg"}], "annotations": [], "categories": []}
    (tmp_path / "lone.json").write_text(json.dumps(lone))
    (tmp_path / "deep.json").write_text('{"info": ' + "[" * 100_000 + "]" * 100_000 + "}")
    (tmp_path / "bare/Annotations").mkdir(parents=True)
    cases = {
        voc: f"is a PASCAL VOC folder and a YOLO data set: say which, voc:{voc}:train or yolo:{voc}/data.yaml:train",
        others: f"has first, second: say which, {others}:first",
        tmp_path / "empty": "no data set that is recognised; known are a PASCAL VOC folder",
        tmp_path / "lone.json": "its first picture, gone.jpg, is not near it: name the folder",
        tmp_path / "deep.json": "deep.json is no COCO JSON",
        tmp_path / "bare": "no list of images in ImageSets/Main",
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
