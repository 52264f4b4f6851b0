import pytest
from conftest import write_voc_folder, write_voc_image
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data.datasets import register_pascal_voc

from adapruner_det.data.detection_records import load_dataset
from adapruner_det.data.detection_registration import register_voc
from adapruner_det.data.pruned_datasets import (
    SelectionMismatchError,
    apply_selection,
    check_fits,
    pruned_name,
    register_pruned_dataset,
    split_records,
)
from adapruner_det.data.records import checked_records
from adapruner_det.data.selection_lists import write_selection
from adapruner_det.data.selection_record import (
    class_counts,
    make_selection,
    summary,
    vanished_classes,
)
from adapruner_det.data.voc import InvalidDatasetError
from adapruner_det.pruning import Selection

IDS = ["a", "b", "c", "d"]


@pytest.fixture
def folder(tmp_path):
    """A VOC folder, registered as "whole"; what a test registers is forgotten afterwards."""
    before = set(DatasetCatalog.list())
    folder = tmp_path / "voc"
    write_voc_folder(folder, {"train": IDS})
    write_voc_image(folder, "a", [("white", 3, 4, 20, 30)])
    write_voc_image(folder, "b", [("black", 3, 4, 20, 30), ("black", 30, 4, 50, 30)])
    write_voc_image(folder, "c", [])
    write_voc_image(folder, "d", [("white", 3, 4, 20, 30), ("black", 30, 4, 50, 30)])
    register_voc("whole", str(folder), "train", ["black", "white"])
    yield folder
    for name in set(DatasetCatalog.list()) - before:
        DatasetCatalog.remove(name)
        MetadataCatalog.remove(name)


def select(kept="bcd"):
    records = load_dataset("whole")
    scores = [float(ord(record["image_id"])) for record in records]
    return make_selection(
        records,
        scores,
        [record["image_id"] in kept for record in records],
        keep_ratio=0.75,
        method="adapruner",
    )


def test_a_pruned_data_set_holds_what_is_kept_and_the_metadata_of_its_base(folder):
    selection = select()
    name = pruned_name("whole", selection)
    assert name == "whole_adapruner_0.75"
    register_pruned_dataset(name, "whole", selection)
    assert [record["image_id"] for record in DatasetCatalog.get(name)] == ["b", "c", "d"]
    pruned, base = MetadataCatalog.get(name), MetadataCatalog.get("whole")
    assert pruned.thing_classes == base.thing_classes and pruned.dirname == base.dirname


def test_registering_from_a_folder_is_the_same(folder, tmp_path):
    write_selection(select(), tmp_path / "selection")
    register_pruned_dataset("pruned", "whole", str(tmp_path / "selection"))
    assert len(DatasetCatalog.get("pruned")) == 3


def test_the_voc_list_holds_the_kept_ids_and_loads_as_a_split(folder, tmp_path):
    write_selection(select(), tmp_path / "selection")
    (path,) = (tmp_path / "selection" / "ImageSets" / "Main").iterdir()
    assert path.name == "whole_adapruner_0.75.txt" and path.read_text() == "b\nc\nd\n"
    path.rename(folder / "ImageSets" / "Main" / path.name)
    register_voc("by_list", str(folder), "whole_adapruner_0.75", ["black", "white"])
    assert [r["image_id"] for r in DatasetCatalog.get("by_list")] == ["b", "c", "d"]


def test_two_data_sets_get_a_list_each(folder, tmp_path):
    register_voc("twin", str(folder), "train", ["black", "white"])
    records = load_dataset("whole") + load_dataset("twin")
    selection = make_selection(
        records, [0.0] * 8, [True] * 4 + [False] * 3 + [True], keep_ratio=0.6, method="adapruner"
    )
    write_selection(selection, tmp_path / "selection")
    lists = tmp_path / "selection" / "ImageSets" / "Main"
    assert {p.name: p.read_text().split() for p in lists.iterdir()} == {
        "whole_adapruner_0.60.txt": IDS,
        "twin_adapruner_0.60.txt": ["d"],
    }


def test_changed_data_is_refused_with_the_difference_named(folder):
    selection = select()
    write_voc_image(folder, "a", [("black", 3, 4, 20, 30)])  # another class
    write_voc_image(folder, "d", [("white", 3, 5, 20, 30), ("black", 30, 4, 50, 30)])  # moved a pixel
    with pytest.raises(SelectionMismatchError, match=r"2 images with annotations.*\(a, d\)"):
        check_fits(selection, "whole", load_dataset("whole"))


def test_missing_and_unknown_images_are_refused_by_name(folder):
    selection = select()
    write_voc_image(folder, "new", [])
    (folder / "ImageSets" / "Main" / "train.txt").write_text("a\nb\nd\nnew\n")
    with pytest.raises(SelectionMismatchError) as error:
        check_fits(selection, "whole", load_dataset("whole"))
    assert "1 images in the selection but not in the data (c)" in str(error.value)
    assert "1 images in the data but not in the selection (new)" in str(error.value)


def test_the_order_of_objects_in_a_file_does_not_matter(folder):
    selection = select()
    write_voc_image(folder, "d", [("black", 30, 4, 50, 30), ("white", 3, 4, 20, 30)])
    check_fits(selection, "whole", load_dataset("whole"))


def test_a_selection_of_other_data_is_refused(folder, tmp_path):
    write_selection(select(), tmp_path / "selection")
    register_voc("other", str(folder), "train", ["black", "white"])
    with pytest.raises(SelectionMismatchError, match=r"covers \['whole'\], none of.*\['other'\]"):
        apply_selection(str(tmp_path / "selection"), {"other": load_dataset("other")})


def test_data_sets_the_selection_does_not_cover_stay_whole(folder, tmp_path):
    write_selection(select(), tmp_path / "selection")
    register_voc("other", str(folder), "train", ["black", "white"])
    by_name = {name: load_dataset(name) for name in ("whole", "other")}
    filtered = apply_selection(str(tmp_path / "selection"), by_name)
    assert {name: len(records) for name, records in filtered.items()} == {"whole": 3, "other": 4}


@pytest.mark.parametrize(
    "name, base, message",
    [
        ("new", "nowhere", "nowhere is not registered"),
        ("new", "other", r"covers \['whole'\], not other"),
        ("whole", "whole", "registered already"),
    ],
)
def test_register_pruned_dataset_refuses_what_cannot_work(folder, name, base, message):
    register_voc("other", str(folder), "train", ["black", "white"])
    with pytest.raises(ValueError, match=message):
        register_pruned_dataset(name, base, select())


def test_classes_are_counted_before_and_after_and_also_after_a_cut(folder, tmp_path):
    selection = select("ab")
    counts = class_counts(selection)
    assert counts["black"] == {"images": 2, "kept_images": 1, "boxes": 3, "kept_boxes": 2}
    assert counts["white"] == {"images": 2, "kept_images": 1, "boxes": 2, "kept_boxes": 1}
    assert counts[""] == {"images": 1, "kept_images": 0, "boxes": 0, "kept_boxes": 0}
    cut = selection.cut(0.25)  # keeps d alone
    write_selection(cut, tmp_path / "cut")
    record = Selection.load(tmp_path / "cut").provenance["classes"]
    assert record["white"]["kept_images"] == 1 and record["black"]["kept_boxes"] == 1


def test_a_class_that_vanishes_is_noticed(folder):
    assert vanished_classes(select("bc")) == ["white"]
    assert vanished_classes(select("abc")) == []


def test_the_summary_names_ratio_and_classes(folder):
    text = summary(select())
    assert "3 of 4 images kept" in text and "asked for 0.750, reached 0.750" in text
    assert "white" in text and "(no boxes)" in text


def test_split_records_pairs_each_image_with_its_score(folder):
    kept, pruned = split_records(select(), {"whole": load_dataset("whole")})
    assert [(r["image_id"], score) for r, score in pruned] == [("a", float(ord("a")))]
    assert [r["image_id"] for r, _ in kept] == ["b", "c", "d"]


def test_a_folder_that_holds_something_else_is_not_replaced(folder, tmp_path):
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / "model_final.pth").write_text("weights")
    with pytest.raises(FileExistsError, match="work holds files that are no selection"):
        write_selection(select(), tmp_path / "work")
    assert (tmp_path / "work" / "model_final.pth").read_text() == "weights"


def test_a_selection_replaces_a_selection(folder, tmp_path):
    write_selection(select("abcd"), tmp_path / "selection")
    write_selection(select("b"), tmp_path / "selection")
    assert Selection.load(tmp_path / "selection").kept_ids("whole") == {"b"}


def test_detectron2_s_own_voc_names_are_checked_as_well(folder):
    register_pascal_voc("usual", str(folder), "train", 2012, ["black", "white"])
    assert load_dataset("usual")[0]["annotations"][0]["difficult"] == 0
    (folder / "JPEGImages" / "a.jpg").unlink()
    (folder / "Annotations" / "b.xml").write_text("<annotation>")
    with pytest.raises(InvalidDatasetError) as error:
        load_dataset("usual")
    assert len(error.value.problems) == 2
    assert [r["image_id"] for r in load_dataset("usual", "skip_objects")] == ["c", "d"]


# --- classification


@pytest.fixture
def pets():
    """Six classification images, registered as "pets"; one label of them was flipped on purpose."""
    classes = ["cat", "dog", "rat"]
    records = [
        {"image_id": f"{n}.jpg", "category_id": c, "label_flipped": n == 2} for n, c in enumerate([0, 0, 1, 1, 1, 2])
    ]
    DatasetCatalog.register("pets", lambda: [dict(record) for record in records])
    MetadataCatalog.get("pets").set(thing_classes=classes, evaluator_type="classification")
    yield records
    DatasetCatalog.remove("pets")
    MetadataCatalog.remove("pets")


def select_pets(kept=(True, False, True, True, False, False)):
    records = checked_records("pets", DatasetCatalog.get("pets"))
    return make_selection(
        records, [0.5] * 6, list(kept), keep_ratio=0.5, method="adapruner", columns={"visits": [3] * 6}
    )


def test_a_classification_selection_shows_each_class_and_flip(pets):
    table = select_pets().table()
    assert list(table.columns) == [
        *("dataset", "id", "kept", "score", "class", "label_flipped", "visits", "annotations")
    ]
    assert list(table["class"]) == ["cat", "cat", "dog", "dog", "dog", "rat"]
    assert list(table["label_flipped"]) == [0, 0, 1, 0, 0, 0]


def test_images_of_each_class_before_and_after(pets):
    selection = select_pets()
    assert class_counts(selection) == {
        "cat": {"images": 2, "kept_images": 1},
        "dog": {"images": 3, "kept_images": 2},
        "rat": {"images": 1, "kept_images": 0},
    }
    assert vanished_classes(selection) == ["rat"]
    assert "| rat     |        1 |      0 |        0.000 |" in summary(selection)


def test_a_changed_class_does_not_fit(pets):
    selection = select_pets()
    check_fits(selection, "pets", checked_records("pets", DatasetCatalog.get("pets")))
    pets[3]["category_id"] = 2
    with pytest.raises(SelectionMismatchError, match=r"1 images with annotations that have.*3\.jpg"):
        check_fits(selection, "pets", checked_records("pets", DatasetCatalog.get("pets")))
