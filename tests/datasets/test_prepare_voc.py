"""datasets/prepare_voc.py against small archives on a server of the test's own."""

import hashlib
import io
import tarfile

import prepare_voc
import pytest


def tar_bytes(files):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def voc_files(year, split, ids):
    root = f"VOCdevkit/VOC{year}"
    files = {f"{root}/ImageSets/Main/{split}.txt": "".join(f"{i}\n" for i in ids).encode()}
    for image_id in ids:
        files[f"{root}/JPEGImages/{image_id}.jpg"] = f"picture {image_id}".encode()
        files[f"{root}/Annotations/{image_id}.xml"] = f"<annotation>{image_id}</annotation>".encode()
    return files


LISTS = {
    "voc2007/trainval.tar": ("2007", "trainval", ["000005", "000007"]),
    "voc2007/test.tar": ("2007", "test", ["000001", "000002", "000003"]),
    "voc2012/trainval12.tar": ("2012", "trainval", ["2008_000002"]),
}
TARS = {path: tar_bytes(voc_files(*own)) for path, own in LISTS.items()}
EVERYTHING = {name.removeprefix("VOCdevkit/"): content for own in LISTS.values()
              for name, content in voc_files(*own).items()}  # fmt: skip


def table(tars):
    return [
        prepare_voc.Archive(path, hashlib.md5(tars[path]).hexdigest(), year, split, len(ids))
        for path, (year, split, ids) in LISTS.items()
        if path in tars
    ]


@pytest.fixture
def mirror(tmp_path, url):
    """Writes archives, and prepares from them; returns what is then in the folder `output`."""

    def prepare(tars=TARS, archives=None, **settings):
        for path, content in tars.items():
            (tmp_path / "mirror" / path).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / "mirror" / path).write_bytes(content)
        archives = archives or table(tars)
        prepare_voc.prepare_voc(tmp_path / "output", base_url=f"{url}/mirror", archives=archives, **settings)
        return contents(tmp_path / "output")

    return prepare


def contents(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_the_official_archives():
    paths = [archive.path for archive in prepare_voc.ARCHIVES]
    assert paths == [
        "voc2007/VOCtrainval_06-Nov-2007.tar", "voc2007/VOCtest_06-Nov-2007.tar", "voc2012/VOCtrainval_11-May-2012.tar"
    ]  # fmt: skip


def test_whole_download_merges_2007_and_second_run_does_nothing(mirror, monkeypatch):
    assert mirror() == EVERYTHING
    monkeypatch.setattr(prepare_voc, "fetch", lambda *arguments: pytest.fail("nothing is downloaded again"))
    assert mirror() == EVERYTHING


def test_years_and_keep_archives(mirror):
    found = mirror(years=["2012"], keep_archives=True)
    assert found.pop("trainval12.tar") == TARS["voc2012/trainval12.tar"]
    assert {name.split("/")[0] for name in found} == {"VOC2012"}


def test_what_cannot_be_downloaded_names_the_way_out_and_an_archive_put_by_hand_is_used(mirror, tmp_path, url):
    (path, tar), *_ = TARS.items()
    for there in (None, b"x" + tar[1:]):  # missing, and another checksum
        (tmp_path / "mirror" / path).parent.mkdir(parents=True, exist_ok=True)
        if there:
            (tmp_path / "mirror" / path).write_bytes(there)
        with pytest.raises(prepare_voc.PrepareError) as error:
            mirror({}, table({path: tar}))
        for part in (url, path, "--base-url", str(tmp_path / "output/trainval.tar")):
            assert part in str(error.value)
        assert not (tmp_path / "output/VOC2007").exists()
    (tmp_path / "output/trainval.tar").write_bytes(tar)
    (tmp_path / "mirror" / path).unlink()
    assert "VOC2007/JPEGImages/000005.jpg" in mirror({}, table({path: tar}))


@pytest.mark.parametrize("drop", ["ImageSets/Main/trainval.txt", "JPEGImages/000007.jpg", "everything"])
def test_archive_that_lacks_something_is_refused(mirror, tmp_path, drop):
    files = voc_files("2007", "trainval", ["000005", "000007"])
    files.pop(f"VOCdevkit/VOC2007/{drop}", None)
    tar = tar_bytes(files) if drop != "everything" else b"no archive"
    with pytest.raises(prepare_voc.PrepareError, match="lacks images or annotations|cannot be unpacked"):
        mirror({"voc2007/trainval.tar": tar})
    assert not (tmp_path / "output/VOC2007").exists()


def test_users_other_list_is_not_touched(mirror, tmp_path):
    own = tmp_path / "output/VOC2007/ImageSets/Main/trainval.txt"
    own.parent.mkdir(parents=True)
    own.write_text("000005\n")
    with pytest.raises(prepare_voc.PrepareError, match="lists 1 images.*has 2"):
        mirror()
    assert contents(tmp_path / "output") == {"VOC2007/ImageSets/Main/trainval.txt": b"000005\n"}


def test_an_interrupted_merge_is_completed_and_what_is_there_stays(mirror, tmp_path, monkeypatch):
    mirror({path: TARS[path] for path in list(TARS)[:1]})
    replace = prepare_voc.os.replace

    def fail_at_an_image(source, target):
        if str(target).endswith("000002.jpg"):
            raise KeyboardInterrupt
        replace(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(prepare_voc.os, "replace", fail_at_an_image)
        with pytest.raises(KeyboardInterrupt):
            mirror()
    edited = tmp_path / "output/VOC2007/Annotations/000005.xml"
    edited.write_text("<annotation>corrected</annotation>")
    (tmp_path / "output/VOC2007/JPEGImages/000005.jpg").unlink()
    name = "VOC2007/Annotations/000005.xml"
    assert mirror() == {**EVERYTHING, name: b"<annotation>corrected</annotation>"}
