import json

import msgspec
import pytest
from coco_files import coco_content, write_coco
from detectron2.data import DatasetCatalog

from adapruner_det.data import coco, coco_json
from adapruner_det.data.coco import compact_records, load_coco_dataset, read_categories
from adapruner_det.data.coco_json import read_coco_lists
from adapruner_det.data.formats import register_coco
from adapruner_det.data.serialized_records import SerializedRecords
from adapruner_det.engine import load_config
from adapruner_det.engine.detection import DetectionTask

CLASSES = ["black", "white"]


@pytest.fixture
def path(tmp_path):
    return tmp_path / "instances.json"


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("options", [{}, {"indent": 1}, {"ensure_ascii": False, "separators": (",", ":")}])
def test_the_lists_are_those_that_json_reads(path, encoding, options):
    odd = [
        {"id": 2**70, "file_name": 'ü"]}, ['},
        "\ud800" if options.get("ensure_ascii", True) else "",
        [1.5, None],
        12,
    ]
    content = {"info": {"a": [1, {}]}, **coco_content(), "images": odd, "more": 12345}
    path.write_text(json.dumps(content, **options), encoding=encoding)
    lists = read_coco_lists(path)
    assert lists.categories == content["categories"]
    for _ in range(2):
        assert list(lists.images) == odd
        for read, written in zip(lists.annotations, content["annotations"], strict=True):
            own = read if isinstance(read, dict) else msgspec.to_builtins(read)
            assert all(own[key] == written[key] for key in ("id", "image_id", "category_id", "iscrowd"))
            assert [*own["bbox"]] == written["bbox"]


def test_numbers_too_large_for_a_float_are_read_as_json_does(path):
    path.write_text('{"images": [{"a": 1e400}, 10], "annotations": [], "categories": []}')
    assert list(read_coco_lists(path).images) == [{"a": float("inf")}, 10]


@pytest.mark.parametrize(
    "text",
    [
        b'{"images": [1 2], "annotations": [], "categories": []}',
        b'{"images": [1,], "annotations": [], "categories": []}',
        b'{"images": [], "annotations": [], "categories": []} 1',
        b'{"images": [] "annotations": [], "categories": []}',
        b'{1: 2, "images": [], "annotations": [], "categories": []}',
        b'{"images": [' + b"1" * 5000 + b'], "annotations": [], "categories": []}',
        b'{"images": ["\xff"], "annotations": [], "categories": []}',
        b'{"info": "\xff", "images": [], "annotations": [], "categories": []}',
        b'{"info": ' + b"[" * 100_000 + b"]" * 100_000 + b', "images": [], "annotations": [], "categories": []}',
        b"",
    ],
)
def test_what_is_no_json_is_refused_by_the_file_s_name(path, text):
    path.write_bytes(text)
    with pytest.raises(ValueError, match="instances.json is not readable as JSON: "):
        list(read_coco_lists(path).images)


@pytest.mark.parametrize(
    "text", ["[]", '{"images": [], "annotations": []}', '{"images": 5, "annotations": [], "categories": []}']
)
def test_lists_that_are_missing_are_named(path, text):
    path.write_text(text)
    with pytest.raises(ValueError, match="instances.json has no list "):
        read_coco_lists(path)


def test_a_category_above_others_needs_a_name(path):
    categories = [{"id": 0, "supercategory": "none"}, {"id": 1, "name": "a"}]
    path.write_text(json.dumps({"images": [], "annotations": [], "categories": categories}))
    with pytest.raises(ValueError, match="category 1 needs an integer id and a name"):
        read_categories(path)


def test_of_lists_that_repeat_the_last_counts(path, tmp_path):
    content = {**coco_content(), "categories": [{"id": 3, "name": "x"}]}
    path.write_text(json.dumps(content)[:-1] + f', "categories": {json.dumps(coco_content()["categories"])}}}')
    assert read_categories(path) == {3: "black", 7: "white"}


@pytest.mark.parametrize("order", [("images", "annotations", "categories"), ("annotations", "categories", "images")])
def test_the_order_of_the_lists_does_not_matter(tmp_path, order):
    content = coco_content()
    usual = load_coco_dataset(write_coco(tmp_path, content), tmp_path / "images", CLASSES)
    path = tmp_path / "other.json"
    path.write_text(json.dumps({name: content[name] for name in order}))
    assert load_coco_dataset(path, tmp_path / "images", CLASSES) == usual


def test_a_file_is_parsed_once_until_it_changes_and_masks_are_kept_where_they_are_wanted(tmp_path, monkeypatch):
    content = coco_content()
    content["annotations"][0]["segmentation"] = [[1, 1, 9, 1, 9, 9.5]]
    path, read = write_coco(tmp_path, content), []
    monkeypatch.setattr(coco, "read_coco_lists", lambda file: read.append(file) or read_coco_lists(file))
    first = load_coco_dataset(path, tmp_path / "images", CLASSES)
    with compact_records(masks=True):
        compact = load_coco_dataset(path, tmp_path / "images", CLASSES)
    assert len(read) == 1 and isinstance(compact, SerializedRecords) and compact == first
    assert sum("segmentation" in own for record in first for own in record["annotations"]) == 1
    with compact_records(masks=False):
        plain = load_coco_dataset(path, tmp_path / "images", CLASSES)
    assert not any("segmentation" in own for record in plain for own in record["annotations"])
    del content["annotations"][1:]
    path.write_text(json.dumps(content))
    assert sum(len(record["annotations"]) for record in load_coco_dataset(path, tmp_path / "images", CLASSES)) == 1


def test_records_of_detectron2_s_catalog_can_be_changed_in_place(tmp_path, clean_catalogs):
    path = write_coco(tmp_path, coco_content())
    register_coco("mine", str(path), str(tmp_path / "images"))
    records = DatasetCatalog.get("mine")
    records[0]["proposal_boxes"] = [1]
    assert isinstance(records, list) and records[0]["proposal_boxes"] == [1]
    assert "proposal_boxes" not in DatasetCatalog.get("mine")[0]


def test_the_entry_that_is_no_json_is_named(path):
    path.write_text('{"images": [1, {"a": ' + "1" * 5000 + '}], "annotations": [], "categories": []}')
    with pytest.raises(ValueError, match="instances.json is not readable as JSON: entry 2 of images: Exceeds"):
        list(read_coco_lists(path).images)


@pytest.mark.parametrize("masks", [True, False])
def test_a_task_keeps_masks_where_the_model_has_a_head_for_them(tmp_path, clean_catalogs, masks):
    content = coco_content()
    for own in content["annotations"]:
        own["segmentation"] = [[1, 1, 9, 1, 9, 9.5]]
    register_coco("mine", str(write_coco(tmp_path, content)), str(tmp_path / "images"))
    cfg = load_config(opts=["DATASETS.TRAIN", "('mine',)", "MODEL.MASK_ON", str(masks)])
    for records in (DetectionTask.load_records(cfg), DetectionTask.load_dataset(cfg, "mine")):
        assert {"segmentation" in own for record in records for own in record["annotations"]} == {masks}


@pytest.mark.parametrize("stretch", [1, 100, 300, 2000])
@pytest.mark.parametrize("options", [{}, {"indent": 1}, {"ensure_ascii": False, "separators": (" ,\n", ":")}])
def test_lists_that_are_read_in_stretches_are_those_of_the_file(path, monkeypatch, stretch, options):
    content = coco_content(12)
    content["categories"] = [{"id": place, "name": f"ü {place}"} for place in range(30)]
    for place, own in enumerate(content["annotations"]):
        own["note"] = [{"a": 1}, {"b": [{"c": "}, {"}, {"d": 2}]}, '{"x": "},{"}', [{}, {}], None][place % 5]
        own["attributes"] = {"kept as it is": [place, {}]}
    content["images"] += [3, {}, [{}, {}]]
    path.write_text(json.dumps(content, **options), encoding="utf-8")
    monkeypatch.setattr(coco_json, "_STRETCH", stretch)
    monkeypatch.setattr(coco_json, "read_coco_json", None)  # which reads all of what this one cannot
    lists = read_coco_lists(path)
    for _ in range(2):
        for name in coco_json.LISTS:
            assert list(getattr(lists, name)) == content[name]


@pytest.mark.parametrize("at_a_time", [1, 3])
def test_records_do_not_depend_on_what_is_read_together(tmp_path, monkeypatch, at_a_time):
    content = coco_content(12)
    for place, own in enumerate(content["annotations"]):
        if place % 4 == 1:  # looked at by itself: it sticks out a little, or is of no usual type
            own.update([{"bbox": [-0.5, *own["bbox"][1:]]}, {"attributes": {}}, {"id": f"{place}"}][place % 3])
    path = write_coco(tmp_path, content)
    usual = load_coco_dataset(path, tmp_path / "images", CLASSES)
    ids = [own["id"] for record in usual for own in record["annotations"]]
    assert sorted(ids, key=str) == sorted((own["id"] for own in content["annotations"]), key=str)
    coco._load.cache_clear()
    coco_json._outline.cache_clear()
    monkeypatch.setattr(coco_json, "_STRETCH", 300)
    monkeypatch.setattr(coco, "_AT_A_TIME", at_a_time)
    assert load_coco_dataset(path, tmp_path / "images", CLASSES) == usual


def test_boxes_of_an_image_that_is_there_twice_are_not_counted(tmp_path):
    content = coco_content(1)
    (image,), (*_, first) = content["images"], content["annotations"]
    content["images"] += [{**image, "id": 11, "file_name": "11.jpg"}, {**image, "id": 11, "file_name": "11.jpg"}]
    corners = [{**first, "id": number, "bbox": [30, 20, 60, 40]} for number in range(12)]
    content["annotations"] = [*corners, {**first, "id": 12, "image_id": 11, "bbox": [1, 1, 2, 2]}]
    with pytest.raises(ValueError, match="12 of 12 boxes do not fit"):
        load_coco_dataset(write_coco(tmp_path, content), tmp_path / "images", CLASSES)
