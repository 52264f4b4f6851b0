"""YOLO data in, and a selection as YOLO data out."""

from pathlib import Path

import numpy as np
import pytest
import yaml
from conftest import write_voc_folder
from detectron2.data import DatasetCatalog, MetadataCatalog
from PIL import Image

from adapruner_det.data.export import export_selection
from adapruner_det.data.formats import FORMATS, register_voc
from adapruner_det.data.registration import register_from_spec
from adapruner_det.data.validation import InvalidDatasetError
from adapruner_det.data.yolo import label_file, list_pictures, load_yolo_dataset, read_data_yaml
from adapruner_det.pruning import Selection

NAMES = ["cat", "dog"]
LABELS = {"a": "0 0.5 0.5 0.5 0.25\n1 0.25 0.25 0.5 0.5\n", "b": "1 0.1 0.1 0.9 0.1 0.5 0.8\n", "c": None}


@pytest.fixture
def folder(tmp_path):
    """Pictures of 64 x 48: two boxes, a polygon, and none."""
    return write_yolo(tmp_path / "set", LABELS)


def write_yolo(root: Path, labels, **content) -> Path:
    for name, text in labels.items():
        picture = root / "images/train" / f"{name}.jpg"
        picture.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((48, 64, 3), 90, np.uint8)).save(picture)
        label_file(picture).parent.mkdir(parents=True, exist_ok=True)
        if text is not None:
            label_file(picture).write_text(text)
    write_yaml(root, content)
    return root


def write_yaml(root, content):
    content = {"path": str(root), "train": "images/train", "val": "images/train", "names": NAMES, **content}
    (root / "data.yaml").write_text(yaml.safe_dump({key: value for key, value in content.items() if value is not None}))


def load(folder, split="train", on_invalid="clip"):
    return load_yolo_dataset(folder / "data.yaml", split, NAMES, on_invalid)


def test_boxes_polygons_and_background(folder):
    first, second, third = load(folder)
    assert [record["image_id"] for record in (first, second, third)] == [f"images/train/{name}.jpg" for name in "abc"]
    assert [(a["category_id"], a["bbox"]) for a in first["annotations"]] == [(0, [16, 18, 48, 30]), (1, [0, 0, 32, 24])]
    (polygon,) = second["annotations"]
    np.testing.assert_allclose(polygon["bbox"], [6.4, 4.8, 57.6, 38.4])
    np.testing.assert_allclose(polygon["segmentation"], [[6.4, 4.8, 57.6, 4.8, 32, 38.4]])
    assert third["annotations"] == [] and (first["width"], first["height"]) == (64, 48)


@pytest.mark.parametrize(
    "entry, expected",
    [
        ("list.txt", "ba"),
        (["images/train/c.jpg", "list.txt"], "cba"),
        ("../images/train", "abc"),
        ("images\\train", "abc"),
    ],
)
def test_pictures_are_found_as_ultralytics_and_roboflow_name_them(folder, entry, expected):
    (folder / "list.txt").write_text("./images/train/b.jpg\nimages/train/a.jpg\n\nimages/train/b.jpg\n")
    write_yaml(folder, {"path": None, "train": entry})
    assert [p.stem for p in list_pictures(read_data_yaml(folder / "data.yaml"), "train")] == list(expected)


def test_names_by_number_and_classes_of_ones_own(folder):
    for content in ({"names": {1: "dog", 0: "cat"}, "nc": 2}, {"names": {"0": "cat", "1": "dog"}, "nc": "2"}):
        write_yaml(folder, content)
        assert read_data_yaml(folder / "data.yaml").class_names == NAMES
    records = load_yolo_dataset(folder / "data.yaml", "train", ["dog"])  # on dogs alone, cats left out on purpose
    assert [[a["category_id"] for a in record["annotations"]] for record in records] == [[0], [0], []]
    with pytest.raises(ValueError, match="data.yaml has no class dgo, but cat, dog, which was not asked for"):
        load_yolo_dataset(folder / "data.yaml", "train", ["dgo"])


def test_keypoints_behind_a_box_are_no_polygon_and_the_shape_goes_on(tmp_path, clean_catalogs):
    keypoints = " 0.45 0.45 2 0.55 0.45 2 0.45 0.55 1"
    shape = {"kpt_shape": [3, 3], "flip_idx": [1, 0, 2], "nc": 2, "download": "http://nowhere"}
    folder = write_yolo(tmp_path / "set", {"a": f"0 0.5 0.5 0.5 0.25{keypoints}\n1 0.5 0.5 0.5 0.25\n"}, **shape)
    (record,) = load(folder)
    assert [(a["category_id"], a["bbox"], len(a)) for a in record["annotations"]] == [
        (0, [16, 18, 48, 30], 4),
        (1, [16, 18, 48, 30], 4),
    ]
    register_from_spec(f"poses=yolo:{folder}:train", FORMATS)
    selection = Selection(["poses"], [record["image_id"]], [1.0], [True], 1.0, "random")
    (path,) = export_selection(selection, "yolo", tmp_path / "lists", lambda name: DatasetCatalog.get(name))
    written = yaml.safe_load(path.with_suffix(".yaml").read_text())
    assert (written["kpt_shape"], written["flip_idx"]) == ([3, 3], [1, 0, 2])
    assert not {"nc", "download"} & written.keys()
    label_file(folder / "images/train/a.jpg").write_text("0 0.1 0.1 0.9 0.1 0.5 0.8")
    with pytest.raises(InvalidDatasetError, match="has 6 numbers behind the class; a box has 4, and with keypoints 13"):
        load(folder)


def test_hidden_pictures_are_passed_over_and_links_to_folders_are_not(folder, tmp_path):
    pictures = folder / "images/train"
    elsewhere = write_yolo(tmp_path / "other", {"z": None}) / "images/train"
    (elsewhere / "z.jpg").rename(elsewhere / "z.mpo")
    (pictures / "day").symlink_to(elsewhere)
    for hidden in (".ipynb_checkpoints/a.jpg", "__MACOSX/a.jpg", "._a.jpg"):
        (pictures / hidden).parent.mkdir(exist_ok=True)
        (pictures / hidden).write_bytes(b"fork")
    (pictures / "again").symlink_to(pictures)
    (elsewhere / "back").symlink_to(pictures)
    assert [record["image_id"].removeprefix("images/train/") for record in load(folder)] == ["a.jpg", "b.jpg", "c.jpg", "day/z.mpo"]  # fmt: skip


def test_labels_in_another_spelling_are_read_and_named(folder, caplog):
    labels = folder / "labels/train"
    (labels / "a.txt").rename(labels / "A.TXT")
    assert [len(record["annotations"]) for record in load(folder)] == [2, 1, 0]
    assert "1 files of labels are spelled unlike their pictures: Ultralytics does not find them" in caplog.text
    (labels / "a.Txt").write_text("")
    with pytest.raises(InvalidDatasetError, match=r"A\.TXT, a\.Txt fit the picture: leave the one that is meant"):
        load(folder)
    (labels / "a.txt").write_text(LABELS["b"])  # an exact name wins
    assert [len(record["annotations"]) for record in load(folder)] == [1, 1, 0]


def test_labels_of_another_picture_are_not_taken_for_their_spelling(folder):
    Image.new("RGB", (64, 48)).save(folder / "images/train/A.jpg")
    assert {record["image_id"][-5:]: len(record["annotations"]) for record in load(folder)}["A.jpg"] == 0
    (folder / "list.txt").write_text("images/train/A.jpg")  # the other is of another split
    write_yaml(folder, {"train": "list.txt"})
    assert not load(folder)[0]["annotations"]


def test_boxes_of_corners_are_noticed(tmp_path):
    lines = [f"0 {0.05 * n} 0.1 {0.05 * n + 0.3} 0.9" for n in range(1, 12)]
    folder = write_yolo(tmp_path / "set", {"a": "\n".join([*lines, lines[0]])})
    with pytest.raises(
        ValueError, match="data.yaml: .* of 11 boxes do not fit .* were the shares x1 y1 x2 y2: write them as the cen"
    ):
        load_yolo_dataset(folder / "data.yaml", "train", NAMES)


def test_lists_of_some_classes_keep_the_numbers_of_the_labels(folder, tmp_path, clean_catalogs):
    register_from_spec(f"dogs=yolo:{folder / 'data.yaml'}:train:dog", FORMATS)
    ids = [record["image_id"] for record in DatasetCatalog.get("dogs")]
    selection = Selection(["dogs"] * 3, ids, [1.0] * 3, [True] * 3, 1.0, "random")
    (path,) = export_selection(selection, "yolo", tmp_path / "lists", lambda name: DatasetCatalog.get(name))
    assert read_data_yaml(path.with_suffix(".yaml")).class_names == NAMES


@pytest.mark.parametrize(
    "content, message",
    [
        ({"names": None}, "'names' is to be a list"),
        ({"names": {0: "cat", 2: "dog"}}, "'names' is to be a list"),
        ({"names": {0: "cat", "0": "dog"}}, "'names' is to be a list"),
        ({"names": [True, False]}, "YAML reads yes, no, on and off so; put such names in quotes"),
        ({"nc": 3}, "'nc' is 3, but there are 2 names"),
        ({"kpt_shape": 17}, "'kpt_shape' is 17; it is"),
        ({"train": None, "val": None}, "names no pictures"),
        ({"train": {"a": 1}}, "'train' is .* it can be a folder"),
        ({"path": 3}, "'path' is 3"),
    ],
)
def test_a_data_yaml_that_cannot_be_meant_is_refused(folder, content, message):
    write_yaml(folder, content)
    with pytest.raises(ValueError, match=f"data.yaml.*{message}"):
        read_data_yaml(folder / "data.yaml")


def test_code_in_a_data_yaml_does_not_run(folder):
    (folder / "data.yaml").write_text(f"names: !!python/object/apply:os.mkdir ['{folder / 'made'}']\n")
    with pytest.raises(ValueError, match="is no YAML"):
        read_data_yaml(folder / "data.yaml")
    assert not (folder / "made").exists()


@pytest.mark.parametrize(
    "line, message",
    [
        ("0 0.5 0.5 0.5", "has 3 numbers behind the class"),
        ("2 0.5 0.5 0.5 0.5", "class 2 is none of the 2 classes"),
        ("0.5 0.5 0.5 0.5 0.5", "class 0.5 is none"),
        ("0 0.5 0.5 0 0.5", "box of class cat has no area"),
        ("0 0.5 0.5 -0.2 -0.2", "box of class cat has no area"),
        ("0 nan 0.5 0.5 0.5", "not finite"),
        ("cat 0.5 0.5 0.5 0.5", "are not all numbers"),
        ("0 0_0.5 0.5 0.5 0.5", "are not all numbers"),
        ("0 0.5 0.5 1e-9 1e-9", "box of class cat has no area"),
        ("0 0.9 0.5 0.5 0.5", None),
        ("0 1.1 0.5 0.5 0.5", "outside the 64 x 48 image"),
        ("0 32 24 16 16", "outside the 64 x 48 image; numbers are to be shares"),
    ],
)
def test_a_bad_line_is_named_and_can_be_left_out(folder, line, message):
    (folder / "labels/train/c.txt").write_text(f"1 0.5 0.5 0.1 0.1\n{line}\n")
    if message is None:  # most of the box is inside
        assert [record["annotations"][-1]["bbox"][2] for record in load(folder)][2] == 64
        message = "outside the 64 x 48 image"
    else:
        assert len(load(folder, on_invalid="skip_objects")) == 2 + line.endswith(
            (" 0 0.5", "1e-9")
        )  # nothing is lost with such a box
    with pytest.raises(InvalidDatasetError, match=rf"c\.txt: line 2: .*{message}"):
        load(folder, on_invalid="error")
    assert len(load(folder, on_invalid="skip_images")) == 2


def test_labels_that_are_there_but_no_file_do_not_make_background(folder):
    (folder / "labels/train/c.txt").symlink_to("nowhere.txt")
    with pytest.raises(InvalidDatasetError, match=r"c\.txt: no readable labels: .* a link to nothing"):
        load(folder)
    assert [record["image_id"][-5] for record in load(folder, on_invalid="skip_objects")] == ["a", "b"]


def test_missing_things_are_named(folder):
    (folder / "images/train/a.jpg").write_bytes(b"no picture")
    with pytest.raises(InvalidDatasetError, match=r"a\.jpg: not readable as an image"):
        load(folder)
    with pytest.raises(ValueError, match="no split 'test'; it has train, val"):
        load(folder, "test")
    (folder / "list.txt").write_text("images/train/gone.jpg\n")
    write_yaml(folder, {"train": "list.txt", "val": None, "validation": "nowhere"})
    with pytest.raises(InvalidDatasetError, match=r"gone\.jpg: there is no such picture"):
        load(folder)
    with pytest.raises(FileNotFoundError, match=r"data\.yaml names nowhere"):
        load(folder, "val")


def test_a_registered_set_prunes_into_a_data_yaml(folder, tmp_path, clean_catalogs):
    assert register_from_spec(f"mine=yolo:{folder}:train", FORMATS) == "mine"
    records = DatasetCatalog.get("mine")
    ids = [record["image_id"] for record in records]
    selection = Selection(["mine"] * 3, ids, [2.0, -1.0, 1.0], [True, False, True], 0.66, "adapruner")
    (path,) = export_selection(
        selection, "yolo", tmp_path / "out", lambda name: [dict(r, dataset_name=name) for r in records]
    )
    assert [Path(line).stem for line in path.read_text().splitlines()] == ["a", "c"]
    pruned = load_yolo_dataset(path.with_suffix(".yaml"), "train", NAMES)
    assert [record["annotations"] for record in pruned] == [records[0]["annotations"], []]
    assert len(load_yolo_dataset(path.with_suffix(".yaml"), "val", NAMES)) == 3


@pytest.mark.parametrize("val, remark", [("images/train", ""), ("../valid/images", "# val: name the pictures")])
def test_splits_that_are_not_there_are_left_out_of_an_exported_data_yaml(folder, tmp_path, clean_catalogs, val, remark):
    write_yaml(folder, {"val": val, "test": "../test/images"})
    register_from_spec(f"mine=yolo:{folder}:train", FORMATS)
    ids = [record["image_id"] for record in DatasetCatalog.get("mine")]
    selection = Selection(["mine"] * 3, ids, [1.0] * 3, [True] * 3, 1.0, "random")
    (path,) = export_selection(selection, "yolo", tmp_path / "lists", lambda name: DatasetCatalog.get(name))
    written = path.with_suffix(".yaml")
    assert written.read_text().startswith(remark or "path:") and list(read_data_yaml(written).splits) == [
        "train",
        "val",
    ]


def test_labels_are_written_where_the_data_has_none(tmp_path, clean_catalogs):
    write_voc_folder(tmp_path / "voc", {"all": ["i0", "i1", "i2"]}, empty=["i2"])
    register_voc("boxes", tmp_path / "voc", "all")
    records = DatasetCatalog.get("boxes")
    selection = Selection(["boxes"] * 3, ["i0", "i1", "i2"], [1.0, -1.0, 2.0], [True, False, True], 0.66, "adapruner")
    (path,) = export_selection(
        selection, "yolo", tmp_path / "out", lambda name: [dict(r, dataset_name=name) for r in records]
    )
    names = MetadataCatalog.get("boxes").thing_classes
    pruned = load_yolo_dataset(path.with_suffix(".yaml"), "train", names)
    assert [len(record["annotations"]) for record in pruned] == [len(records[0]["annotations"]), 0]
    for found, wanted in zip(pruned[0]["annotations"], records[0]["annotations"], strict=True):
        assert found["category_id"] == wanted["category_id"]
        np.testing.assert_allclose(found["bbox"], wanted["bbox"], atol=1e-3)
    assert path.with_suffix(".yaml").read_text().startswith("# val: name the pictures")
