"""datasets/prepare_torchvision.py: torchvision downloads small files from a server of this test's own."""

import hashlib
import io
import tarfile
import threading
from functools import partial
from http.server import HTTPServer, SimpleHTTPRequestHandler

import pytest
import torchvision.datasets
from conftest import ROOT, load_script
from detectron2.config import get_cfg
from image_files import cifar_files, mnist_files

from adapruner_det.data.download import PrepareError
from adapruner_det.data.image_datasets import load_torchvision_dataset
from adapruner_det.data.registration import find_path
from adapruner_det.engine import add_adapruner_config

script = load_script(ROOT / "datasets" / "prepare_torchvision.py")


def md5(content):
    return hashlib.md5(content).hexdigest()


class Handler(SimpleHTTPRequestHandler):
    def log_message(self, *args):
        """Keeps the test's output clean."""


@pytest.fixture
def url(tmp_path):
    """Address of a server of the files in tmp_path."""
    server = HTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(tmp_path)))
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def cifar10(tmp_path, url, monkeypatch):
    """Where torchvision downloads CIFAR10 from, with the checksums it then expects."""
    files = cifar_files("CIFAR10")
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for name, content in files.items():
            info = tarfile.TarInfo(f"cifar-10-batches-py/{name}")
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    archive = tmp_path / "cifar.tar.gz"
    archive.write_bytes(buffer.getvalue())
    loader = torchvision.datasets.CIFAR10
    monkeypatch.setattr(loader, "url", f"{url}/{archive.name}")
    monkeypatch.setattr(loader, "tgz_md5", md5(buffer.getvalue()))
    monkeypatch.setattr(loader, "train_list", [[name, md5(files[name])] for name, _ in loader.train_list])
    monkeypatch.setattr(loader, "test_list", [[name, md5(files[name])] for name, _ in loader.test_list])
    monkeypatch.setattr(loader, "meta", {**loader.meta, "md5": md5(files["batches.meta"])})
    return archive


@pytest.fixture
def mnist(tmp_path, url, monkeypatch):
    folder = tmp_path / "mirror"
    folder.mkdir()
    for name, content in mnist_files(zipped=True).items():
        (folder / name).write_bytes(content)
    resources = [(path.name, md5(path.read_bytes())) for path in sorted(folder.iterdir())]
    monkeypatch.setattr(torchvision.datasets.MNIST, "mirrors", [f"{url}/{folder.name}/"])
    monkeypatch.setattr(torchvision.datasets.MNIST, "resources", resources)
    return folder


def test_data_sets_arrive_and_are_not_downloaded_again(cifar10, mnist, tmp_path, capsys):
    output = tmp_path / "output"
    script.prepare_torchvision(["CIFAR10", "MNIST"], output)
    assert sorted(path.name for path in output.iterdir()) == ["MNIST", "cifar-10-batches-py"]
    assert len(load_torchvision_dataset("CIFAR10", output, "train")) == 5
    assert len(load_torchvision_dataset("MNIST", output, "test")) == 2
    cifar10.unlink()
    capsys.readouterr()
    script.prepare_torchvision(["CIFAR10", "MNIST"], output)
    assert capsys.readouterr().out.count("nothing to do") == 2


def test_without_output_the_data_is_where_the_configs_look(cifar10, tmp_path, monkeypatch):
    monkeypatch.setenv("DETECTRON2_DATASETS", str(tmp_path / "all"))
    script.prepare_torchvision(["CIFAR10"])
    cfg = get_cfg()
    add_adapruner_config(cfg)
    cfg.merge_from_file(str(ROOT / "configs/cifar10/train_small.yaml"))
    for spec in cfg.DATASETS.REGISTER:
        assert "cifar10" in find_path(spec.split(":")[2])
        assert load_torchvision_dataset("CIFAR10", find_path(spec.split(":")[2]), spec.split(":")[3])


def test_failed_download_leaves_nothing(mnist, tmp_path):
    (mnist / "t10k-labels-idx1-ubyte.gz").unlink()
    output = tmp_path / "output"
    with pytest.raises(PrepareError, match="(?s)MNIST: cannot be downloaded .*404.*OUTPUT/MNIST/raw"):
        script.prepare_torchvision(["MNIST"], output)
    assert not [path for path in output.rglob("*") if path.is_file()]
    assert not list(output.glob("*.tmp"))


def test_other_checksum_is_refused(cifar10, tmp_path):
    cifar10.write_bytes(b"something else")
    with pytest.raises(PrepareError, match="CIFAR10: cannot be downloaded"):
        script.prepare_torchvision(["CIFAR10"], tmp_path / "output")
    assert list((tmp_path / "output").iterdir()) == []


def test_users_own_folder_is_not_touched(cifar10, tmp_path):
    own = tmp_path / "output" / "cifar-10-batches-py" / "data_batch_1"
    own.parent.mkdir(parents=True)
    own.write_bytes(b"mine")
    with pytest.raises(PrepareError, match="cifar-10-batches-py is there, but .*--output"):
        script.prepare_torchvision(["CIFAR10"], tmp_path / "output")
    assert [path.read_bytes() for path in own.parent.iterdir()] == [b"mine"]
