import json

import pytest
from coco_files import coco_content, write_coco
from conftest import write_voc_folder
from detectron2.data import DatasetCatalog, MetadataCatalog

from adapruner_det.data.coco import load_coco_dataset
from adapruner_det.data.detection_records import load_dataset
from adapruner_det.data.detection_registration import register_coco, register_voc
from adapruner_det.data.export import export_selection, register_sources
from adapruner_det.data.pruned_datasets import SelectionMismatchError
from adapruner_det.data.selection_lists import write_selection
from adapruner_det.data.selection_record import make_selection
from adapruner_det.pruning import Selection

COCO, VOC = "squares", "parts"
CLASSES = ["black", "white"]


pytestmark = pytest.mark.usefixtures("clean_catalogs")


@pytest.fixture
def selection(tmp_path):
    """Keeps 20 and 30 of a COCO data set, b and d of a VOC folder."""
    register_coco(COCO, write_coco(tmp_path / "coco", coco_content()), tmp_path / "coco/images")
    register_voc(VOC, write_voc_folder(tmp_path / "voc", {"train": list("abcd")}), "train", CLASSES)
    records = load_dataset(COCO) + load_dataset(VOC)
    kept = [str(record["image_id"]) in ("20", "30", "b", "d") for record in records]
    return make_selection(records, [0.0] * 8, kept, keep_ratio=0.5, method="random")


def export(selection, form, folder):
    paths = export_selection(selection, form, folder, load_dataset)
    assert sorted(paths) == sorted(folder.iterdir())
    suffix = "json" if form == "coco" else "txt"
    assert [path.name for path in paths] == [f"{name}_random_0.50.{suffix}" for name in (COCO, VOC)]
    return [path.read_text() for path in paths]


def test_yolo_lists_hold_absolute_paths(selection, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for coco in (True, False):  # also of a data set that was registered by relative paths
        name, kept = (COCO, ("20", "30")) if coco else (VOC, ("b", "d"))
        root = f"{tmp_path}/coco/images/sub" if coco else f"{tmp_path}/voc/JPEGImages"
        text = export(selection, "yolo", tmp_path / f"lists {name}")[not coco]
        assert text == "".join(f"{root}/{image_id}.jpg\n" for image_id in kept)
    register_voc("relative", "voc", "train", CLASSES)
    records = load_dataset("relative")
    other = make_selection(records, [0.0] * 4, [True] * 4, keep_ratio=1.0, method="all")
    (path,) = export_selection(other, "yolo", tmp_path / "relative", load_dataset)
    assert path.read_text().startswith(f"{tmp_path}/voc/JPEGImages/a.jpg\n")


def test_voc_lists_hold_file_names_and_id_lists_ids(selection, tmp_path):
    assert export(selection, "voc", tmp_path / "voc_lists") == ["20\n30\n", "b\nd\n"]
    assert export(selection, "ids", tmp_path / "ids") == ["20\n30\n", "b\nd\n"]


def test_coco_is_the_own_json_or_one_made_of_the_boxes(selection, tmp_path):
    own, made = map(json.loads, export(selection, "coco", tmp_path / "out"))
    assert own["extra"] == coco_content()["extra"] and [i["id"] for i in own["images"]] == [30, 20]
    assert [image["file_name"] for image in made["images"]] == ["b.jpg", "d.jpg"]
    path = tmp_path / "out" / f"{VOC}_random_0.50.json"
    read = load_coco_dataset(path, tmp_path / "voc/JPEGImages", CLASSES)
    voc = [record for record in load_dataset(VOC) if record["image_id"] in "bd"]
    for before, after in zip(voc, read):
        assert before["file_name"] == after["file_name"]
        pairs = list(zip(before["annotations"], after["annotations"], strict=True))
        for one, (x, y, w, h) in [(a["bbox"], b["bbox"]) for a, b in pairs]:
            assert one == [x, y, x + w, y + h]
        assert all(a["category_id"] == b["category_id"] for a, b in pairs)


def test_data_is_found_again_from_the_record(selection, tmp_path):
    write_selection(selection, tmp_path / "selection")
    loaded = Selection.load(tmp_path / "selection")
    for name in (COCO, VOC):
        DatasetCatalog.remove(name)
        MetadataCatalog.remove(name)
    with pytest.raises(ValueError, match="squares is not registered: name it, --register squares="):
        export_selection(loaded, "yolo", tmp_path / "lists", load_dataset)
    register_sources(loaded)
    assert MetadataCatalog.get(VOC).thing_classes == CLASSES
    assert export(loaded, "voc", tmp_path / "lists") == ["20\n30\n", "b\nd\n"]


def test_changed_data_is_refused(selection, tmp_path):
    (tmp_path / "voc/ImageSets/Main/train.txt").write_text("a\nb\nc\n")
    with pytest.raises(SelectionMismatchError, match=r"not in the data \(d\)"):
        export_selection(selection, "yolo", tmp_path / "lists", load_dataset)


def test_images_that_are_no_files_are_refused(tmp_path):
    DatasetCatalog.register("archive", lambda: [{"image_id": "a", "file_name": "x.zip", "member": "a"}])
    MetadataCatalog.get("archive").set(thing_classes=["c"])
    selection = Selection(["archive"], ["a"], [0.0], [True], 1.0, "random")
    with pytest.raises(ValueError, match="archive are no files of their own: export ids"):
        export_selection(selection, "yolo", tmp_path, load_dataset)


def test_voc_lists_refuse_names_that_repeat(tmp_path):
    content = coco_content(2)
    for number, image in enumerate(content["images"]):
        image["file_name"] = f"{number}/same.jpg"
    register_coco("same", write_coco(tmp_path, content), tmp_path / "images")
    records = load_dataset("same")
    selection = make_selection(records, [0.0] * 2, [True] * 2, keep_ratio=1.0, method="random")
    with pytest.raises(ValueError, match="the same file name"):
        export_selection(selection, "voc", tmp_path / "lists", load_dataset)


def test_the_command(selection, tmp_path, run_tool):
    write_selection(selection, tmp_path / "selection")
    command = ["selection.py", "export", tmp_path / "selection", "--format", "yolo"]
    printed = run_tool(*command, "--output", tmp_path / "lists")
    for name, image in ((COCO, "coco/images/sub/20.jpg"), (VOC, "voc/JPEGImages/b.jpg")):
        path = tmp_path / "lists" / f"{name}_random_0.50.txt"
        assert str(path) in printed and path.read_text().splitlines()[0] == str(tmp_path / image)
