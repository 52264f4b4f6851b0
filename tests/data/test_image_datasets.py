import hashlib
import pickle

import numpy as np
import pytest
import torchvision.datasets
from image_files import cifar_files, mnist_files, write_tree

from adapruner_det.data.image_datasets import load_torchvision_dataset, read_torchvision
from adapruner_det.data.images import read_images


@pytest.fixture
def cifar(tmp_path, monkeypatch):
    """Writes small batches of CIFAR10 or CIFAR100, whose checksums torchvision then expects."""

    def write(kind):
        files = cifar_files(kind)
        loader = getattr(torchvision.datasets, kind)
        write_tree(tmp_path / loader.base_folder, files)
        md5 = {name: hashlib.md5(content).hexdigest() for name, content in files.items()}
        for attribute in ("train_list", "test_list"):
            listed = [[name, md5[name]] for name, _ in getattr(loader, attribute)]
            monkeypatch.setattr(loader, attribute, listed)
        monkeypatch.setattr(loader, "meta", {**loader.meta, "md5": md5[loader.meta["filename"]]})
        return tmp_path

    return write


@pytest.mark.parametrize("kind, batch", [("CIFAR10", "data_batch_2"), ("CIFAR100", "train")])
def test_cifar(cifar, kind, batch):
    root = cifar(kind)
    assert read_torchvision(kind, root, "test").classes == ["airplane", "automobile", "bird"]
    records = load_torchvision_dataset(kind, root, "train")
    assert [record["image_id"] for record in records] == ["0", "1", "2", "3", "4"]
    labels = [1, 2, 1, 2, 0] if kind == "CIFAR10" else [1, 2, 0, 1, 2]
    assert [record["category_id"] for record in records] == labels
    assert all(type(record["category_id"]) is int for record in records)
    rows = pickle.loads(cifar_files(kind)[batch])["data"]
    # three planes of 32 x 32 one after the other
    np.testing.assert_array_equal(read_images(records, 32)[-1], rows[-1].reshape(3, 32, 32).transpose(1, 2, 0))
    assert len(load_torchvision_dataset(kind, root, "test")) == 2


@pytest.mark.parametrize("kind", ["MNIST", "FashionMNIST"])
def test_mnist(tmp_path, kind):
    write_tree(tmp_path / kind / "raw", mnist_files())
    records = load_torchvision_dataset(kind, tmp_path, "train")
    assert [(r["image_id"], r["category_id"]) for r in records] == [("0", 1), ("1", 4), ("2", 7), ("3", 0)]
    grey = np.frombuffer(mnist_files()["train-images-idx3-ubyte"], np.uint8, offset=16).reshape(4, 28, 28)
    np.testing.assert_array_equal(read_images(records, 28), np.stack([grey] * 3, axis=-1))
    assert len(load_torchvision_dataset(kind, tmp_path, "test")) == 2


def test_missing_and_damaged_files_name_folder_and_command(cifar, tmp_path):
    where = rf"missing or damaged in {tmp_path}/%s.*python datasets/prepare_torchvision.py %s --output {tmp_path}"
    with pytest.raises(FileNotFoundError, match=where % ("cifar-100-python", "CIFAR100")):
        load_torchvision_dataset("CIFAR100", tmp_path, "train")
    for name in ("data_batch_3", "batches.meta"):
        (cifar("CIFAR10") / "cifar-10-batches-py" / name).write_bytes(pickle.dumps({"label_names": ["cat"]}))
        with pytest.raises(FileNotFoundError, match=where % ("cifar-10-batches-py", "CIFAR10")):
            load_torchvision_dataset("CIFAR10", tmp_path, "train")
    short = {**mnist_files(), "train-labels-idx1-ubyte": mnist_files(train=3)["train-labels-idx1-ubyte"]}
    write_tree(tmp_path / "MNIST" / "raw", short)
    with pytest.raises(FileNotFoundError, match=r"MNIST/raw \(4 images but 3 labels\)"):
        load_torchvision_dataset("MNIST", tmp_path, "train")


@pytest.mark.parametrize("name", ["train-images-idx3-ubyte", "train-labels-idx1-ubyte"])
@pytest.mark.parametrize("length", [0, 9, 100_000])
def test_damaged_mnist_is_refused(tmp_path, name, length):
    files = mnist_files()
    files[name] = (files[name] + bytes(100_000))[:length]
    write_tree(tmp_path / "MNIST" / "raw", files)
    with pytest.raises(FileNotFoundError, match="missing or damaged in .*raw .*prepare_torchvision"):
        load_torchvision_dataset("MNIST", tmp_path, "train")
