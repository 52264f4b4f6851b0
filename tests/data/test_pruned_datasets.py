import pytest
from conftest import write_voc_folder, write_voc_image
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data.datasets import register_pascal_voc

from adapruner_det.data.detection_records import load_dataset
from adapruner_det.data.formats import register_voc
from adapruner_det.data.pruned_datasets import (
    SelectionMismatchError,
    apply_selection,
    check_fits,
    pruned_name,
    records_of,
    register_pruned_dataset,
)
from adapruner_det.data.records import checked_records
from adapruner_det.data.selection_lists import write_selection
from adapruner_det.data.selection_record import class_counts, make_selection, summary, vanished_classes
from adapruner_det.data.validation import InvalidDatasetError
from adapruner_det.pruning import Selection

IDS = ["a", "b", "c", "d"]
CLASSES = ["black", "white"]
pytestmark = pytest.mark.usefixtures("clean_catalogs")


@pytest.fixture
def folder(tmp_path):
    """A VOC folder, registered as "whole"."""
    folder = tmp_path / "voc"
    write_voc_folder(folder, {"train": IDS})
    write_voc_image(folder, "a", [("white", 3, 4, 20, 30)])
    write_voc_image(folder, "b", [("black", 3, 4, 20, 30), ("black", 30, 4, 50, 30)])
    write_voc_image(folder, "c", [])
    write_voc_image(folder, "d", [("white", 3, 4, 20, 30), ("black", 30, 4, 50, 30)])
    register_voc("whole", str(folder), "train", CLASSES)
    return folder


def select(kept="bcd"):
    records = load_dataset("whole")
    scores = [float(ord(record["image_id"])) for record in records]
    keep = [record["image_id"] in kept for record in records]
    return make_selection(records, scores, keep, keep_ratio=0.75, method="adapruner")


def ids_of(records):
    return [record["image_id"] for record in records]


def test_a_pruned_data_set_holds_what_is_kept_and_the_metadata_of_its_base(folder, tmp_path):
    selection = select()
    name = pruned_name("whole", selection)
    assert name == "whole_adapruner_0.75"
    write_selection(selection, tmp_path / "selection")
    register_pruned_dataset(name, "whole", selection)
    register_pruned_dataset("from_folder", "whole", str(tmp_path / "selection"))
    assert ids_of(DatasetCatalog.get(name)) == ids_of(DatasetCatalog.get("from_folder")) == ["b", "c", "d"]
    pruned, base = MetadataCatalog.get(name), MetadataCatalog.get("whole")
    assert pruned.thing_classes == base.thing_classes and pruned.dirname == base.dirname


@pytest.mark.parametrize(
    "name, base, message",
    [
        ("new", "nowhere", "nowhere is not registered"),
        ("new", "other", r"covers \['whole'\], not other"),
        ("whole", "whole", "registered already"),
    ],
)
def test_register_pruned_dataset_refuses_what_cannot_work(folder, name, base, message):
    register_voc("other", str(folder), "train", CLASSES)
    with pytest.raises(ValueError, match=message):
        register_pruned_dataset(name, base, select())


def test_a_voc_list_for_each_data_set_that_loads_as_a_split(folder, tmp_path):
    register_voc("twin", str(folder), "train", CLASSES)
    records = load_dataset("whole") + load_dataset("twin")
    kept = [False] + [True] * 3 + [False] * 3 + [True]
    selection = make_selection(records, [0.0] * 8, kept, keep_ratio=0.6, method="adapruner")
    write_selection(selection, tmp_path / "selection")
    lists = tmp_path / "selection" / "ImageSets" / "Main"
    assert {p.name: p.read_text() for p in lists.iterdir()} == {
        "whole_adapruner_0.60.txt": "b\nc\nd\n",
        "twin_adapruner_0.60.txt": "d\n",
    }
    (lists / "whole_adapruner_0.60.txt").rename(folder / "ImageSets" / "Main" / "kept.txt")
    register_voc("by_list", str(folder), "kept", CLASSES)
    assert ids_of(DatasetCatalog.get("by_list")) == ["b", "c", "d"]


def test_data_that_has_changed_is_refused_with_the_difference_named(folder):
    selection = select()
    write_voc_image(folder, "d", [("black", 30, 4, 50, 30), ("white", 3, 4, 20, 30)])
    check_fits(selection, "whole", load_dataset("whole"))  # another order of objects is no change
    write_voc_image(folder, "a", [("black", 3, 4, 20, 30)])  # another class
    write_voc_image(folder, "d", [("white", 3, 5, 20, 30), ("black", 30, 4, 50, 30)])  # moved a pixel
    write_voc_image(folder, "new", [])
    (folder / "ImageSets" / "Main" / "train.txt").write_text("a\nb\nd\nnew\n")
    with pytest.raises(SelectionMismatchError) as error:
        check_fits(selection, "whole", load_dataset("whole"))
    assert "1 images in the selection but not in the data (c)" in str(error.value)
    assert "1 images in the data but not in the selection (new)" in str(error.value)
    assert "2 images with annotations that have changed since (a, d)" in str(error.value)


def test_a_selection_filters_the_data_sets_it_covers(folder, tmp_path):
    write_selection(select(), tmp_path / "selection")
    register_voc("other", str(folder), "train", CLASSES)
    by_name = {name: load_dataset(name) for name in ("whole", "other")}
    filtered = apply_selection(str(tmp_path / "selection"), by_name)
    assert {name: len(records) for name, records in filtered.items()} == {"whole": 3, "other": 4}
    with pytest.raises(SelectionMismatchError, match=r"covers \['whole'\], none of.*\['other'\]"):
        apply_selection(str(tmp_path / "selection"), {"other": by_name["other"]})


def test_classes_are_counted_before_and_after_and_also_after_a_cut(folder, tmp_path):
    selection = select("ab")
    assert class_counts(selection) == {
        "black": {"images": 2, "kept_images": 1, "boxes": 3, "kept_boxes": 2},
        "white": {"images": 2, "kept_images": 1, "boxes": 2, "kept_boxes": 1},
        "": {"images": 1, "kept_images": 0, "boxes": 0, "kept_boxes": 0},
    }
    write_selection(selection.cut(0.25), tmp_path / "cut")  # keeps d alone
    record = Selection.load(tmp_path / "cut").provenance["classes"]
    assert record["white"]["kept_images"] == 1 and record["black"]["kept_boxes"] == 1
    assert vanished_classes(select("bc")) == ["white"] and vanished_classes(select("abc")) == []
    text = summary(select())
    assert "3 of 4 images kept" in text and "asked for 0.750, reached 0.750" in text
    assert "white" in text and "(no boxes)" in text


def test_records_are_those_of_the_selection_in_its_order(folder):
    records = load_dataset("whole")
    assert ids_of(records_of(select(), records[::-1])) == select().ids == ["a", "b", "c", "d"]
    with pytest.raises(SelectionMismatchError, match="in the selection but not in the data"):
        records_of(select(), records[1:])


def test_a_selection_replaces_a_selection_and_nothing_else(folder, tmp_path):
    write_selection(select("abcd"), tmp_path / "selection")
    write_selection(select("b"), tmp_path / "selection")
    assert Selection.load(tmp_path / "selection").kept_ids("whole") == {"b"}
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / "model_final.pth").write_text("weights")
    with pytest.raises(FileExistsError, match="work holds files that are no selection"):
        write_selection(select(), tmp_path / "work")
    assert (tmp_path / "work" / "model_final.pth").read_text() == "weights"


def test_detectron2_s_own_voc_names_are_checked_as_well(folder):
    register_pascal_voc("usual", str(folder), "train", 2012, CLASSES)
    assert load_dataset("usual")[0]["annotations"][0]["difficult"] == 0
    (folder / "JPEGImages" / "a.jpg").unlink()
    (folder / "Annotations" / "b.xml").write_text("<annotation>")
    with pytest.raises(InvalidDatasetError, match="^2 problems"):
        load_dataset("usual")
    assert ids_of(load_dataset("usual", "skip_objects")) == ["c", "d"]


def test_records_carry_the_name_of_their_data_set_and_ids_are_unique():
    assert checked_records("data", [{"image_id": "a"}]) == [{"image_id": "a", "dataset_name": "data"}]
    with pytest.raises(ValueError, match="data set data holds no image"):
        checked_records("data", [])
    with pytest.raises(ValueError, match=r"occur more than once: \['a'\]"):
        checked_records("data", [{"image_id": "a"}, {"image_id": "b"}, {"image_id": "a"}])


def test_a_classification_selection_shows_each_class_and_knows_a_changed_one():
    classes = {"0.jpg": 0, "1.jpg": 0, "2.jpg": 1, "3.jpg": 1, "4.jpg": 1, "5.jpg": 2}
    DatasetCatalog.register("pets", lambda: [{"image_id": i, "category_id": c} for i, c in classes.items()])
    MetadataCatalog.get("pets").set(thing_classes=["cat", "dog", "rat"], evaluator_type="classification")
    records = checked_records("pets", DatasetCatalog.get("pets"))
    kept = [True, False, True, True, False, False]
    selection = make_selection(records, [0.5] * 6, kept, keep_ratio=0.5, method="m", columns={"visits": [3] * 6})
    table = selection.table()
    columns = ["dataset", "id", "kept", "score", "class", "visits", "annotations"]
    assert list(table.columns) == columns
    assert list(table["class"]) == ["cat", "cat", "dog", "dog", "dog", "rat"]
    assert class_counts(selection) == {
        "cat": {"images": 2, "kept_images": 1},
        "dog": {"images": 3, "kept_images": 2},
        "rat": {"images": 1, "kept_images": 0},
    }
    assert vanished_classes(selection) == ["rat"]
    assert "| rat     |        1 |      0 |        0.000 |" in summary(selection)
    check_fits(selection, "pets", records)
    classes["3.jpg"] = 2
    with pytest.raises(SelectionMismatchError, match=r"1 images with annotations that have.*3\.jpg"):
        check_fits(selection, "pets", checked_records("pets", DatasetCatalog.get("pets")))
