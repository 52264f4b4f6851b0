import copy
import json
import math
from typing import Any

import numpy as np
import pycocotools.mask
import pytest
from coco_files import annotation, coco_content, write_coco
from detectron2.data import MetadataCatalog
from detectron2.data.datasets import load_coco_json
from detectron2.structures import BoxMode
from PIL import Image

from adapruner_det.data import coco, coco_json
from adapruner_det.data.coco import coco_content as content_of
from adapruner_det.data.coco import contiguous_ids, load_coco_dataset, read_categories
from adapruner_det.data.validation import InvalidDatasetError
from adapruner_det.evaluation.coco_ap import ground_truth

CLASSES = ["black", "white"]
pytestmark = pytest.mark.usefixtures("clean_catalogs")


@pytest.fixture
def content(tmp_path):
    """Of a file in `tmp_path` whose pictures are there."""
    write_coco(tmp_path, coco_content())
    return coco_content()


def load(folder, content, on_invalid="error", classes=CLASSES):
    path = folder / "instances.json"
    path.write_text(json.dumps(content))
    return load_coco_dataset(path, folder / "images", classes, on_invalid)


def messages(folder, content, **options):
    with pytest.raises(InvalidDatasetError) as caught:
        load(folder, content, **options)
    assert all(problem.file == str(folder / "instances.json") for problem in caught.value.problems)
    return [problem.message for problem in caught.value.problems]


def objects(records):
    return {a["id"]: a for record in records for a in record["annotations"]}


def ids_of(records):
    return [record["image_id"] for record in records]


@pytest.mark.parametrize("on_invalid", ["clip", "error", "skip_objects", "skip_images"])
@pytest.mark.parametrize("faulty", [False, True])
def test_annotations_with_the_usual_types_are_read_as_any_others(tmp_path, content, monkeypatch, on_invalid, faulty):
    square = [5, 6, 9.5, 6, 9.5, 12.25]
    more = [
        {"bbox": [0, 1, 63, 47], "iscrowd": 1},
        {"segmentation": [square, [1, 1]], "ignore": 1},
        {"bbox": [1.5, 2, 3, 4e0]},
        {"category_id": 9},
    ]
    if faulty:
        more += [
            {"bbox": [60, 40, 9, 9]},
            {"bbox": [1, 2, 0, 4]},
            {"image_id": 77},
            {"id": 100},
            {"category_id": 8},
            {"segmentation": [[1, 2, 3]]},
            {"segmentation": [[], []]},
            {"segmentation": [["x", 1], [None], square]},  # what is no polygon is left out
            {"segmentation": [[1, 2, 300, 4, 5, 6]]},
        ]
    content["categories"] = [*content["categories"], {"id": 9, "name": "other"}]
    for number, fields in enumerate(more, start=500):
        content["annotations"].append({**annotation(number, 10, [4, 5, 20, 30]), **fields})

    def result():
        try:
            return load(tmp_path, content, on_invalid)
        except InvalidDatasetError as error:
            return error.problems

    typed = result()
    monkeypatch.setattr(coco_json, "PlainAnnotation", Any)
    coco._load.cache_clear()
    assert typed == result() and len(typed) > 2


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
    assert ours == load_coco_json(str(path), str(tmp_path / "images"), "oracle", ["id"])
    assert ids_of(ours) == [5, 10, 20, 30, 40] and ours[0]["annotations"] == []
    assert MetadataCatalog.get("oracle").thing_classes == list(read_categories(path).values())


def test_what_other_tools_write_is_read(tmp_path, content):
    """No iscrowd, `ignore`, ids that are strings, boxes a pixel outside, segmentations without content."""
    del content["annotations"][0]["iscrowd"]
    content["annotations"][1]["ignore"] = 1
    content["annotations"] += [
        annotation(901, 10, [-1, -1, 66, 50], segmentation=[[]]),
        annotation(902, 10, [63.9, 0, 1.1, 1], segmentation=None),
    ]
    for image in content["images"]:
        image["id"] = f"image {image['id']}"
    for entry in content["annotations"]:
        entry["image_id"] = f"image {entry['image_id']}"
    records = load(tmp_path, content)
    assert ids_of(records) == [f"image {i}0" for i in range(1, 5)]
    read = objects(records)
    assert [read[entry["id"]]["iscrowd"] for entry in content["annotations"][:2]] == [0, 1]
    assert [read[i]["bbox"] for i in (901, 902)] == [[-1, -1, 66, 50], [63.9, 0, 1.1, 1]]
    assert not any("segmentation" in a for a in read.values())


def test_given_classes_keep_their_order_and_one_the_file_lacks_gets_a_new_id(tmp_path, content):
    usual = objects(load(tmp_path, content))
    classes = ["white", "red", "black"]
    assert contiguous_ids(read_categories(tmp_path / "instances.json"), classes) == {7: 0, 8: 1, 3: 2}
    turned = objects(load(tmp_path, content, classes=classes))
    assert {(turned[i]["category_id"], usual[i]["category_id"]) for i in usual} == {(0, 1), (2, 0)}


def test_a_size_is_compared_after_the_turn_that_exif_asks_for(tmp_path, content):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (48, 64)).save(tmp_path / "images/sub/10.jpg", exif=exif)
    assert load(tmp_path, content)[0]["width"] == 64


BROKEN = "segmentation is a broken RLE: its runs do not add up to the image"
RLE = {"counts": [0, 48 * 64], "size": [64, 48]}
BAD_OBJECTS = [
    ({"bbox": None}, "bbox is None, not [x, y, width, height]"),
    ({"bbox": [1, 2, 3]}, "bbox is [1, 2, 3], not [x, y, width, height]"),
    ({"bbox": ["1", "2", "3", "4"]}, "bbox is ['1', '2', '3', '4'], not four numbers"),
    ({"bbox": [1, 2, math.nan, 4]}, "bbox is [1, 2, nan, 4], not four numbers"),
    ({"bbox": [1, 2, 0, 4]}, "bbox [1, 2, 0, 4] has no area"),
    ({"bbox": [9, 9, 3, -4]}, "bbox [9, 9, 3, -4] has no area"),
    ({"bbox": [60, 2, 9, 4]}, "bbox [60, 2, 9, 4] is outside the 64 x 48 image"),
    ({"bbox": [-5.5, 2, 9, 4]}, "bbox [-5.5, 2, 9, 4] is outside the 64 x 48 image"),
    ({"bbox": [1, 10**30, 4.5, 4.5]}, "bbox [1, 1e+30, 4.5, 4.5] has no area"),
    ({"bbox": [1, 2, 1e300, 4]}, "bbox [1, 2, 1e+300, 4] is outside the 64 x 48 image"),
    ({"bbox": [64, 2, 1, 4]}, "bbox [64, 2, 1, 4] has no area within the 64 x 48 image"),
    ({"category_id": 4}, "category 4 is not in the file"),
    ({"iscrowd": 2}, "iscrowd and ignore are (2, 0), not 0 or 1"),
    ({"segmentation": [[1, 2, 3, 4]]}, "segmentation has no polygon of three points or more; an empty one is fine"),
    ({"segmentation": {"counts": 3}}, "segmentation is no RLE with counts and size"),
    ({"segmentation": [[1, 2, 3, 4, 5, None]]}, "segmentation has a coordinate that is no number"),
    ({"segmentation": "x"}, "segmentation is neither a list of polygons nor an RLE"),
    ({"segmentation": [[1, 2, 3, 4, 1e7, 6]]}, "segmentation has points far outside the 64 x 48 image"),
    ({"segmentation": {"counts": [9, 48 * 64], "size": [48, 64]}}, BROKEN),
    ({"segmentation": {"counts": [0, 48 * 65, -48], "size": [48, 64]}}, BROKEN),
    ({"segmentation": {"counts": [0.5, 48 * 64 - 0.5], "size": [48, 64]}}, BROKEN),
    (
        {"segmentation": {"counts": "PPQ3\u00e9", "size": [48, 64]}},
        "segmentation is a broken RLE: its counts are no run lengths",
    ),
    (
        {"segmentation": {"counts": "0P", "size": [48, 64]}},
        "segmentation is a broken RLE: its counts end in the middle of a run",
    ),
    ({"segmentation": {"counts": "0123", "size": [48, 64]}}, BROKEN),
    ({"iscrowd": []}, "iscrowd and ignore are ([], 0), not 0 or 1"),
    ({"bbox": [True, True, 20, 20]}, "bbox is [True, True, 20, 20], not four numbers"),
    ({"bbox": [10**400, -(10**400), 20, 20]}, f"bbox is {[10**400, -(10**400), 20, 20]!r:.80}, not four numbers"),
    ({"segmentation": [[10**400, -(10**400), 9, 1, 9, 9]]}, "segmentation has a coordinate that is no number"),
    ({"segmentation": RLE}, "segmentation is an RLE of size [64, 48], not [height, width] of the image, [48, 64]"),
]


@pytest.mark.parametrize("change, message", BAD_OBJECTS)
def test_a_bad_object_is_named_and_its_image_can_be_dropped(tmp_path, content, change, message):
    bad = content["annotations"][0]
    bad.update(change)
    name = {3: " (black)", 7: " (white)"}.get(bad["category_id"], "")
    assert messages(tmp_path, content) == [f"annotation {bad['id']}{name} of image {bad['image_id']}: {message}"]
    with pytest.raises(InvalidDatasetError):
        load(tmp_path, content, "clip")
    left = load(tmp_path, content, "skip_objects")
    # A box without area shows nothing, so nothing is lost without it.
    assert ids_of(left) == [10, 20, 30, 40][: 4 if bad["bbox"] == [1, 2, 0, 4] else 3] and bad["id"] not in objects(
        left
    )
    assert ids_of(load(tmp_path, content, "skip_images")) == [10, 20, 30]


@pytest.mark.parametrize("box, clipped", [
    ([60, 2, 5.5, 4], [60, 2, 4, 4]), ([-1.5, 2, 5, 4], [0, 2, 3.5, 4]), ([0, 40, 5, 9.5], [0, 40, 5, 8]),
])  # fmt: skip
def test_a_box_that_sticks_out_is_clipped_and_counted(tmp_path, content, box, clipped, caplog):
    bad = content["annotations"][0]
    bad["bbox"] = box
    assert objects(load(tmp_path, content, "clip"))[bad["id"]]["bbox"] == clipped
    assert "1 boxes stick out of their image and are clipped (1 images: 40)" in caplog.text
    assert messages(tmp_path, content)[0].endswith("is outside the 64 x 48 image")


def test_classes_that_are_not_asked_for_are_left_out_and_counted(tmp_path, content, caplog):
    json_file = write_coco(tmp_path, content)
    black = [a["id"] for a in content["annotations"] if a["category_id"] == 3]
    records = load_coco_dataset(json_file, tmp_path / "images", ["black"])
    assert sorted(objects(records)) == black and ids_of(records) == [10, 20, 30, 40]
    assert {own["category_id"] for own in objects(records).values()} == {0}
    white = len(content["annotations"]) - len(black)
    assert f"{white} objects of other classes are left out, as if not labelled: white ({white})" in caplog.text
    with pytest.raises(ValueError, match="has no class blakc, but black, which was not asked for: correct"):
        load_coco_dataset(json_file, tmp_path / "images", ["white", "blakc"])


def test_boxes_of_corners_are_noticed(tmp_path, content):
    own = content["annotations"][0]
    boxes = [[3 * n, 2, 3 * n + 12, 20] for n in range(12)]  # of these as [x, y, width, height] nine stick out little
    content["annotations"] = [{**own, "id": n, "bbox": box} for n, box in enumerate(boxes)]
    with pytest.raises(
        ValueError,
        match=r"instances.json: .* of 12 boxes do not fit .* if the four numbers were \[x1, y1, x2, y2\]: write",
    ):
        load(tmp_path, content, "clip")


def test_compressed_masks_are_checked_as_pycocotools_reads_them(tmp_path, content):
    rng = np.random.default_rng(0)
    masks = [rng.random((48, 64)) < share for share in (0, 0.01, 0.5, 1)]
    masks.append(np.kron(rng.random((3, 4)) < 0.5, np.ones((16, 16), bool)))
    bad = content["annotations"][0]
    for mask in masks:
        rle = pycocotools.mask.encode(np.asfortranarray(mask.astype(np.uint8)))
        bad["segmentation"] = {"size": rle["size"], "counts": rle["counts"].decode()}
        read = objects(load(tmp_path, content))[bad["id"]]["segmentation"]
        assert np.array_equal(pycocotools.mask.decode(read), mask)


def test_what_roboflow_and_others_write_is_read(tmp_path, content):
    """A category above the classes, quoted category ids, iscrowd null, sizes of -1, back-slashes, another spelling."""
    usual = load(tmp_path, content)
    for name in ("squares", "black"):
        changed = copy.deepcopy(content)
        root = {"id": 0, "name": name, "supercategory": "none"}
        changed["categories"] = [root] + [
            {**c, "supercategory": name, "id": str(c["id"])} for c in content["categories"]
        ]
        for entry in changed["annotations"]:
            entry.update(
                category_id=str(entry["category_id"]), image_id=str(entry["image_id"]), iscrowd=None, ignore=None
            )
        for image in changed["images"]:
            image.update(width=-1, height=None, file_name=image["file_name"].replace("/", "\\"))
        changed["images"][0]["file_name"] = "sub/40.JPG"
        assert load(tmp_path, changed) == usual
        assert read_categories(tmp_path / "instances.json") == {3: "black", 7: "white"}
        truth = ground_truth(changed, usual, {3: "black", 7: "white"})
        assert len(truth["annotations"]) == len(content["annotations"]) and truth["images"][0]["width"] == 64


def test_a_picture_that_lies_elsewhere_is_pointed_to(tmp_path, content):
    name = content["images"][0]["file_name"]
    content["images"][0]["file_name"] = "C:\\data\\" + name.replace("sub/", "")
    (tmp_path / "images" / name).rename(tmp_path / "images/40.jpg")
    (message,) = messages(tmp_path, content)
    assert message.endswith(f", but {tmp_path}/images/40.jpg: 'file_name' has to be relative to the folder of images")


def test_what_is_read_but_may_be_meant_otherwise_is_said(tmp_path, content, caplog):
    content["images"][1]["file_name"] = content["images"][0]["file_name"]
    content["annotations"][0]["attributes"] = {"rotation": 12.5, "occluded": False}
    load(tmp_path, content)
    assert "1 pictures are one file under two image ids (1 images: 40 = 30)" in caplog.text
    assert "1 boxes are rotated by CVAT's attributes; they are read unrotated (1 images: 40)" in caplog.text


@pytest.mark.parametrize(
    "change, text, message",
    [
        ({"width": 10**400}, "", "width is 1000000000000000000000000000000000000000, not a number of pixels"),
        ({"width": 65}, "", "size is 65 x 48, but that of {file} is 64 x 48"),
        ({"file_name": "gone.jpg"}, "", "there is no {root}/gone.jpg"),
        ({"file_name": "data/instances.json"}, "", "there is no {root}/data/instances.json"),
        ({"file_name": None}, "", "has no file_name"),
        ({"height": "48"}, "", "height is '48', not a number"),
        ({}, "no picture", "{file} is not readable as an image"),
        ({"id": 30}, "", "this id occurs more than once"),
    ],
)
def test_an_image_of_no_use_is_named_once_and_dropped_with_its_objects(tmp_path, content, change, text, message):
    image = content["images"][0]
    root, file = tmp_path / "images", tmp_path / "images" / image["file_name"]
    if text:
        file.write_text(text)
    image.update(change)
    content["annotations"] = [a for a in content["annotations"] if a["image_id"] != 40 or "id" not in change]
    (found,) = messages(tmp_path, content)
    assert found.startswith(f"image {image['id']}: {message.format(file=file, root=root)}")
    for on_invalid in ("skip_objects", "skip_images"):
        assert ids_of(load(tmp_path, content, on_invalid)) == [i for i in (10, 20, 30) if i != change.get("id")]


def test_all_problems_come_at_once(tmp_path, content):
    content["images"][0]["width"] = 65
    last = content["annotations"][-1]
    last["bbox"] = [1, 1, 0, 0]
    more = [(last["id"], 20), (990, 77), (991, "no")]
    content["annotations"] += [annotation(number, image_id, [1, 1, 5, 5]) for number, image_id in more]
    found = messages(tmp_path, content)
    assert len(found) == 5 and "this id occurs more than once" in found[2]
    absent = [f"annotation {n} (black) of image {i!r}: there is no such image in the file" for n, i in more[1:]]
    assert found[3:] == absent
    assert ids_of(load(tmp_path, content, "skip_objects")) == [10, 30]
    for image in content["images"]:
        image["width"] = 1
    with pytest.raises(InvalidDatasetError, match="leaves no image"):
        load(tmp_path, content, "skip_images")


@pytest.mark.parametrize("on_invalid", ["error", "skip_objects"])
def test_without_ids_the_file_is_refused_whatever_on_invalid_says(tmp_path, content, on_invalid):
    content["images"][0]["id"] = "40"
    kinds = "some image ids are integers and some are strings"
    assert messages(tmp_path, content, on_invalid=on_invalid) == [kinds]
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


def test_ids_that_would_break_a_list_are_refused(tmp_path, content):
    content["images"] = [{**content["images"][0], "id": "a\nb"}]
    content["annotations"] = []
    assert messages(tmp_path, content) == ["entry 1 of images: id 'a\\nb' has control characters or line breaks"]


@pytest.mark.parametrize(
    "text, message",
    [
        ("{", "is not readable as JSON"),
        ("[" * 100_000, "is not readable as JSON"),
        ("[]", "has no list 'images', 'annotations', 'categories'"),
        ('{"images": [], "categories": {}}', "has no list 'annotations', 'categories'"),
        ('{"images": [], "annotations": [], "categories": []}', "'categories' is empty"),
        ('{"images": [], "annotations": [], "categories": [{"id": 1, "name": "a"}]}', "lists no image"),
        ('{"images": [], "annotations": [], "categories": [{"id": "x", "name": "a"}]}', "integer id"),
        (
            '{"images": [], "annotations": [], "categories": [{"id": 1, "name": "a"}, {"id": 1, "name": "b"}]}',
            "repeats",
        ),
        (
            '{"images": [], "annotations": [], "categories": [{"id": 1, "name": "a"}, {"id": 2, "name": "a"}]}',
            "repeats",
        ),
    ],
)
def test_a_file_of_another_kind_is_refused_by_name(tmp_path, text, message):
    path = tmp_path / "instances.json"
    path.write_text(text)
    with pytest.raises(ValueError) as caught:
        load_coco_dataset(path, tmp_path, CLASSES)
    assert message in str(caught.value) and str(path) in str(caught.value)


@pytest.mark.parametrize("change", ["emptied", "cut", "replaced"])
def test_a_file_that_changes_while_it_is_read_is_refused(tmp_path, content, monkeypatch, change):
    path = tmp_path / "instances.json"
    path.write_text(json.dumps(content))

    def changed(*_):
        text = path.read_text()
        if change == "replaced":  # by one as long
            (tmp_path / "new.json").write_text(text.replace('"category_id": 1', '"category_id": 2'))
            (tmp_path / "new.json").replace(path)
        else:
            path.write_text(text[: len(text) // 2] if change == "cut" else "")

    monkeypatch.setattr(coco, "inspect_pictures", changed)
    with pytest.raises(ValueError, match="instances.json has changed while it was read"):
        load_coco_dataset(path, tmp_path / "images", CLASSES)


def test_a_box_beyond_all_numbers_is_refused_without_a_warning(tmp_path, content, recwarn):
    content["annotations"][0]["bbox"] = [1e308] * 4
    assert "not four numbers" in messages(tmp_path, content)[0]
    assert not [warning for warning in recwarn if issubclass(warning.category, RuntimeWarning)]


def test_what_is_written_reads_the_same(tmp_path, content):
    content["annotations"][0].update(iscrowd=1, segmentation=[[1, 1, 9, 1, 9, 9]])
    records = load(tmp_path, content)
    again = load(tmp_path, content_of(records, CLASSES, tmp_path / "images"))
    assert ids_of(again) == [1, 2, 3, 4]
    for before, after in zip(copy.deepcopy(records), again, strict=True):
        before["image_id"] = after["image_id"]
        for one, other in zip(before["annotations"], after["annotations"], strict=True):
            one["id"] = other["id"]
        assert before == after


def test_corners_become_edges():
    box = {"bbox": [1.1, 2, 4.4, 6], "bbox_mode": BoxMode.XYXY_ABS, "category_id": 1, "difficult": 1}
    content = content_of([{"file_name": "a/b.jpg", "width": 9, "height": 8, "annotations": [box]}], CLASSES, "a")
    (written,) = content["annotations"]
    assert written.pop("bbox") == pytest.approx([1.1, 2, 3.3, 4], abs=1e-12)
    assert written.pop("area") == pytest.approx(13.2)
    assert written == {"id": 1, "image_id": 1, "category_id": 2, "iscrowd": 0, "difficult": 1}
    assert content["images"] == [{"id": 1, "file_name": "b.jpg", "width": 9, "height": 8}]


def test_boxes_that_are_shares_of_the_picture_are_noticed(tmp_path, content):
    own = content["annotations"][0]
    content["annotations"] = [{**own, "id": n, "bbox": [0.06, 0.08, 0.25, 0.01 * n + 0.1]} for n in range(10)]
    with pytest.raises(
        ValueError, match="instances.json: all 10 boxes lie in the first pixel .* Write them as .* in pixels"
    ):
        load(tmp_path, content, "clip")


@pytest.mark.parametrize("box", [[5, 5, 1e-7, 1e-7], [5, 5, 9, 0.009], [5, 5, 5e-324, 9]])
def test_a_box_that_training_would_round_away_has_no_area(tmp_path, content, box):
    content["annotations"][0]["bbox"] = box
    (message,) = messages(tmp_path, content)
    assert message.endswith("has no area") and len(load(tmp_path, content, "skip_objects")) == 4


@pytest.mark.parametrize("name", [["top"], {}, None, 5])
def test_a_category_whose_name_is_no_text_is_refused_by_the_file_s_name(tmp_path, content, name):
    content["categories"] = [{"id": 1, "name": name, "supercategory": "none"}, *content["categories"]]
    with pytest.raises(ValueError, match="instances.json: category 1 needs an integer id and a name"):
        read_categories(write_coco(tmp_path, content))


@pytest.mark.parametrize(
    "top_id, other, of_top, classes",
    [
        (0, "top", False, ["black", "white"]),
        ("0", "top", False, ["black", "white"]),
        (1, "top", False, ["top", "black", "white"]),  # a class of a hierarchy
        (0, "none", False, ["top", "black", "white"]),
        (0, "top", True, ["top", "black", "white"]),
        (0, "own", False, ["top", "black", "white"]),  # as CVAT's, which is a class
        (0, "nobody", False, ["none", "black", "white"]),
    ],
)
def test_a_category_above_the_others_is_no_class_if_it_is_roboflow_s(tmp_path, content, top_id, other, of_top, classes):
    black, white = content["categories"][::-1]
    name = "none" if other == "nobody" else "top"
    above = {"id": top_id, "name": name, "supercategory": "top" if other == "own" else "none"}
    below = [{**black, "supercategory": name}, {**white, "supercategory": "none" if other == "none" else name}]
    content["categories"] = [above, *below]
    content["annotations"][0]["category_id"] = top_id if of_top else 3
    assert list(read_categories(write_coco(tmp_path, content)).values()) == classes


def test_areas_of_what_is_written_are_those_of_the_masks():
    mask = np.zeros((48, 64), np.uint8, order="F")
    mask[2:5, 2:6] = 1
    triangle, square = [0, 0, 10, 0, 0, 10], [20, 20, 30, 20, 30, 30, 20, 30]
    box = {"bbox": [0.0, 0.0, 30.0, 30.0], "bbox_mode": BoxMode.XYWH_ABS, "category_id": 0}
    segmentations = ([triangle, square], pycocotools.mask.encode(mask), None)
    objects = [{**box, "segmentation": own} for own in segmentations]
    record = {"file_name": "a.jpg", "width": 64, "height": 48, "annotations": objects}
    assert [own["area"] for own in content_of([record], ["cat"], "")["annotations"]] == [150, 12, 900]
