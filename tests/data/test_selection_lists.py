import json
import logging

import pytest
from coco_files import annotation, coco_content, write_coco
from conftest import write_voc_folder
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data.datasets import load_coco_json

from adapruner_det.data.detection_records import load_dataset
from adapruner_det.data.formats import register_coco, register_voc
from adapruner_det.data.pruned_datasets import SelectionMismatchError, annotations_digest, check_fits
from adapruner_det.data.records import checked_records
from adapruner_det.data.selection_lists import write_coco_json, write_selection
from adapruner_det.data.selection_record import class_counts, make_selection
from adapruner_det.pruning import Selection

pytestmark = pytest.mark.usefixtures("clean_catalogs")


@pytest.fixture
def squares(tmp_path):
    """Registers 4 images, with a crowd in image 10; gives the JSON's path."""
    content = coco_content()
    content["annotations"].append(annotation(900, 10, [0, 0, 60, 40], 7, iscrowd=1))
    path = write_coco(tmp_path / "squares", content)
    register_coco("squares", path, tmp_path / "squares/images")
    return path


def select(*kept, names=("squares",)):
    records = [record for name in names for record in load_dataset(name)]
    return make_selection(
        records,
        [float(i) for i in range(len(records))],
        [str(record["image_id"]) in kept for record in records],
        keep_ratio=0.5,
        method="adapruner",
    )


def test_the_json_loses_the_pruned_images_and_nothing_else(squares, tmp_path):
    write_selection(select("10", "30"), tmp_path / "selection")
    (path,) = (tmp_path / "selection/annotations").iterdir()
    assert path.name == "squares_adapruner_0.50.json"
    before, after = json.loads(squares.read_text()), json.loads(path.read_text())
    assert list(after) == list(before)
    for key in ("info", "licenses", "categories", "extra"):
        assert after[key] == before[key]
    assert [image["id"] for image in after["images"]] == [30, 10]  # the file's order
    assert after["images"] == [i for i in before["images"] if i["id"] in (10, 30)]
    assert after["annotations"] == [a for a in before["annotations"] if a["image_id"] in (10, 30)]
    assert not (tmp_path / "selection/ImageSets").exists()
    register_coco("pruned", path, tmp_path / "squares/images")
    kept = [record for record in DatasetCatalog.get("squares") if record["image_id"] in (10, 30)]
    assert DatasetCatalog.get("pruned") == kept  # trains on what the selection keeps


def test_the_json_of_a_file_with_bad_objects_reads_as_it_is(tmp_path):
    content = coco_content()
    content["annotations"] += [
        annotation(900, 10, [1, 1, 0, 5]),  # shows nothing: image 10 stays without it
        annotation(901, 20, [1, 1, 5, 5], 4),  # of no class: image 20 goes
        annotation(902, 30, [60, 1, 6, 5]),  # sticks out
        annotation(903, 77, [1, 1, 5, 5]),  # of no image
    ]
    path = write_coco(tmp_path, content)
    register_coco("bad", path, tmp_path / "images", on_invalid="skip_objects")
    before = {r["image_id"]: r for r in DatasetCatalog.get("bad")}
    assert list(before) == [10, 30, 40]
    written = write_coco_json(select("10", "30", names=("bad",)), "bad", path, tmp_path / "selection")
    register_coco("pruned", written, tmp_path / "images")
    assert DatasetCatalog.get("pruned") == [before[10], before[30]]


def test_each_data_set_is_written_in_its_own_format(squares, tmp_path):
    folder = write_voc_folder(tmp_path / "voc", {"train": ["a", "b", "c"]})
    register_voc("parts", folder, "train", ["black", "white"])
    records = [r for name in ("squares", "parts") for r in load_dataset(name)]
    selection = make_selection(records, [None] * 7, [True] * 7, keep_ratio=0.5, method="random")
    selection.provenance["sources"]["other"] = {"format": "other"}
    both = Selection(
        [*selection.datasets, "other"], [*selection.ids, "zero"], [*selection.scores, 1.0],
        [*selection.kept, True], 0.5, "random",
        {name: [*column, column[0]] for name, column in selection.columns.items()}, selection.provenance,
    )  # fmt: skip
    write_selection(both, tmp_path / "selection")
    written = {str(p.relative_to(tmp_path / "selection")) for p in (tmp_path / "selection").rglob("*.*")}
    assert written == {
        "selection.json",
        "images.csv",
        "annotations/squares_random_0.50.json",
        "ImageSets/Main/parts_random_0.50.txt",
        "lists/other_random_0.50.txt",
    }
    assert (tmp_path / "selection/ImageSets/Main/parts_random_0.50.txt").read_text() == "a\nb\nc\n"
    assert (tmp_path / "selection/lists/other_random_0.50.txt").read_text() == "zero\n"


def test_the_source_is_on_record_so_that_a_cut_needs_no_registration(squares, tmp_path):
    write_selection(select("10"), tmp_path / "selection")
    DatasetCatalog.remove("squares")
    MetadataCatalog.remove("squares")
    selection = Selection.load(tmp_path / "selection")
    assert selection.provenance["sources"] == {
        "squares": {
            "format": "coco",
            "json_file": str(squares),
            "image_root": str(tmp_path / "squares/images"),
            "on_invalid": "clip",
        }
    }
    write_selection(selection.cut(0.25), tmp_path / "cut")
    path = tmp_path / "cut/annotations/squares_adapruner_0.25.json"
    assert [image["id"] for image in json.loads(path.read_text())["images"]] == [40]  # the highest score


def vanish(path):
    path.unlink()


def lose_image(path):
    content = json.loads(path.read_text())
    content["images"] = content["images"][1:]  # 40, which is pruned
    path.write_text(json.dumps(content))


def break_json(path):
    path.write_text("{")


def lose_ids(path):
    content = json.loads(path.read_text())
    del content["annotations"][0]["image_id"]
    path.write_text(json.dumps(content))


@pytest.mark.parametrize("spoil", [vanish, lose_image, break_json, lose_ids])
def test_a_json_that_is_gone_or_has_changed_costs_no_selection(squares, tmp_path, caplog, spoil):
    selection = select("10", "30")
    spoil(squares)
    with caplog.at_level(logging.WARNING):
        write_selection(selection, tmp_path / "selection")
    assert Selection.load(tmp_path / "selection").kept_ids("squares") == {"10", "30"}
    assert (tmp_path / "selection/lists/squares_adapruner_0.50.txt").read_text() == "10\n30\n"
    assert not (tmp_path / "selection/annotations").exists()
    assert "squares: no COCO file" in caplog.text and str(squares) in caplog.text
    with pytest.raises((ValueError, OSError), match=squares.name):
        write_coco_json(selection, "squares", squares, tmp_path / "again")
    assert not (tmp_path / "again").exists()


def test_crowds_have_a_column_of_their_own_and_are_no_boxes(squares):
    selection = select("10")
    at = selection.ids.index("10")
    annotations = next(r for r in load_dataset("squares") if r["image_id"] == 10)["annotations"]
    assert selection.columns["boxes"][at] == len(annotations) - 1
    assert selection.columns["crowds"] == [int(i == "10") for i in selection.ids]
    boxes = sum(c["boxes"] for c in class_counts(selection).values())
    assert boxes == sum(selection.columns["boxes"])


def test_a_box_that_becomes_a_crowd_is_a_change(squares):
    selection = select("10")
    records = list(load_dataset("squares"))
    records[1]["annotations"][0]["iscrowd"] = 1
    with pytest.raises(SelectionMismatchError, match=r"annotations that have changed since \(20\)"):
        check_fits(selection, "squares", records)


def test_a_digest_is_the_same_in_xywh_and_xyxy_and_by_either_reader(squares, tmp_path):
    names = ["black", "white"]
    theirs = load_coco_json(str(squares), str(tmp_path / "squares/images"), "oracle")
    for ours, other in zip(load_dataset("squares"), checked_records("oracle", theirs)):
        assert annotations_digest(ours, names) == annotations_digest(other, names)
        corners = {
            **ours,
            "annotations": [
                {**a, "bbox": [x, y, x + w, y + h], "bbox_mode": 0}
                for a in ours["annotations"]
                for x, y, w, h in [a["bbox"]]
            ],
        }
        assert annotations_digest(ours, names) == annotations_digest(corners, names)


def test_a_digest_does_not_hang_on_the_last_bits():
    x, xmax = 0.1, 0.45
    assert f"{x + (xmax - x):.1f}" != f"{xmax:.1f}"
    boxes = {"bbox": [x, 0, xmax - x, 5], "bbox_mode": 1}, {"bbox": [x, 0, xmax, 5], "bbox_mode": 0}
    digests = {annotations_digest({"annotations": [{**box, "category_id": 0}]}, ["c"]) for box in boxes}
    assert len(digests) == 1


def test_replacing_a_selection_is_said_and_costs_no_foreign_file(tmp_path, squares, caplog):
    folder = tmp_path / "selection"
    write_selection(select("10", "30"), folder)
    foreign = ("notes.txt", "mine/deep.txt", "lists/other_0.50.txt")
    for name in (*foreign, "images.png", "thumbnails/1.jpg"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(name)
    (folder / "link").symlink_to("nowhere")
    write_selection(select("10", "20", "30").cut(0.25), folder)
    assert all((folder / name).read_text() == name for name in foreign) and (folder / "link").is_symlink()
    left = {str(path.relative_to(folder)) for path in folder.rglob("*") if not path.is_dir()} - {*foreign, "link"}
    assert left == {"selection.json", "images.csv", "annotations/squares_adapruner_0.25.json"}  # of the new one alone
    assert "the selection there is replaced; 4 other files stay" in caplog.text
