"""datasets/prepare_tiny_imagenet.py against a small archive at a file:// address."""

import hashlib
import sys

import prepare_tiny_imagenet as script
import pytest
from conftest import ROOT
from image_files import tiny_imagenet_files, write_tree, write_zip

from adapruner_det.data.download import PrepareError
from adapruner_det.engine import load_config

NAME = "tiny-imagenet-200"


@pytest.fixture
def archive(tmp_path):
    (tmp_path / "mirror").mkdir()
    files = {f"{NAME}/{name}": data for name, data in tiny_imagenet_files().items()}
    return write_zip(tmp_path / "mirror" / f"{NAME}.zip", files)


def prepare(archive, output, **settings):
    md5 = hashlib.md5(archive.read_bytes()).hexdigest()
    script.prepare_tiny_imagenet(output, archive.parent.as_uri(), **{"md5": md5, **settings})


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_whole_tree_where_the_configs_look_and_a_second_run_does_nothing(
    archive, tmp_path, capsys, monkeypatch, clean_catalogs
):
    output = tmp_path / "output"
    prepare(archive, output)
    assert names(output) == [NAME]
    found = {p.relative_to(output / NAME).as_posix(): p.read_bytes() for p in output.rglob("*") if p.is_file()}
    assert found == tiny_imagenet_files()
    monkeypatch.setattr(script, "download", lambda *arguments: pytest.fail("nothing is downloaded again"))
    prepare(archive, output)
    assert "nothing to do" in capsys.readouterr().out
    monkeypatch.setenv("DETECTRON2_DATASETS", str(output))
    for network in ("resnet18", "resnet50", "wide_resnet50_2"):
        assert load_config(str(ROOT / f"configs/tiny_imagenet/train_{network}.yaml")).DATASETS.TEST


def test_archive_that_is_there_is_used_and_kept_if_asked(archive, tmp_path, monkeypatch):
    monkeypatch.setattr(script, "download", lambda *arguments: pytest.fail("it is there"))
    prepare(archive, archive.parent, keep_archive=True)
    assert names(archive.parent) == [NAME, f"{NAME}.zip"]


def test_other_checksum_is_refused_and_moved_away(archive, tmp_path):
    with pytest.raises(PrepareError, match="MD5"):
        prepare(archive, tmp_path / "output", md5="0" * 32)
    assert names(tmp_path / "output") == [f"{NAME}.zip.broken"]


def test_damaged_archive_leaves_nothing(archive, tmp_path):
    content = bytearray(archive.read_bytes())
    content[content.index(b"goldfish") + 4] ^= 255
    archive.write_bytes(bytes(content))
    with pytest.raises(PrepareError, match="cannot be unpacked"):
        prepare(archive, tmp_path / "output")
    assert names(tmp_path / "output") == [f"{NAME}.zip"]


def test_users_own_folder_is_not_touched(archive, tmp_path):
    own = write_tree(tmp_path / "output" / NAME, {"wnids.txt": b"mine"})
    with pytest.raises(PrepareError, match="is not complete: words.txt, train, .* is missing.*--output"):
        prepare(archive, tmp_path / "output")
    assert names(own) == ["wnids.txt"] and (own / "wnids.txt").read_bytes() == b"mine"


def test_command_line_names_what_is_wrong(tmp_path, monkeypatch):
    arguments = ["--output", str(tmp_path / "out"), "--base-url", (tmp_path / "no").as_uri()]
    monkeypatch.setattr(sys, "argv", ["prepare_tiny_imagenet.py", *arguments])
    with pytest.raises(SystemExit, match="prepare_tiny_imagenet.py: file://.* cannot be downloaded"):
        script.main()
