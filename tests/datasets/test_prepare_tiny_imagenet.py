"""datasets/prepare_tiny_imagenet.py against a small archive at a file:// address."""

import hashlib
import subprocess
import sys
import zipfile

import pytest
from conftest import ROOT, load_script
from detectron2.config import get_cfg

from adapruner_det.data.download import PrepareError
from adapruner_det.data.image_datasets import load_tiny_imagenet, tiny_imagenet_folder
from adapruner_det.data.registration import find_path
from adapruner_det.data.validation import InvalidDatasetError
from adapruner_det.engine import add_adapruner_config

SCRIPT = ROOT / "datasets" / "prepare_tiny_imagenet.py"

script = load_script(SCRIPT)

WNIDS = ("n02012849", "n01443537")


def official_files(train_images=2, val_images=3):
    """The tree that the archive holds; its pictures are never looked at."""
    files = {"wnids.txt": "\n".join(WNIDS), "words.txt": "n01443537\tgoldfish\nn02012849\tcrane\n"}
    for wnid in WNIDS:
        for k in range(train_images):
            files[f"train/{wnid}/images/{wnid}_{k}.JPEG"] = f"picture {wnid} {k}"
    for k in range(val_images):
        files[f"val/images/val_{k}.JPEG"] = f"picture {k}"
    labels = (f"val_{k}.JPEG\t{WNIDS[k % 2]}\t0\t0\t1\t1\n" for k in range(val_images))
    return {**files, "val/val_annotations.txt": "".join(labels)}


class Mirror:
    """A folder with an archive of `files`, as a place to download from."""

    def __init__(self, folder, files):
        folder.mkdir(exist_ok=True)
        self.archive = folder / "tiny-imagenet-200.zip"
        with zipfile.ZipFile(self.archive, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, content in files.items():
                archive.writestr(f"tiny-imagenet-200/{name}", content)
        self.url = folder.as_uri()
        self.official = script.Official(hashlib.md5(self.archive.read_bytes()).hexdigest(), 2, 2, 3)

    def prepare(self, output, **settings):
        script.prepare_tiny_imagenet(output, self.url, official=self.official, **settings)


@pytest.fixture
def mirror(tmp_path):
    return Mirror(tmp_path / "mirror", official_files())


def contents(folder):
    return {p.relative_to(folder).as_posix(): p.read_text() for p in folder.rglob("*") if p.is_file()}


def test_whole_tree_and_a_second_run_does_nothing(mirror, tmp_path, capsys):
    output = tmp_path / "output"
    mirror.prepare(output)
    assert contents(output / "tiny-imagenet-200") == official_files()
    assert [path.name for path in output.iterdir()] == ["tiny-imagenet-200"]
    mirror.archive.unlink()  # nothing is downloaded again
    mirror.prepare(output)
    assert "nothing to do" in capsys.readouterr().out


def test_archive_that_is_there_is_used_and_kept_if_asked(mirror, tmp_path):
    output = tmp_path / "output"
    output.mkdir()
    mirror.archive.rename(output / "tiny-imagenet-200.zip")
    mirror.prepare(output, keep_archive=True)
    assert sorted(path.name for path in output.iterdir()) == ["tiny-imagenet-200", "tiny-imagenet-200.zip"]


def test_other_checksum_is_refused_and_moved_away(mirror, tmp_path):
    output = tmp_path / "output"
    mirror.official = mirror.official._replace(md5="0" * 32)
    with pytest.raises(PrepareError, match="MD5"):
        mirror.prepare(output)
    assert [path.name for path in output.iterdir()] == ["tiny-imagenet-200.zip.broken"]


@pytest.mark.parametrize(
    "change, fault",
    [
        ({"words.txt": None}, "words.txt is missing"),
        ({"wnids.txt": "n02012849\n"}, "wnids.txt lists 1 classes, not 2"),
        ({"train/n01443537/images/n01443537_1.JPEG": None}, "train/n01443537/images holds 1 images, not 2"),
        ({"val/images/val_2.JPEG": None}, "val holds 2 images and labels of 3"),
        ({"val/images/val_3.JPEG": "x"}, "val holds 4 images and labels of 3"),
        ({"val/images/val_2.JPEG": None, "val/images/other.JPEG": "x"}, "val holds 3 images and labels of 3"),
    ],
)
def test_incomplete_archive_leaves_nothing(tmp_path, change, fault):
    files = {name: data for name, data in {**official_files(), **change}.items() if data is not None}
    output = tmp_path / "output"
    with pytest.raises(PrepareError, match=f"not the official archive: {fault}"):
        Mirror(tmp_path / "mirror", files).prepare(output)
    assert [path.name for path in output.iterdir()] == ["tiny-imagenet-200.zip"]


def test_damaged_archive_leaves_nothing(mirror, tmp_path):
    content = bytearray(mirror.archive.read_bytes())
    content[content.index(b"JPEG") + 4] ^= 255  # the first byte of a picture's compressed data
    mirror.archive.write_bytes(bytes(content))
    mirror.official = mirror.official._replace(md5=hashlib.md5(content).hexdigest())
    output = tmp_path / "output"
    with pytest.raises(PrepareError, match="cannot be unpacked"):
        mirror.prepare(output)
    assert [path.name for path in output.iterdir()] == ["tiny-imagenet-200.zip"]


def test_users_own_folder_is_not_touched(mirror, tmp_path):
    own = tmp_path / "output" / "tiny-imagenet-200" / "wnids.txt"
    own.parent.mkdir(parents=True)
    own.write_text("mine")
    with pytest.raises(PrepareError, match="is not complete: words.txt is missing.*--output"):
        mirror.prepare(tmp_path / "output")
    assert contents(tmp_path / "output") == {"tiny-imagenet-200/wnids.txt": "mine"}


def test_official_numbers():
    assert script.Official()[1:] == (200, 500, 10_000)  # as in the paper: 100,000 and 10,000 images
    assert f"{script.BASE_URL}/{script.FOLDER}.zip" == "http://cs231n.stanford.edu/tiny-imagenet-200.zip"


def test_the_reader_finds_what_the_script_makes(mirror, tmp_path):
    mirror.prepare(tmp_path)
    with pytest.raises(InvalidDatasetError) as caught:
        load_tiny_imagenet(tmp_path, "val")  # all three are there; they are no pictures
    assert [str(problem).count("cannot identify") for problem in caught.value.problems] == [1, 1, 1]


@pytest.mark.parametrize("network", ["resnet18", "resnet50", "wide_resnet50_2"])
def test_the_configs_look_where_the_script_puts_it(mirror, tmp_path, monkeypatch, network):
    monkeypatch.setenv("DETECTRON2_DATASETS", str(tmp_path))
    mirror.prepare(tmp_path)  # the script's own default
    cfg = get_cfg()
    add_adapruner_config(cfg)
    cfg.merge_from_file(str(ROOT / f"configs/tiny_imagenet/prune_{network}.yaml"))
    for spec in cfg.DATASETS.REGISTER:
        assert tiny_imagenet_folder(find_path(spec.split(":")[1])) == str(tmp_path / script.FOLDER)


def test_command_line_names_what_is_wrong(tmp_path):
    command = [sys.executable, SCRIPT, "--output", tmp_path / "out", "--base-url", (tmp_path / "no").as_uri()]
    finished = subprocess.run(command, capture_output=True, text=True)
    assert finished.returncode == 1
    assert "prepare_tiny_imagenet.py: file://" in finished.stderr and "cannot be downloaded" in finished.stderr
