from pathlib import Path

import pytest
from coco_files import coco_content, write_coco
from conftest import ROOT, write_voc_folder, write_voc_image
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.evaluation import PascalVOCDetectionEvaluator
from image_files import mnist_files, picture, write_tree, write_zip

from adapruner_det.data.formats import FORMATS, register_coco, register_voc
from adapruner_det.data.registration import Format, register_from_spec
from adapruner_det.data.validation import InvalidDatasetError

pytestmark = pytest.mark.usefixtures("clean_catalogs")


def make_voc(root: Path) -> Path:
    """Two images: `a` (a dog) in train, `b` (a cat) in test."""
    write_voc_folder(root, {"train": ["a"], "test": ["b"]})
    write_voc_image(root, "a", [("dog", 1, 2, 9, 8)])
    write_voc_image(root, "b", [("cat", 1, 2, 9, 8)])
    return root


PICTURES = {"frog/1.png": picture(0), "cat/1.png": picture(1)}


@pytest.fixture
def voc(tmp_path):
    return make_voc(tmp_path / "animals_2007")


def register(spec, on_invalid="clip"):
    return register_from_spec(spec, FORMATS, on_invalid)


def test_a_voc_folder_its_metadata_and_given_classes(voc):
    register_voc("mine", voc, "train")
    assert MetadataCatalog.get("mine").as_dict() == {
        "name": "mine",
        "thing_classes": ["cat", "dog"],  # cat is in the test images only
        "dirname": str(voc),
        "split": "train",
        "on_invalid": "clip",
        "year": 2012,  # the area rule, whatever the folder is called
        "evaluator_type": "pascal_voc",
    }
    register_voc("turned", voc, "train", class_names=("dog", "cat"))
    assert MetadataCatalog.get("turned").thing_classes == ["dog", "cat"]
    for name, category in (("mine", 1), ("turned", 0)):
        (record,) = DatasetCatalog.get(name)
        assert record["image_id"] == "a" and record["annotations"][0]["category_id"] == category
    PascalVOCDetectionEvaluator("mine")  # asserts on metadata that it cannot use


def test_images_are_read_when_asked_for_and_on_invalid_is_passed_on(voc):
    (voc / "ImageSets/Main/train.txt").write_text("a\nb\nmissing\n")
    register_voc("strict", voc, "train")
    register_voc("lenient", voc, "train", on_invalid="skip_images")
    with pytest.raises(InvalidDatasetError, match="no image"):
        DatasetCatalog.get("strict")
    assert [record["image_id"] for record in DatasetCatalog.get("lenient")] == ["a", "b"]
    assert MetadataCatalog.get("lenient").on_invalid == "skip_images"


@pytest.mark.parametrize(
    "change, message",
    [
        ({"class_names": ()}, "'mine': class names are missing or repeat"),
        ({"class_names": ("cat", "cat")}, "'mine': class names are missing or repeat"),
        ({"on_invalid": "ignore"}, "'ignore'"),
    ],
)
def test_unusable_arguments_are_refused_at_once(voc, change, message):
    with pytest.raises(ValueError, match=message):
        register_voc("mine", voc, "train", **change)
    assert "mine" not in DatasetCatalog


def test_registering_again_changes_nothing_and_other_arguments_are_refused(voc, tmp_path):
    register_voc("mine", voc, "train")
    first = DatasetCatalog["mine"]
    register_voc("mine", str(voc), "train", class_names=("cat", "dog"))
    assert DatasetCatalog["mine"] is first
    for change in ({"split": "test"}, {"class_names": ["dog", "cat"]}, {"on_invalid": "skip_images"}):
        key = next(iter(change)).replace("class_names", "thing_classes")
        with pytest.raises(ValueError, match=f"'mine' is already registered with {key} "):
            register_voc("mine", **{"dirname": voc, "split": "train", **change})
    with pytest.raises(ValueError, match="'voc_2007_trainval' is already registered"):
        register_voc("voc_2007_trainval", voc, "trainval")
    path = write_coco(tmp_path, coco_content())
    register_coco("squares", path, tmp_path / "images")
    register_coco("squares", str(path), str(tmp_path / "images"), ("black", "white"))
    with pytest.raises(ValueError, match="'squares' is already registered with on_invalid"):
        register_coco("squares", path, tmp_path / "images", on_invalid="skip_images")
    frogs = write_tree(tmp_path / "frogs", PICTURES)
    for _ in range(2):
        register(f"frogs=images:{frogs}")
    with pytest.raises(ValueError, match="'frogs' is already registered with .*thing_classes"):
        register(f"frogs=images:{frogs}:frog,cat")


def test_voc_specs(voc):
    assert register(f"mine=voc:{voc}:train") == "mine"
    assert len(DatasetCatalog.get("mine")) == 1
    register(f"given=voc:{voc}:test:dog, cat", "skip_objects")
    metadata = MetadataCatalog.get("given")
    assert (metadata.thing_classes, metadata.split, metadata.on_invalid) == (["dog", "cat"], "test", "skip_objects")


def test_coco_specs(tmp_path, monkeypatch):
    write_coco(tmp_path, coco_content())
    monkeypatch.setenv("DETECTRON2_DATASETS", str(tmp_path))
    register("mine=coco:instances.json:images")
    register("turned=coco:instances.json:images:white, black", "skip_images")
    assert MetadataCatalog.get("mine").as_dict() == {
        "name": "mine",
        "thing_classes": ["black", "white"],
        "thing_dataset_id_to_contiguous_id": {3: 0, 7: 1},
        "json_file": str(tmp_path / "instances.json"),
        "image_root": str(tmp_path / "images"),
        "on_invalid": "clip",
        "evaluator_type": "coco",
    }
    turned = MetadataCatalog.get("turned")
    assert (turned.thing_classes, turned.on_invalid) == (["white", "black"], "skip_images")
    assert turned.thing_dataset_id_to_contiguous_id == {7: 0, 3: 1}
    assert len(DatasetCatalog.get("mine")) == len(DatasetCatalog.get("turned")) == 4


def test_images_are_listed_when_asked_for(tmp_path):
    frogs = write_tree(tmp_path / "animals", PICTURES)
    assert register(f"mine=images:{frogs}", on_invalid="skip_images") == "mine"
    assert MetadataCatalog.get("mine").as_dict() == {
        "name": "mine",
        "thing_classes": ["cat", "frog"],
        "evaluator_type": "classification",
        "on_invalid": "skip_images",
        "source": str(frogs),
    }
    (frogs / "frog/2.png").write_bytes(picture(2))
    assert [record["image_id"] for record in DatasetCatalog.get("mine")] == ["cat/1.png", "frog/1.png", "frog/2.png"]


def test_images_with_classes_out_of_an_archive(tmp_path, monkeypatch):
    write_zip(tmp_path / "train.zip", {f"train/{name}": data for name, data in PICTURES.items()})
    monkeypatch.setenv("DETECTRON2_DATASETS", str(tmp_path))
    register("mine=images:train.zip:frog, cat")
    assert MetadataCatalog.get("mine").thing_classes == ["frog", "cat"]
    assert DatasetCatalog.get("mine")[0]["image_id"] == "frog/1.png"


def test_torchvision(tmp_path):
    write_tree(tmp_path / "MNIST/raw", mnist_files())
    register(f"mnist_test=torchvision:MNIST:{tmp_path}:test")
    metadata = MetadataCatalog.get("mnist_test")
    assert (metadata.source, metadata.split) == (str(tmp_path / "MNIST/raw"), "test")
    assert metadata.evaluator_type == "classification" and metadata.thing_classes[9] == "9 - nine"
    assert len(DatasetCatalog.get("mnist_test")) == 2


def test_paths_are_expanded_and_looked_up_in_detectron2s_folder(tmp_path, monkeypatch):
    (tmp_path / "cwd").mkdir()
    monkeypatch.chdir(tmp_path / "cwd")
    animals = str(make_voc(tmp_path / "root" / "animals"))
    monkeypatch.setenv("HOME", str(tmp_path / "root"))
    monkeypatch.setenv("ANIMALS", animals)
    monkeypatch.setenv("DETECTRON2_DATASETS", str(tmp_path / "root"))
    for name, given in (("home", "~/animals"), ("variable", "$ANIMALS"), ("root", "animals")):
        register(f"{name}=voc:{given}:train")
        assert MetadataCatalog.get(name).dirname == animals
    make_voc(tmp_path / "cwd" / "animals")
    register("cwd=voc:animals:train")
    assert MetadataCatalog.get("cwd").dirname == "animals"
    monkeypatch.delenv("DETECTRON2_DATASETS")
    make_voc(tmp_path / "cwd" / "datasets" / "birds")
    register("default=voc:birds:train")
    assert MetadataCatalog.get("default").dirname == "datasets/birds"


@pytest.mark.parametrize(
    "spec, message",
    [
        ("mine", "unknown format ''"),
        ("=voc:{}:train", "NAME is empty"),
        ("mine=voc:{}", "DIR or SPLIT is missing"),
        ("mine=voc:{}:train:", "DIR or SPLIT is missing"),
        ("mine=voc:{}:train:cat:dog", "a ':' too many"),
        ("mine=voc:{}:train:cat,,dog", "a class name is empty"),
        ("mine=voc:{}:train:cat,cat", "class names are missing or repeat"),
        ("mine=voc:{}:tain", "tain.txt does not exist; lists in that folder: test, train"),
        ("mine=voc:/no/such/folder:train", "there is no /no/such/folder: give"),
        ("mine=darknet:{}:train", "unknown format 'darknet'"),
        ("mine=coco:{}/a.json", "FILE.json or IMAGE_DIR is missing"),
        ("mine=coco:{}/a.json:{}", "there is no {}/a.json"),
        ("mine=coco:{}/Annotations:{}", "{}/Annotations is no file"),
        ("mine=coco:{}/Annotations/a.xml:{}/JPEGImages", "not readable as JSON"),
        ("mine=images:", "PATH is missing"),
        ("mine=images:{}:cat:frog", "a ':' too many"),
        ("mine=images:{}:cat,,frog", "a class name is empty"),
        ("mine=images:{}:dog", "folders there: Annotations"),
        ("mine=images:{}/ImageSets/Main", "holds no class folder"),
        ("mine=torchvision:CIFAR10:{}", "KIND, ROOT or SPLIT is missing"),
        ("mine=torchvision:SVHN:{}:train", "unknown data set 'SVHN': one of CIFAR10, CIFAR100, MNIST"),
        ("mine=torchvision:CIFAR10:{}:val", "unknown split 'val' of CIFAR10: train or test"),
        ("mine=torchvision:CIFAR10:{}:train", "prepare_torchvision.py CIFAR10 --output"),
        ("mine=torchvision:CIFAR10:/no/cifar:train", "prepare_torchvision.py CIFAR10 --output /no/cifar\n"),
    ],
)
def test_bad_spec_is_named_with_the_right_form(voc, spec, message):
    spec = spec.replace("{}", str(voc))
    with pytest.raises(ValueError) as caught:
        register(spec)
    assert repr(spec) in str(caught.value) and message.replace("{}", str(voc)) in str(caught.value)
    right = FORMATS.get(spec.split("=")[-1].split(":")[0], FORMATS["voc"]).form
    assert f"The right form: {right}" in str(caught.value) and "mine" not in DatasetCatalog


def test_commands_that_errors_name_exist():
    assert (ROOT / "datasets/prepare_torchvision.py").is_file()


def test_formats_are_a_table():
    calls = []
    formats = {**FORMATS, "other": Format("NAME=other:FILE", lambda *given: calls.append(given))}
    assert register_from_spec("mine=other:some/file:x", formats, on_invalid="skip_images") == "mine"
    assert calls == [("mine", "some/file:x", "skip_images")]
    with pytest.raises(ValueError, match="NAME=voc:DIR:SPLIT.* or NAME=other:FILE") as refused:
        register_from_spec("mine=darknet:x:y", formats)
    assert str(refused.value).count(" or NAME=images:") == 2  # its own two forms and none more
