import pytest
from conftest import ROOT
from detectron2.data import DatasetCatalog, MetadataCatalog
from image_files import mnist_files, picture, write_tree, write_zip

from adapruner_det.data.image_registration import FORMATS
from adapruner_det.data.registration import register_from_spec

pytestmark = pytest.mark.usefixtures("clean_catalogs")


FILES = {"frog/1.png": picture(0), "cat/1.png": picture(1)}


@pytest.fixture
def frogs(tmp_path):
    return write_tree(tmp_path / "animals", FILES)


def register(spec, on_invalid="error"):
    return register_from_spec(spec, FORMATS, on_invalid)


def test_images_are_listed_when_asked_for(frogs):
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
    write_zip(tmp_path / "train.zip", {f"train/{name}": data for name, data in FILES.items()})
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


def test_registering_again(frogs):
    for _ in range(2):
        register(f"mine=images:{frogs}")
    with pytest.raises(ValueError, match="'mine' is already registered with .*thing_classes"):
        register(f"mine=images:{frogs}:frog,cat")
    with pytest.raises(ValueError, match="on_invalid is 'ignore'"):
        register(f"other=images:{frogs}", on_invalid="ignore")
    assert "other" not in DatasetCatalog


@pytest.mark.parametrize(
    "spec, message",
    [
        ("mine=images:", "a part is missing or empty"),
        ("mine=images:{}:cat:frog", "a ':' too many"),
        ("mine=images:{}:cat,,frog", "missing, repeat, or have no folder"),
        ("mine=images:{}:dog", "folders there: cat, frog"),
        ("mine=images:/no/such/folder", "there is no /no/such/folder"),
        ("mine=images:{}/frog", "holds no class folder"),
        ("mine=torchvision:CIFAR10:{}", "a part is missing or empty"),
        ("mine=torchvision:SVHN:{}:train", "unknown data set 'SVHN': one of CIFAR10, CIFAR100, MNIST"),
        ("mine=torchvision:CIFAR10:{}:val", "unknown split 'val' of CIFAR10: train or test"),
        ("mine=torchvision:CIFAR10:{}:train", "prepare_torchvision.py CIFAR10 --output"),
        ("mine=torchvision:CIFAR10:/no/cifar:train", "prepare_torchvision.py CIFAR10 --output /no/cifar\n"),
        (
            "mine=tiny_imagenet:{}:val",
            "Tiny-ImageNet is now a folder of class folders, as python datasets/prepare_tiny",
        ),
    ],
)
def test_bad_spec_is_named_with_the_right_form(frogs, spec, message):
    spec = spec.format(frogs)
    with pytest.raises(ValueError) as caught:
        register(spec)
    assert repr(spec) in str(caught.value)
    assert message in str(caught.value)
    assert "The right form: NAME=" in str(caught.value)
    assert "mine" not in DatasetCatalog


def test_commands_that_errors_name_exist():
    for script in ("prepare_torchvision.py", "prepare_tiny_imagenet.py"):
        assert (ROOT / "datasets" / script).is_file()
