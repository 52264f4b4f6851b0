"""datasets/prepare_torchvision.py: torchvision downloads small files from a server of this test's own."""

import hashlib
import io
import tarfile

import prepare_torchvision as script
import pytest
import torchvision.datasets
from conftest import ROOT
from fetch import PrepareError
from image_files import cifar_files, mnist_files, write_tree

from adapruner_det.data.image_datasets import load_torchvision_dataset
from adapruner_det.engine import load_config


def md5(content):
    return hashlib.md5(content).hexdigest()


@pytest.fixture
def cifar10(tmp_path, url, monkeypatch):
    """The archive that torchvision downloads CIFAR10 from, with the checksums it then expects."""
    files = cifar_files("CIFAR10")
    archive = tmp_path / "cifar.tar.gz"
    with tarfile.open(archive, "w:gz") as tar:
        for name, content in files.items():
            info = tarfile.TarInfo(f"cifar-10-batches-py/{name}")
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    loader = torchvision.datasets.CIFAR10
    monkeypatch.setattr(loader, "url", f"{url}/{archive.name}")
    monkeypatch.setattr(loader, "tgz_md5", md5(archive.read_bytes()))
    for attribute in ("train_list", "test_list"):
        monkeypatch.setattr(loader, attribute, [[name, md5(files[name])] for name, _ in getattr(loader, attribute)])
    monkeypatch.setattr(loader, "meta", {**loader.meta, "md5": md5(files["batches.meta"])})
    return archive


@pytest.fixture
def mnist(tmp_path, url, monkeypatch):
    files = mnist_files(zipped=True)
    folder = write_tree(tmp_path / "mirror", files)
    monkeypatch.setattr(torchvision.datasets.MNIST, "mirrors", [f"{url}/{folder.name}/"])
    monkeypatch.setattr(torchvision.datasets.MNIST, "resources", [(name, md5(files[name])) for name in sorted(files)])
    return folder


@pytest.mark.parametrize("kind, folder", [("CIFAR10", "cifar-10-batches-py"), ("MNIST", "MNIST")])
def test_a_data_set_arrives_and_is_not_downloaded_again(kind, folder, tmp_path, capsys, request):
    source = request.getfixturevalue(kind.lower())
    script.prepare(kind, tmp_path / "output")
    assert [path.name for path in (tmp_path / "output").iterdir()] == [folder]
    assert len(load_torchvision_dataset(kind, tmp_path / "output", "test")) == 2
    source.rename(tmp_path / "gone")
    script.prepare(kind, tmp_path / "output")
    assert "nothing to do" in capsys.readouterr().out


def test_without_output_the_data_is_where_the_configs_look(cifar10, tmp_path, monkeypatch, clean_catalogs):
    monkeypatch.setenv("DETECTRON2_DATASETS", str(tmp_path / "all"))
    script.prepare("CIFAR10")
    assert load_config(str(ROOT / "configs/cifar10/train_small.yaml")).DATASETS.TEST  # registered, so found


def test_failed_download_leaves_nothing(mnist, tmp_path):
    (mnist / "t10k-labels-idx1-ubyte.gz").unlink()
    with pytest.raises(PrepareError, match="(?s)MNIST: cannot be downloaded .*404.*OUTPUT/MNIST/raw"):
        script.prepare("MNIST", tmp_path / "output")
    assert not [path for path in (tmp_path / "output").rglob("*") if path.is_file()]


def test_other_checksum_is_refused(cifar10, tmp_path):
    cifar10.write_bytes(b"something else")
    with pytest.raises(PrepareError, match="CIFAR10: cannot be downloaded"):
        script.prepare("CIFAR10", tmp_path / "output")
    assert list((tmp_path / "output").iterdir()) == []


def test_users_own_folder_is_not_touched(cifar10, tmp_path):
    own = write_tree(tmp_path / "output", {"cifar-10-batches-py/data_batch_1": b"mine"}) / "cifar-10-batches-py"
    with pytest.raises(PrepareError, match="cifar-10-batches-py is there, but .*--output"):
        script.prepare("CIFAR10", tmp_path / "output")
    assert [path.read_bytes() for path in own.iterdir()] == [b"mine"]
