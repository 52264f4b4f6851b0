import copy
import json
import math

import pytest
from coco_files import annotation, coco_content, write_coco
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data.datasets import load_coco_json
from detectron2.structures import BoxMode
from PIL import Image

from adapruner_det.data.coco import coco_content as content_of
from adapruner_det.data.coco import contiguous_ids, load_coco_dataset, read_categories
from adapruner_det.data.detection_registration import FORMATS, register_coco
from adapruner_det.data.registration import register_from_spec
from adapruner_det.data.validation import InvalidDatasetError

CLASSES = ["black", "white"]


pytestmark = pytest.mark.usefixtures("clean_catalogs")


@pytest.fixture
def content():
    return coco_content()


def load(folder, content, on_invalid="error", classes=CLASSES):
    return load_coco_dataset(write_coco(folder, content), folder / "images", classes, on_invalid)


def reload(folder, content, on_invalid="error", classes=CLASSES):
    """As `load`, with the pictures that are there."""
    path = folder / "instances.json"
    path.write_text(json.dumps(content))
    return load_coco_dataset(path, folder / "images", classes, on_invalid)


def messages(folder, content, **options):
    with pytest.raises(InvalidDatasetError) as caught:
        reload(folder, content, **options)
    assert all(problem.file == str(folder / "instances.json") for problem in caught.value.problems)
    return [problem.message for problem in caught.value.problems]


# --- what is read


def test_the_dicts_are_those_of_detectron2s_own_reader(tmp_path, content):
    triangle = [[3.0, 4.0, 20.5, 4.0, 3.0, 30.0], [1.0, 1.0]]  # the second is no polygon
    rle = {"counts": [0, 48 * 64], "size": [48, 64]}
    content["annotations"] += [
        annotation(900, 10, [3.5, 4, 17, 26.25], 7, segmentation=triangle),
        annotation(901, 20, [0, 0, 64, 48], 3, segmentation=rle, iscrowd=1),
    ]
    content["images"].append({"id": 5, "file_name": "none.jpg", "width": 64, "height": 48})
    path = write_coco(tmp_path, content)
    ours = load_coco_dataset(path, str(tmp_path / "images"), CLASSES)
    theirs = load_coco_json(str(path), str(tmp_path / "images"), "oracle", ["id"])
    assert ours == theirs
    assert [record["image_id"] for record in ours] == [5, 10, 20, 30, 40]
    assert ours[0]["annotations"] == []
    assert MetadataCatalog.get("oracle").thing_classes == list(read_categories(path).values())


def test_a_missing_iscrowd_is_0_and_ignore_is_a_crowd(tmp_path, content):
    del content["annotations"][0]["iscrowd"]
    content["annotations"][1]["ignore"] = 1
    first, second = (content["annotations"][i]["id"] for i in (0, 1))
    read = {a["id"]: a for r in load(tmp_path, content) for a in r["annotations"]}
    assert read[first]["iscrowd"] == 0 and read[second]["iscrowd"] == 1


def test_ids_may_be_strings(tmp_path, content):
    for image in content["images"]:
        image["id"] = f"image {image['id']}"
    for entry in content["annotations"]:
        entry["image_id"] = f"image {entry['image_id']}"
    assert [r["image_id"] for r in load(tmp_path, content)] == [f"image {i}0" for i in range(1, 5)]


def test_given_classes_keep_their_order_and_one_the_file_lacks_gets_a_new_id(tmp_path, content):
    path = write_coco(tmp_path, content)
    assert contiguous_ids(read_categories(path), ["white", "red", "black"]) == {7: 0, 8: 1, 3: 2}
    white_first = load_coco_dataset(path, tmp_path / "images", ["white", "red", "black"])
    as_usual = load_coco_dataset(path, tmp_path / "images", CLASSES)
    first, usual = ([a for r in own for a in r["annotations"]] for own in (white_first, as_usual))
    both = {(a["category_id"], b["category_id"]) for a, b in zip(first, usual)}
    assert both == {(0, 1), (2, 0)}


@pytest.mark.parametrize("box", [[-1, -1, 66, 50], [63.9, 0, 1.1, 1]])
def test_a_box_may_stick_out_by_a_pixel(tmp_path, content, box):
    content["annotations"] = [annotation(1, 10, box)]
    assert load(tmp_path, content)[0]["annotations"][0]["bbox"] == box


@pytest.mark.parametrize("segmentation", [[], [[]], None])
def test_boxes_alone_need_no_segmentation(tmp_path, content, segmentation):
    content["annotations"] = [annotation(1, 10, [1, 1, 5, 5], segmentation=segmentation)]
    assert "segmentation" not in load(tmp_path, content)[0]["annotations"][0]


def test_a_size_is_compared_after_the_turn_that_exif_asks_for(tmp_path, content):
    write_coco(tmp_path, content)
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (48, 64)).save(tmp_path / "images/sub/10.jpg", exif=exif)
    assert reload(tmp_path, content)[0]["width"] == 64


# --- what is reported

BAD_OBJECTS = {
    "no box": ({"bbox": None}, "bbox is None, not [x, y, width, height]"),
    "three numbers": ({"bbox": [1, 2, 3]}, "bbox is [1, 2, 3], not [x, y, width, height]"),
    "text": ({"bbox": ["1", "2", "3", "4"]}, "bbox is ['1', '2', '3', '4'], not four numbers"),
    "nan": ({"bbox": [1, 2, math.nan, 4]}, "bbox is [1, 2, nan, 4], not four numbers"),
    "infinite": ({"bbox": [1, 2, 3, math.inf]}, "bbox is [1, 2, 3, inf], not four numbers"),
    "no width": ({"bbox": [1, 2, 0, 4]}, "bbox [1, 2, 0, 4] has no area"),
    "negative": ({"bbox": [9, 9, 3, -4]}, "bbox [9, 9, 3, -4] has no area"),
    "right": ({"bbox": [60, 2, 5.5, 4]}, "bbox [60, 2, 5.5, 4] is outside the 64 x 48 image"),
    "left": ({"bbox": [-1.5, 2, 5, 4]}, "bbox [-1.5, 2, 5, 4] is outside the 64 x 48 image"),
    "below": ({"bbox": [0, 40, 5, 9.5]}, "bbox [0, 40, 5, 9.5] is outside the 64 x 48 image"),
    "edge": ({"bbox": [64, 2, 1, 4]}, "bbox [64, 2, 1, 4] has no area within the 64 x 48 image"),
    "category": ({"category_id": 4}, "category 4 is not one of the classes"),
    "crowd": ({"iscrowd": 2}, "iscrowd and ignore are (2, 0), not 0 or 1"),
    "line": (
        {"segmentation": [[1, 2, 3, 4]]},
        "segmentation has no polygon of three points or more; an empty one is fine",
    ),
    "mask": ({"segmentation": {"counts": 3}}, "segmentation is no RLE with counts and size"),
    "corner": (
        {"segmentation": [[1, 2, 3, 4, 5, None]]}, "segmentation has a coordinate that is no number",
    ),
    "other size": (
        {"segmentation": {"counts": [0, 48 * 64], "size": [64, 48]}},
        "segmentation is an RLE of size [64, 48], not [height, width] of the image, [48, 64]",
    ),
}  # fmt: skip


@pytest.mark.parametrize("change, message", BAD_OBJECTS.values(), ids=BAD_OBJECTS)
def test_a_bad_object_is_named_and_can_be_dropped(tmp_path, content, change, message):
    write_coco(tmp_path, content)
    bad = content["annotations"][0]
    bad.update(change)
    name = {3: " (black)", 7: " (white)"}.get(bad["category_id"], "")
    expected = f"annotation {bad['id']}{name} of image {bad['image_id']}: {message}"
    assert messages(tmp_path, content) == [expected]
    left = reload(tmp_path, content, "skip_objects")
    assert len(left) == 4
    assert bad["id"] not in {a["id"] for record in left for a in record["annotations"]}
    left = reload(tmp_path, content, "skip_images")
    assert bad["image_id"] not in {record["image_id"] for record in left} and len(left) == 3


def change_size(folder, content):
    content["images"][0]["width"] = 65


def remove_file(folder, content):
    (folder / "images" / content["images"][0]["file_name"]).unlink()


def break_file(folder, content):
    (folder / "images" / content["images"][0]["file_name"]).write_text("no picture")


def remove_name(folder, content):
    del content["images"][0]["file_name"]


def remove_height(folder, content):
    del content["images"][0]["height"]


def repeat_image(folder, content):
    content["images"].append(dict(content["images"][0]))


@pytest.mark.parametrize(
    "spoil, message",
    [
        (change_size, "size is 65 x 48, but that of {file} is 64 x 48"),
        (remove_file, "there is no {file}"),
        (break_file, "{file} is not readable as an image"),
        (remove_name, "has no file_name"),
        (remove_height, "{file}: width or height is missing"),
        (repeat_image, "this id occurs more than once"),
    ],
)
def test_an_image_of_no_use_is_named_once_and_dropped_with_its_objects(tmp_path, content, spoil, message):
    write_coco(tmp_path, content)
    image_id, file = content["images"][0]["id"], content["images"][0]["file_name"]
    spoil(tmp_path, content)
    (found,) = messages(tmp_path, content)
    assert found.startswith(f"image {image_id}: {message.format(file=tmp_path / 'images' / file)}")
    for on_invalid in ("skip_objects", "skip_images"):
        left = reload(tmp_path, content, on_invalid)
        assert [record["image_id"] for record in left] == [10, 20, 30]


def test_all_problems_come_at_once(tmp_path, content):
    write_coco(tmp_path, content)
    change_size(tmp_path, content)
    last = content["annotations"][-1]
    last["bbox"] = [1, 1, 0, 0]
    content["annotations"] += [
        annotation(last["id"], 20, [1, 1, 5, 5]),
        annotation(990, 77, [1, 1, 5, 5]),
        annotation(991, "20", [1, 1, 5, 5]),
    ]
    found = messages(tmp_path, content)
    assert len(found) == 5
    assert "this id occurs more than once" in found[2]
    assert found[3:] == [
        f"annotation {n} (black) of image {i!r}: there is no such image in the file"
        for n, i in ((990, 77), (991, "20"))
    ]
    left = reload(tmp_path, content, "skip_objects")
    assert [record["image_id"] for record in left] == [10, 20, 30]


def test_when_no_image_is_left_that_is_an_error_too(tmp_path, content):
    write_coco(tmp_path, content)
    for image in content["images"]:
        image["width"] = 1
    with pytest.raises(InvalidDatasetError, match="leaves no image"):
        reload(tmp_path, content, "skip_images")


@pytest.mark.parametrize("on_invalid", ["error", "skip_objects"])
def test_without_ids_the_file_is_refused_whatever_on_invalid_says(tmp_path, content, on_invalid):
    write_coco(tmp_path, content)
    del content["images"][1]["id"]
    del content["annotations"][0]["image_id"], content["annotations"][0]["category_id"]
    content["annotations"][1] = "text"
    content["annotations"][2]["id"] = [1]
    assert messages(tmp_path, content, on_invalid=on_invalid) == [
        "entry 2 of images: id missing, or no integer or string",
        "entry 1 of annotations: image_id, category_id missing, or no integer or string",
        "entry 2 of annotations: id, image_id, category_id missing, or no integer or string",
        "entry 3 of annotations: id missing, or no integer or string",
    ]


def test_ids_of_two_kinds_are_refused(tmp_path, content):
    write_coco(tmp_path, content)
    content["images"][0]["id"] = "40"
    assert messages(tmp_path, content) == ["some image ids are integers and some are strings"]


@pytest.mark.parametrize(
    "text, message",
    [
        ("{", "is not readable as JSON"),
        ("[]", "has no list 'images', 'annotations', 'categories'"),
        ('{"images": [], "categories": {}}', "has no list 'annotations', 'categories'"),
        ('{"images": [], "annotations": [], "categories": []}', "'categories' is empty"),
        ('{"images": [], "annotations": [], "categories": [{"id": 1, "name": "a"}]}', "lists no image"),
        ('{"images": [], "annotations": [], "categories": [{"id": "1", "name": "a"}]}', "integer id"),
    ],
)
def test_a_file_of_another_kind_is_refused_by_name(tmp_path, text, message):
    path = tmp_path / "instances.json"
    path.write_text(text)
    with pytest.raises(ValueError) as caught:
        load_coco_dataset(path, tmp_path, CLASSES)
    assert message in str(caught.value) and str(path) in str(caught.value)


@pytest.mark.parametrize("other", [{"id": 3, "name": "red"}, {"id": 4, "name": "black"}])
def test_categories_that_repeat_are_refused(tmp_path, content, other):
    content["categories"] = [*content["categories"], other]
    with pytest.raises(ValueError, match="the id or the name repeats"):
        read_categories(write_coco(tmp_path, content))


# --- registration


def test_registered_by_a_spec(tmp_path, content, monkeypatch):
    write_coco(tmp_path, content)
    monkeypatch.setenv("DETECTRON2_DATASETS", str(tmp_path))
    register_from_spec("mine=coco:instances.json:images", FORMATS)
    register_from_spec("turned=coco:instances.json:images:white, black", FORMATS, "skip_images")
    assert MetadataCatalog.get("mine").as_dict() == {
        "name": "mine",
        "thing_classes": CLASSES,
        "thing_dataset_id_to_contiguous_id": {3: 0, 7: 1},
        "json_file": str(tmp_path / "instances.json"),
        "image_root": str(tmp_path / "images"),
        "on_invalid": "error",
        "evaluator_type": "coco",
    }
    turned = MetadataCatalog.get("turned")
    assert (turned.thing_classes, turned.on_invalid) == (["white", "black"], "skip_images")
    assert turned.thing_dataset_id_to_contiguous_id == {7: 0, 3: 1}
    assert len(DatasetCatalog.get("mine")) == len(DatasetCatalog.get("turned")) == 4


@pytest.mark.parametrize(
    "spec, message",
    [
        ("mine=coco:{}/instances.json", "FILE.json or IMAGE_DIR is missing"),
        ("mine=coco:{}/instance.json:{}/images", "there is no {}/instance.json"),
        ("mine=coco:{}/instances.json:{}/image", "there is no {}/image"),
        ("mine=coco:{}/images:{}/instances.json", "{}/images is no file"),
        ("mine=coco:{}/images/sub/10.jpg:{}/images", "not readable as JSON"),
    ],
)
def test_a_bad_spec_is_named_with_the_right_form(tmp_path, content, spec, message):
    write_coco(tmp_path, content)
    with pytest.raises(ValueError) as caught:
        register_from_spec(spec.replace("{}", str(tmp_path)), FORMATS)
    assert message.replace("{}", str(tmp_path)) in str(caught.value)
    assert "NAME=coco:FILE.json:IMAGE_DIR" in str(caught.value)
    assert "mine" not in DatasetCatalog


def test_a_name_is_not_taken_over(tmp_path, content):
    path = write_coco(tmp_path, content)
    register_coco("mine", path, tmp_path / "images")
    register_coco("mine", str(path), str(tmp_path / "images"), ("black", "white"))
    with pytest.raises(ValueError, match="'mine' is already registered with on_invalid"):
        register_coco("mine", path, tmp_path / "images", on_invalid="skip_images")
    with pytest.raises(ValueError, match="class names are missing or repeat"):
        register_coco("other", path, tmp_path / "images", ["black", "black"])


# --- written


def test_what_is_written_reads_the_same(tmp_path, content):
    content["annotations"][0].update(iscrowd=1, segmentation=[[1, 1, 9, 1, 9, 9]])
    records = load(tmp_path, content)
    again = tmp_path / "again.json"
    again.write_text(json.dumps(content_of(records, CLASSES, tmp_path / "images")))
    reread = load_coco_dataset(again, tmp_path / "images", CLASSES)
    assert [record["image_id"] for record in reread] == [1, 2, 3, 4]
    for before, after in zip(copy.deepcopy(records), reread):
        before["image_id"] = after["image_id"]
        for one, other in zip(before["annotations"], after["annotations"]):
            one["id"] = other["id"]
        assert before == after


def test_corners_become_edges(tmp_path):
    records = [
        {
            "file_name": "a/b.jpg",
            "width": 9,
            "height": 8,
            "annotations": [
                {"bbox": [1.1, 2, 4.4, 6], "bbox_mode": BoxMode.XYXY_ABS, "category_id": 1, "difficult": 1}
            ],
        }
    ]
    content = content_of(records, CLASSES, "a")
    (written,) = content["annotations"]
    assert written.pop("bbox") == pytest.approx([1.1, 2, 3.3, 4], abs=1e-12)
    assert written.pop("area") == pytest.approx(13.2)
    assert written == {"id": 1, "image_id": 1, "category_id": 2, "iscrowd": 0, "difficult": 1}
    assert content["images"] == [{"id": 1, "file_name": "b.jpg", "width": 9, "height": 8}]
