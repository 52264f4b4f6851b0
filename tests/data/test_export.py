import json
from dataclasses import replace

import pandas as pd
import pytest
from coco_files import coco_content, write_coco
from conftest import write_voc_folder
from detectron2.data import DatasetCatalog, MetadataCatalog

from adapruner_det.data.coco import load_coco_dataset
from adapruner_det.data.detection_records import load_dataset
from adapruner_det.data.export import export_selection, register_sources
from adapruner_det.data.formats import FORMATS, register_coco, register_voc
from adapruner_det.data.pruned_datasets import SelectionMismatchError
from adapruner_det.data.recognise import recognise
from adapruner_det.data.registration import register_from_spec
from adapruner_det.data.selection_lists import write_selection
from adapruner_det.data.selection_record import make_selection
from adapruner_det.pruning import Selection

COCO, VOC = "squares", "parts"
CLASSES = ["black", "white"]
pytestmark = pytest.mark.usefixtures("clean_catalogs")


def select(kept, *names):
    records = [record for name in names for record in load_dataset(name)]
    keep = [str(record["image_id"]) in kept for record in records]
    return make_selection(records, [0.0] * len(records), keep, keep_ratio=0.5, method="random")


@pytest.fixture
def selection(tmp_path):
    """Keeps 20 and 30 of a COCO data set, b and d of a VOC folder."""
    register_coco(COCO, write_coco(tmp_path / "coco", coco_content()), tmp_path / "coco/images")
    register_voc(VOC, write_voc_folder(tmp_path / "voc", {"train": list("abcd")}), "train", CLASSES)
    return select(("20", "30", "b", "d"), COCO, VOC)


def export(selection, form, folder):
    paths = export_selection(selection, form, folder, load_dataset)
    assert set(paths) <= set(folder.iterdir())
    suffix = "json" if form == "coco" else "txt"
    assert [path.name for path in paths] == [f"{name}_random_0.50.{suffix}" for name in (COCO, VOC)]
    return [path.read_text() for path in paths]


def test_lists_of_paths_names_and_ids(selection, tmp_path, monkeypatch):
    coco, voc = f"{tmp_path}/coco/images/sub", f"{tmp_path}/voc/JPEGImages"
    yolo = [f"{coco}/20.jpg\n{coco}/30.jpg\n", f"{voc}/b.jpg\n{voc}/d.jpg\n"]
    assert export(selection, "yolo", tmp_path / "yolo") == yolo
    assert export(selection, "voc", tmp_path / "names") == ["20\n30\n", "b\nd\n"]
    assert export(selection, "ids", tmp_path / "ids") == ["20\n30\n", "b\nd\n"]
    monkeypatch.chdir(tmp_path)  # absolute also where a data set was registered by relative paths
    register_voc("relative", "voc", "train", CLASSES)
    (path,) = export_selection(select("bd", "relative"), "yolo", tmp_path / "relative", load_dataset)
    assert path.read_text() == yolo[1]


def test_ids_in_subfolders_keep_them(tmp_path):
    folder = write_voc_folder(tmp_path / "voc", {"train": ["a", "b"]})
    for name, suffix in (("JPEGImages", "jpg"), ("Annotations", "xml")):
        (folder / name / "day").mkdir()
        (folder / name / f"a.{suffix}").rename(folder / name / f"day/a.{suffix}")
    (folder / "ImageSets/Main/train.txt").write_text("day/a\nb\n")
    register_voc(VOC, folder, "train", CLASSES)
    (path,) = export_selection(select(("day/a",), VOC), "voc", tmp_path / "lists", load_dataset)
    assert path.read_text() == "day/a\n"


def test_coco_is_the_own_json_or_one_made_of_the_boxes(selection, tmp_path):
    own, made = map(json.loads, export(selection, "coco", tmp_path / "out"))
    assert own["extra"] == coco_content()["extra"] and [i["id"] for i in own["images"]] == [30, 20]
    assert [image["file_name"] for image in made["images"]] == ["b.jpg", "d.jpg"]
    path = tmp_path / "out" / f"{VOC}_random_0.50.json"
    read = load_coco_dataset(path, tmp_path / "voc/JPEGImages", CLASSES)
    for before, after in zip([r for r in load_dataset(VOC) if r["image_id"] in "bd"], read, strict=True):
        assert before["file_name"] == after["file_name"]
        for one, other in zip(before["annotations"], after["annotations"], strict=True):
            x, y, w, h = other["bbox"]
            assert (one["bbox"], one["category_id"]) == ([x, y, x + w, y + h], other["category_id"])


def test_names_in_a_made_coco_json_do_not_depend_on_what_is_kept_and_it_can_be_pruned(tmp_path):
    folder = write_voc_folder(tmp_path / "voc", {"train": list("abc")})
    for name, suffix in (("JPEGImages", "jpg"), ("Annotations", "xml")):
        (folder / name / "day").mkdir()
        for image_id in "ab":
            (folder / name / f"{image_id}.{suffix}").rename(folder / name / f"day/{image_id}.{suffix}")
    (folder / "ImageSets/Main/train.txt").write_text("day/a\nday/b\nc\n")
    register_voc(VOC, folder, "train", CLASSES)
    (path,) = export_selection(select(("day/a", "day/b"), VOC), "coco", tmp_path / "lists", load_dataset)
    content = json.loads(path.read_text())
    assert [image["file_name"] for image in content["images"]] == ["day/a.jpg", "day/b.jpg"]
    assert content["info"] == {"image_root": str(folder / "JPEGImages")}
    name = register_from_spec(recognise(f"{path}:{folder}/JPEGImages").spec, FORMATS)
    assert [record["file_name"] for record in load_dataset(name)] == [
        f"{folder}/JPEGImages/day/{image_id}.jpg" for image_id in "ab"
    ]


def test_images_of_crowds_alone_do_not_become_background_of_yolo(tmp_path):
    content = coco_content(3)
    for own in content["annotations"]:
        own["ignore"] = int(own["image_id"] == 20)
    content["annotations"] = [own for own in content["annotations"] if own["image_id"] != 10]
    register_coco(COCO, write_coco(tmp_path / "coco", content), tmp_path / "coco/images")
    (path,) = export_selection(select(("10", "20", "30"), COCO), "yolo", tmp_path / "yolo", load_dataset)
    assert [line[-6:] for line in path.read_text().splitlines()] == ["10.jpg", "30.jpg"]
    assert len(list(path.with_suffix("").glob("labels/*.txt"))) == 2


def test_fiftyone_gets_all_images_with_their_labels(selection, tmp_path):
    told = replace(selection, columns={**selection.columns, "reason": ["near-duplicate", *[""] * (len(selection) - 1)]})
    folder = export_selection(told, "fiftyone", tmp_path / "out", load_dataset)[0]
    samples = json.loads((folder / "samples.json").read_text())["samples"]
    assert [(s["image_id"], *s["tags"]) for s in samples] == [(i, "kept" if i in ("20", "30") else "pruned") for i in told.ids[: len(samples)]]  # fmt: skip
    assert samples[0]["reason"] == "near-duplicate" and "reason" not in samples[1]
    record = load_dataset(COCO)[0]
    x, y, w, h = record["annotations"][0]["bbox"]
    size = record["width"], record["height"]
    detection = samples[0]["ground_truth"]["detections"][0]
    assert detection["bounding_box"] == pytest.approx([x / size[0], y / size[1], w / size[0], h / size[1]])
    assert detection["label"] == MetadataCatalog.get(COCO).thing_classes[record["annotations"][0]["category_id"]]
    assert samples[0]["filepath"] == record["file_name"]


def test_weights_are_none_for_pruned_images_and_one_on_average(tmp_path):
    columns = {"rarest_class": ["a", "a", "a", "a", "b", "a"]}
    selection = Selection(["set"] * 6, [*"123456"], [0.0] * 6, [True] * 5 + [False], 0.8, "random", columns)
    (path,) = export_selection(selection, "weights", tmp_path, load_dataset)
    table = pd.read_csv(path)
    assert table["kept"].tolist() == [1] * 5 + [0] and table["balanced"].tolist()[5] == 0
    assert table["balanced"][4] == pytest.approx(2 * table["balanced"][0], abs=1e-5)  # the root of four
    assert table["balanced"][:5].mean() == pytest.approx(1, abs=1e-5)


def test_data_is_found_again_from_the_record(selection, tmp_path, run_tool):
    write_selection(selection, tmp_path / "selection")
    printed = run_tool(
        "selection.py", "export", tmp_path / "selection", "--format", "yolo", "--output", tmp_path / "by_tool"
    )
    path = tmp_path / "by_tool" / f"{VOC}_random_0.50.txt"
    assert str(path) in printed and path.read_text().startswith(f"{tmp_path}/voc/JPEGImages/b.jpg\n")
    loaded = Selection.load(tmp_path / "selection")
    for name in (COCO, VOC):
        DatasetCatalog.remove(name)
        MetadataCatalog.remove(name)
    assert export(loaded, "voc", tmp_path / "lists") == ["20\n30\n", "b\nd\n"]
    assert MetadataCatalog.get(VOC).thing_classes == CLASSES
    unknown = replace(loaded, provenance={}, datasets=["other"] * len(loaded))
    with pytest.raises(ValueError, match="other is not registered: name it, --register other="):
        export_selection(unknown, "yolo", tmp_path / "lists", load_dataset)


@pytest.mark.parametrize(
    "source, spec",
    [
        ({"format": "coco", "json_file": "/gone/a.json"}, "coco:FILE.json:IMAGE_DIR"),
        ({"format": "yolo", "data_yaml": "/gone/data.yaml", "split": "train"}, "yolo:data.yaml:train"),
    ],
)
def test_where_data_has_moved_the_way_out_is_named(source, spec, tmp_path):
    moved = Selection(["set"], ["a"], [0.0], [True], 0.5, "random", provenance={"sources": {"set": source}})
    with pytest.raises(
        ValueError, match=rf"^set: there is no /gone/.* any more; has it moved\? --register set={spec}$"
    ):
        register_sources(moved)
    (path,) = export_selection(moved, "ids", tmp_path, load_dataset)  # which takes no data
    assert path.read_text() == "a\n"


def test_forms_there_are_not_and_files_in_the_place_of_folders_are_refused(selection, tmp_path):
    with pytest.raises(
        ValueError, match="'xx' is no form to export in; there are yolo, voc, coco, fiftyone, weights, ids"
    ):
        export_selection(selection, "xx", tmp_path, load_dataset)
    (tmp_path / "file").write_text("")
    for folder in (tmp_path / "file", tmp_path / "file/lists"):
        with pytest.raises(NotADirectoryError, match=f"^{tmp_path}/file is a file: name a folder"):
            export_selection(selection, "ids", folder, load_dataset)


def test_what_does_not_fit_is_refused(selection, tmp_path):
    (tmp_path / "voc/ImageSets/Main/train.txt").write_text("a\nb\nc\n")
    with pytest.raises(SelectionMismatchError, match=r"not in the data \(d\)"):
        export_selection(selection, "yolo", tmp_path / "lists", load_dataset)
    DatasetCatalog.register("archive", lambda: [{"image_id": "a", "file_name": "x.zip", "member": "a"}])
    MetadataCatalog.get("archive").set(thing_classes=["c"])
    packed = Selection(["archive"], ["a"], [0.0], [True], 1.0, "random")
    with pytest.raises(ValueError, match="archive are no files of their own: export ids"):
        export_selection(packed, "yolo", tmp_path, load_dataset)
    content = coco_content(2)
    for number, image in enumerate(content["images"]):
        image["file_name"] = f"{number}/same.jpg"
    register_coco("same", write_coco(tmp_path, content), tmp_path / "images")
    with pytest.raises(ValueError, match="the same file name"):
        export_selection(select(("10", "20"), "same"), "voc", tmp_path / "lists", load_dataset)
