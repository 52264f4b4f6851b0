from pathlib import Path

import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.evaluation import PascalVOCDetectionEvaluator
from PIL import Image

from adapruner_det.data.detection_registration import FORMATS, register_voc
from adapruner_det.data.registration import Format, register_from_spec
from adapruner_det.data.voc import InvalidDatasetError

XML = """<annotation><size><width>20</width><height>10</height></size>
<object><name>{}</name><bndbox><xmin>1</xmin><ymin>2</ymin><xmax>9</xmax><ymax>8</ymax></bndbox>
</object></annotation>"""


pytestmark = pytest.mark.usefixtures("clean_catalogs")


def make_voc(root: Path) -> Path:
    """Two images: `a` (a dog) in train, `b` (a cat) in test."""
    for folder in ("JPEGImages", "Annotations", "ImageSets/Main"):
        (root / folder).mkdir(parents=True)
    for image_id, name, split in (("a", "dog", "train"), ("b", "cat", "test")):
        Image.new("RGB", (20, 10)).save(root / "JPEGImages" / f"{image_id}.jpg")
        (root / "Annotations" / f"{image_id}.xml").write_text(XML.format(name))
        (root / "ImageSets/Main" / f"{split}.txt").write_text(image_id)
    return root


@pytest.fixture
def voc(tmp_path):
    return make_voc(tmp_path / "animals")


def test_dataset_and_metadata(voc):
    register_voc("animals_train", voc, "train")
    metadata = MetadataCatalog.get("animals_train")
    assert metadata.as_dict() == {
        "name": "animals_train",
        "thing_classes": ["cat", "dog"],  # cat is in the test images only
        "dirname": str(voc),
        "split": "train",
        "on_invalid": "error",
        "year": 2012,
        "evaluator_type": "pascal_voc",
    }
    (record,) = DatasetCatalog.get("animals_train")
    assert record["image_id"] == "a"
    assert record["annotations"][0]["category_id"] == 1
    PascalVOCDetectionEvaluator("animals_train")  # asserts on metadata that it cannot use


def test_a_folder_s_name_does_not_choose_the_metric(tmp_path):
    register_voc("year_train", make_voc(tmp_path / "parts_2007"), "train")
    assert MetadataCatalog.get("year_train").year == 2012


def test_given_class_names_keep_their_order(voc):
    register_voc("animals_train", voc, "train", class_names=("dog", "cat"))
    assert MetadataCatalog.get("animals_train").thing_classes == ["dog", "cat"]
    assert DatasetCatalog.get("animals_train")[0]["annotations"][0]["category_id"] == 0


@pytest.mark.parametrize("class_names", [(), ("cat", "cat")])
def test_unusable_class_names_are_refused(voc, class_names):
    with pytest.raises(ValueError, match="'animals_train': class names are missing or repeat"):
        register_voc("animals_train", voc, "train", class_names)
    assert "animals_train" not in DatasetCatalog


def test_images_are_read_when_asked_for(voc):
    (voc / "JPEGImages" / "a.jpg").unlink()
    register_voc("animals_train", voc, "train")
    with pytest.raises(InvalidDatasetError, match="no image"):
        DatasetCatalog.get("animals_train")


def test_on_invalid_is_passed_on(voc):
    (voc / "ImageSets/Main/train.txt").write_text("a\nb\nmissing\n")
    register_voc("animals_train", voc, "train", on_invalid="skip_images")
    assert [record["image_id"] for record in DatasetCatalog.get("animals_train")] == ["a", "b"]
    assert MetadataCatalog.get("animals_train").on_invalid == "skip_images"


def test_unknown_on_invalid_is_refused_at_once(voc):
    with pytest.raises(ValueError, match="'ignore'"):
        register_voc("animals_train", voc, "train", on_invalid="ignore")
    assert "animals_train" not in DatasetCatalog


def test_registering_again_with_the_same_arguments_does_nothing(voc):
    register_voc("animals_train", voc, "train")
    first = DatasetCatalog["animals_train"]
    register_voc("animals_train", str(voc), "train", class_names=("cat", "dog"))
    assert DatasetCatalog["animals_train"] is first


@pytest.mark.parametrize(
    "change",
    [{"split": "test"}, {"class_names": ["dog", "cat"]}, {"on_invalid": "skip_images"}],
    ids="split class_names on_invalid".split(),
)
def test_registering_again_with_other_arguments_is_refused(voc, change):
    register_voc("animals_train", voc, "train")
    (key,) = change
    shown = "thing_classes" if key == "class_names" else key
    with pytest.raises(ValueError, match=f"'animals_train' is already registered with {shown} "):
        register_voc("animals_train", **{"dirname": voc, "split": "train", **change})


def test_names_of_detectron2_are_not_taken_over(voc):
    with pytest.raises(ValueError, match="'voc_2007_trainval' is already registered"):
        register_voc("voc_2007_trainval", voc, "trainval")


# --- specs


def register_spec(spec, formats=FORMATS, **options):
    return register_from_spec(spec, formats, **options)


def test_spec(voc):
    assert register_spec(f"mine=voc:{voc}:train") == "mine"
    assert MetadataCatalog.get("mine").thing_classes == ["cat", "dog"]
    assert len(DatasetCatalog.get("mine")) == 1


def test_spec_with_class_names(voc):
    register_spec(f"mine=voc:{voc}:test:dog, cat", on_invalid="skip_objects")
    metadata = MetadataCatalog.get("mine")
    assert metadata.thing_classes == ["dog", "cat"]
    assert (metadata.split, metadata.on_invalid) == ("test", "skip_objects")


def test_spec_folder_is_expanded(voc, monkeypatch):
    monkeypatch.setenv("HOME", str(voc.parent))
    monkeypatch.setenv("ANIMALS", str(voc))
    register_spec("home=voc:~/animals:train")
    register_spec("variable=voc:$ANIMALS:train")
    for name in ("home", "variable"):
        assert MetadataCatalog.get(name).dirname == str(voc)


def test_spec_folder_falls_back_to_detectron2s(tmp_path, monkeypatch):
    (tmp_path / "cwd").mkdir()
    monkeypatch.chdir(tmp_path / "cwd")
    monkeypatch.setenv("DETECTRON2_DATASETS", str(tmp_path / "root"))
    below_root = make_voc(tmp_path / "root" / "animals")
    register_spec("from_root=voc:animals:train")
    assert MetadataCatalog.get("from_root").dirname == str(below_root)

    make_voc(tmp_path / "cwd" / "animals")
    register_spec("from_cwd=voc:animals:train")
    assert MetadataCatalog.get("from_cwd").dirname == "animals"

    monkeypatch.delenv("DETECTRON2_DATASETS")
    make_voc(tmp_path / "cwd" / "datasets" / "birds")
    register_spec("from_default=voc:birds:train")
    assert MetadataCatalog.get("from_default").dirname == str(Path("datasets/birds"))


@pytest.mark.parametrize(
    "spec, message",
    [
        ("mine", "unknown format ''"),
        ("=voc:{}:train", "NAME is empty"),
        ("mine=voc", "DIR or SPLIT is missing"),
        ("mine=voc:{}", "DIR or SPLIT is missing"),
        ("mine=voc:{}:", "DIR or SPLIT is missing"),
        ("mine=voc:{}:train:", "DIR or SPLIT is missing"),
        ("mine=voc:{}:train:cat:dog", "a ':' too many"),
        ("mine=voc:{}:train:cat,,dog", "a class name is empty"),
        ("mine=voc:{}:train:cat,cat", "class names are missing or repeat"),
        ("mine=voc:{}:tain", "tain.txt does not exist; lists in that folder: test, train"),
        ("mine=voc:/no/such/folder:train", "there is no /no/such/folder"),
        ("mine=yolo:{}:train", "unknown format 'yolo'"),
    ],
)
def test_bad_spec_is_named_with_the_right_form(voc, spec, message):
    spec = spec.format(voc)
    with pytest.raises(ValueError) as caught:
        register_spec(spec)
    assert repr(spec) in str(caught.value)
    assert message in str(caught.value)
    assert "NAME=voc:DIR:SPLIT" in str(caught.value)
    assert "mine" not in DatasetCatalog


def test_formats_are_a_table():
    calls = []
    formats = {**FORMATS, "other": Format("NAME=other:FILE", lambda *given: calls.append(given))}
    assert register_spec("mine=other:some/file:x", formats, on_invalid="skip_images") == "mine"
    assert calls == [("mine", "some/file:x", "skip_images")]
    with pytest.raises(ValueError, match="NAME=voc:DIR:SPLIT.* or NAME=other:FILE"):
        register_spec("mine=yolo:x:y", formats)


def test_real_set_from_a_spec(shared_data):
    register_spec(f"bccd_test=voc:{shared_data / 'bccd'}:test")
    assert len(DatasetCatalog.get("bccd_test")) == 72
    assert MetadataCatalog.get("bccd_test").thing_classes == ["Platelets", "RBC", "WBC"]
