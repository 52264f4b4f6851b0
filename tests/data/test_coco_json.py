import json

import pytest
from coco_files import coco_content, write_coco

from adapruner_det.data import coco, coco_json
from adapruner_det.data.coco import load_coco_dataset, read_categories, without_masks
from adapruner_det.data.coco_json import UnusualFileError, coco_entries, last_list

CLASSES = ["black", "white"]


def entries_of(path):
    found = {name: [] for name in coco_json.LISTS}
    for name, entries in coco_entries(path):
        found[name] += entries
    return found


@pytest.fixture
def path(tmp_path):
    return tmp_path / "instances.json"


@pytest.mark.parametrize("window", [1, 7, 64, 10**6])
def test_a_file_is_read_in_parts_wherever_they_end(path, monkeypatch, window):
    content = {"info": {"a": [1, {}]}, **coco_content(), "images": [{"id": 1, "file_name": 'ü"]}, ['}], "more": 12345}
    monkeypatch.setattr(coco_json, "_WINDOW", window)
    for options in ({}, {"indent": 1}, {"ensure_ascii": False, "separators": (",", ":")}):
        path.write_text(json.dumps(content, **options), encoding="utf-8-sig")
        assert entries_of(path) == {name: content[name] for name in coco_json.LISTS}


@pytest.mark.parametrize(
    "text",
    [
        *(
            '{"images": [1 2], "annotations": [], "categories": []}',
            '{"images": [1,], "annotations": [], "categories": []}',
        ),
        *('{"images": [], "annotations": [], "categories": []} 1', '{"images": [], "annotations": []}', "[]", ""),
        *('{"images": [], "annotations": [], "categories": [], "images": []}', '{"images": [{"a": 1', '{"images": 5}'),
        '{"images": [] "annotations": [], "categories": []}',
        '{1: 2, "images": [], "annotations": [], "categories": []}',
        '{"images": [' + "1" * 5000 + '], "annotations": [], "categories": []}',
    ],
)
def test_what_is_no_such_file_is_said_to_be_unusual(path, text):
    path.write_text(text)
    with pytest.raises(UnusualFileError):
        entries_of(path)


def test_a_category_above_others_needs_a_name(path):
    categories = [{"id": 0, "supercategory": "none"}, {"id": 1, "name": "a"}]
    path.write_text(json.dumps({"images": [], "annotations": [], "categories": categories}))
    with pytest.raises(ValueError, match="category 1 needs an integer id and a name"):
        read_categories(path)


def test_a_list_of_categories_that_repeats_is_not_taken_in_part(path, tmp_path):
    one, two = ([{"id": 1, "name": a}, {"id": 2, "name": b}] for a, b in (("x", "y"), ("black", "white")))
    content = {**coco_content(), "categories": one}
    path.write_text(json.dumps(content)[:-1] + f', "categories": {json.dumps(two)}, "z": {{}}}}')
    with pytest.raises(ValueError, match="x"):
        load_coco_dataset(path, tmp_path, ["x", "y"])


def test_categories_at_the_end_are_found_without_the_rest(path):
    path.write_text('{"annotations": [{no JSON}], "categories": [{"id": 2, "name": "b"}]}\n')
    assert read_categories(path) == {2: "b"}
    path.write_text('{"categories": [{"id": 2, "name": "b"}], "images": [{}], "annotations": [no JSON]}')
    assert read_categories(path) == {2: "b"}


@pytest.mark.parametrize(
    "text",
    [
        *('{"info": {"categories": []}}', '{"a": "\\"categories\\": []}', '{"categories": [], "b": 1}'),
        *('{"categories": {}}', '"categories": []}', "{}"),
    ],
)
def test_another_list_of_that_name_is_not_taken_for_the_file_s(path, text):
    path.write_text(text)
    with pytest.raises(UnusualFileError):
        last_list(path, "categories")


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
    monkeypatch.setattr(coco, "coco_entries", lambda file: read.append(file) or coco_entries(file))
    first = load_coco_dataset(path, tmp_path / "images", CLASSES)
    before = len(read)
    assert load_coco_dataset(path, tmp_path / "images", CLASSES) is first and len(read) == before
    assert sum("segmentation" in own for record in first for own in record["annotations"]) == 1
    with without_masks():
        plain = load_coco_dataset(path, tmp_path / "images", CLASSES)
    assert not any("segmentation" in own for record in plain for own in record["annotations"])
    del content["annotations"][1:]
    path.write_text(json.dumps(content))
    assert sum(len(record["annotations"]) for record in load_coco_dataset(path, tmp_path / "images", CLASSES)) == 1
