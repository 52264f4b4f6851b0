"""datasets/prepare_tiny_imagenet.py against a small archive on a server of the test's own."""

import hashlib
import sys

import prepare_tiny_imagenet as script
import pytest
from conftest import ROOT
from detectron2.data import DatasetCatalog, MetadataCatalog
from fetch import PrepareError
from image_files import tiny_imagenet_files, write_tree, write_zip

from adapruner_det.engine import load_config

NAME = "tiny-imagenet-200"
VAL = {"val_0.JPEG": "n01443537", "val_1.JPEG": "n03126707", "val_2.JPEG": "n02012849"}


@pytest.fixture
def archive(tmp_path):
    (tmp_path / "mirror").mkdir()
    files = {f"{NAME}/{name}": data for name, data in tiny_imagenet_files().items()}
    return write_zip(tmp_path / "mirror" / f"{NAME}.zip", files)


@pytest.fixture
def prepare(archive, url):
    def prepare(output, **settings):
        settings = {"base_url": f"{url}/mirror", "md5": hashlib.md5(archive.read_bytes()).hexdigest(), **settings}
        script.prepare_tiny_imagenet(output, **settings)

    return prepare


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_class_folders_where_the_configs_look_and_a_second_run_does_nothing(
    prepare, tmp_path, capsys, monkeypatch, clean_catalogs
):
    output = tmp_path / "output"
    prepare(output)
    assert names(output) == [NAME]
    files = tiny_imagenet_files()
    for name, wnid in VAL.items():
        assert (output / NAME / "val" / wnid / name).read_bytes() == files[f"val/images/{name}"]
    monkeypatch.setattr(script, "fetch", lambda *arguments: pytest.fail("nothing is downloaded again"))
    prepare(output)
    assert "nothing to download" in capsys.readouterr().out
    monkeypatch.setenv("DETECTRON2_DATASETS", str(output))
    for network in ("resnet18", "resnet50", "wide_resnet50_2"):
        cfg = load_config(str(ROOT / f"configs/tiny_imagenet/train_{network}.yaml"))
    train, val = (DatasetCatalog.get(name) for name in (*cfg.DATASETS.TRAIN, *cfg.DATASETS.TEST))
    classes = MetadataCatalog.get(cfg.DATASETS.TEST[0]).thing_classes
    assert {record["image_id"]: classes[record["category_id"]] for record in val} == {
        f"{wnid}/{name}": wnid for name, wnid in VAL.items()
    }
    assert train[0]["image_id"] == "n01443537/images/n01443537_0.JPEG" and len(train) == 6


def test_a_tree_that_was_unpacked_by_hand_is_sorted_and_an_incomplete_one_is_named(tmp_path):
    folder = write_tree(tmp_path / NAME, tiny_imagenet_files())
    (folder / "val/n01443537").mkdir()
    (folder / "val/images/val_0.JPEG").rename(folder / "val/n01443537/val_0.JPEG")  # an earlier run came so far
    script.prepare_tiny_imagenet(tmp_path)
    assert names(folder / "val") == ["annotations.txt", *sorted(VAL.values())]
    other = write_tree(tmp_path / "other" / NAME, tiny_imagenet_files())
    (other / "val/images/val_1.JPEG").unlink()
    with pytest.raises(PrepareError, match="val_1.JPEG is missing"):
        script.prepare_tiny_imagenet(tmp_path / "other")


def test_archive_that_is_there_is_used_and_kept_if_asked(archive, prepare):
    prepare(archive.parent, base_url="http://127.0.0.1:1", keep_archives=True)
    assert names(archive.parent) == [NAME, f"{NAME}.zip"]


@pytest.mark.parametrize("fault, message", [("MD5", "MD5 is not 000"), ("content", "cannot be unpacked")])
def test_other_checksum_and_damaged_archive_leave_nothing(archive, prepare, tmp_path, fault, message):
    content = bytearray(archive.read_bytes())
    content[content.index(b"n02012849\n") + 4] ^= 255
    archive.write_bytes(bytes(content))
    with pytest.raises(PrepareError, match=message):
        prepare(tmp_path / "output", **({"md5": "0" * 32} if fault == "MD5" else {}))
    assert not (tmp_path / "output" / NAME).exists()


def test_command_line_names_what_is_wrong(tmp_path, monkeypatch, url):
    arguments = ["--output", str(tmp_path / "out"), "--base-url", f"{url}/no"]
    monkeypatch.setattr(sys, "argv", ["prepare_tiny_imagenet.py", *arguments])
    with pytest.raises(
        SystemExit, match="prepare_tiny_imagenet.py: http.*no/tiny-imagenet-200.zip: cannot be downloaded.*--base-url"
    ):
        script.main()
