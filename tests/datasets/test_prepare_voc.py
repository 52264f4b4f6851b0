"""datasets/prepare_voc.py against small archives, served by a server of this test's own."""

import hashlib
import io
import tarfile
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import prepare_voc
import pytest
from torchvision.datasets.voc import DATASET_YEAR_DICT


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
        files[f"{root}/JPEGImages/{image_id}.jpg"] = f"picture {image_id}".encode() * 500
        files[f"{root}/Annotations/{image_id}.xml"] = f"<annotation>{image_id}</annotation>".encode()
    return files


def archive_of(path, content, year, lists):
    return prepare_voc.Archive(path, hashlib.md5(content).hexdigest(), year, lists)


class Handler(BaseHTTPRequestHandler):
    """Serves `server.files`; notes requests; can ignore Range, or break off each full answer."""

    def do_GET(self):
        requested = self.headers.get("Range")
        self.server.requests.append((self.path, requested))
        content = self.server.files.get(self.path)
        if content is None:
            return self.send_error(404)
        start = int(requested[len("bytes=") : -1]) if requested and self.server.with_range else 0
        if start and start >= len(content):
            return self.send_error(416)
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        self.wfile.write(content[start:][: self.server.break_after])
        self.close_connection = True

    def log_message(self, *args):
        """Keeps the test's output clean."""


TRAINVAL = tar_bytes(voc_files("2007", "trainval", ["000005", "000007"]))
TEST = tar_bytes(voc_files("2007", "test", ["000001", "000002", "000003"]))
VOC2012 = tar_bytes(voc_files("2012", "trainval", ["2008_000002"]))
ARCHIVES = (
    archive_of("voc2007/trainval.tar", TRAINVAL, "2007", {"trainval": 2}),
    archive_of("voc2007/test.tar", TEST, "2007", {"test": 3}),
    archive_of("voc2012/trainval12.tar", VOC2012, "2012", {"trainval": 1}),
)


@pytest.fixture
def server():
    server = HTTPServer(("127.0.0.1", 0), Handler)
    server.url = f"http://127.0.0.1:{server.server_port}/VOC"
    tars = (TRAINVAL, TEST, VOC2012)
    server.files = {f"/VOC/{archive.path}": tar for archive, tar in zip(ARCHIVES, tars, strict=True)}
    server.with_range, server.break_after = True, None  # bytes of an answer, None to send it whole
    server.requests = []  # (path, Range header or None)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def prepare(server, output, archives=ARCHIVES, **settings):
    prepare_voc.prepare_voc(output, base_url=server.url, archives=archives, **settings)


def contents(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def expected_contents(*archives):
    files = {}
    for year, split, ids in archives:
        files.update(voc_files(year, split, ids))
    return {name[len("VOCdevkit/") :]: content for name, content in files.items()}


EVERYTHING = expected_contents(
    ("2007", "trainval", ["000005", "000007"]),
    ("2007", "test", ["000001", "000002", "000003"]),
    ("2012", "trainval", ["2008_000002"]),
)


def test_table_equals_torchvisions():
    for archive, key in zip(prepare_voc.ARCHIVES, ("2007", "2007-test", "2012")):
        published = DATASET_YEAR_DICT[key]
        assert archive.md5 == published["md5"]
        assert published["url"].endswith(f"/VOC/{archive.path}")
        assert archive.name == published["filename"]
    assert len(prepare_voc.ARCHIVES) == 3


def test_whole_download_merges_2007_and_second_run_does_nothing(server, tmp_path):
    prepare(server, tmp_path)
    assert contents(tmp_path) == EVERYTHING
    assert sorted(path.name for path in tmp_path.iterdir()) == ["VOC2007", "VOC2012"]
    assert len(server.requests) == 3
    prepare(server, tmp_path)
    assert len(server.requests) == 3
    assert contents(tmp_path) == EVERYTHING


def test_years_and_keep_archives(server, tmp_path):
    prepare(server, tmp_path, years=["2012"], keep_archives=True)
    assert [path for path, _ in server.requests] == ["/VOC/voc2012/trainval12.tar"]
    kept = tmp_path / "VOC_archives" / "trainval12.tar"
    assert kept.read_bytes() == VOC2012
    assert sorted(path.name for path in tmp_path.iterdir()) == ["VOC2012", "VOC_archives"]


def test_broken_connection_goes_on_where_it_stopped(server, tmp_path):
    server.break_after = 20000
    prepare(server, tmp_path, ARCHIVES[:1])
    assert [requested for _, requested in server.requests[:2]] == [None, "bytes=20000-"]
    assert len(TRAINVAL) > 20000
    assert contents(tmp_path) == expected_contents(("2007", "trainval", ["000005", "000007"]))


@pytest.mark.parametrize(
    "there, with_range, requested",
    [(777, True, "bytes=777-"), (len(TRAINVAL), True, f"bytes={len(TRAINVAL)}-"), (777, False, "bytes=777-")],
    ids=["resumed", "complete", "no-range"],
)
def test_next_run_goes_on_with_the_part_that_a_run_left(server, tmp_path, there, with_range, requested):
    server.with_range = with_range  # a server without Range starts over
    part = tmp_path / "VOC_archives" / "trainval.tar.part"
    part.parent.mkdir()
    part.write_bytes(TRAINVAL[:there])
    prepare(server, tmp_path, ARCHIVES[:1])
    assert server.requests[0][1] == requested
    assert contents(tmp_path) == expected_contents(("2007", "trainval", ["000005", "000007"]))


def test_connection_that_never_gets_further_is_given_up(server, tmp_path):
    server.with_range = False
    server.break_after = 1000
    with pytest.raises(prepare_voc.PrepareError, match="again and again after 1000 bytes") as error:
        prepare(server, tmp_path, ARCHIVES[:1])
    assert f"{server.url}/voc2007/trainval.tar" in str(error.value)
    assert "--base-url" in str(error.value)


def test_missing_file_on_server_names_the_way_out_and_one_put_by_hand_is_used(server, tmp_path):
    server.files.clear()
    with pytest.raises(prepare_voc.PrepareError) as error:
        prepare(server, tmp_path, ARCHIVES[:1])
    by_hand = tmp_path / "VOC_archives" / "trainval.tar"
    for part in ("404", f"{server.url}/voc2007/trainval.tar", "--base-url", str(by_hand)):
        assert part in str(error.value)
    by_hand.write_bytes(TRAINVAL)
    prepare(server, tmp_path, ARCHIVES[:1])
    assert len(server.requests) == 1 and (tmp_path / "VOC2007" / "JPEGImages" / "000005.jpg").is_file()


def test_checksum_mismatch_is_moved_away_and_the_next_run_works(server, tmp_path):
    server.files["/VOC/voc2007/trainval.tar"] = b"x" + TRAINVAL[1:]
    with pytest.raises(prepare_voc.PrepareError, match="MD5") as error:
        prepare(server, tmp_path, ARCHIVES[:1])
    assert ARCHIVES[0].md5 in str(error.value) and server.url in str(error.value)
    assert not (tmp_path / "VOC2007").exists()
    server.files["/VOC/voc2007/trainval.tar"] = TRAINVAL
    prepare(server, tmp_path, ARCHIVES[:1])
    assert (tmp_path / "VOC2007" / "JPEGImages" / "000005.jpg").is_file()


def test_path_traversal_is_refused(server, tmp_path):
    evil = tar_bytes({**voc_files("2007", "trainval", ["000005"]), "../../evil.txt": b"evil"})
    server.files["/VOC/voc2007/trainval.tar"] = evil
    table = [archive_of("voc2007/trainval.tar", evil, "2007", {"trainval": 1})]
    output = tmp_path / "in" / "side"
    output.mkdir(parents=True)
    with pytest.raises(prepare_voc.PrepareError, match="cannot be unpacked"):
        prepare(server, output, table)
    assert not list(tmp_path.rglob("evil.txt"))
    assert [path.name for path in output.iterdir()] == ["VOC_archives"]


@pytest.mark.parametrize(
    "drop, count, message",
    [
        ("ImageSets/Main/trainval.txt", 2, "VOCdevkit/VOC2007"),
        ("JPEGImages/000007.jpg", 2, "VOCdevkit/VOC2007"),
        (None, 5011, "5011"),
    ],
)
def test_archive_that_lacks_something_is_refused(server, tmp_path, drop, count, message):
    files = voc_files("2007", "trainval", ["000005", "000007"])
    files.pop(f"VOCdevkit/VOC2007/{drop}", None)
    content = tar_bytes(files)
    server.files["/VOC/voc2007/trainval.tar"] = content
    table = [archive_of("voc2007/trainval.tar", content, "2007", {"trainval": count})]
    with pytest.raises(prepare_voc.PrepareError, match=message):
        prepare(server, tmp_path, table)
    assert not (tmp_path / "VOC2007").exists()


def test_users_other_list_is_not_touched(server, tmp_path):
    own = tmp_path / "VOC2007" / "ImageSets" / "Main" / "trainval.txt"
    own.parent.mkdir(parents=True)
    own.write_text("000005\n")
    with pytest.raises(prepare_voc.PrepareError, match="lists 1 images.*has 2"):
        prepare(server, tmp_path)
    assert own.read_text() == "000005\n" and server.requests == []


def test_merge_restores_what_is_missing_and_keeps_what_is_there(server, tmp_path):
    prepare(server, tmp_path)
    (tmp_path / "VOC2007" / "JPEGImages" / "000001.jpg").unlink()
    edited = tmp_path / "VOC2007" / "Annotations" / "000002.xml"
    edited.write_text("<annotation>corrected</annotation>")
    prepare(server, tmp_path)
    name = str(edited.relative_to(tmp_path))
    assert contents(tmp_path) == {**EVERYTHING, name: b"<annotation>corrected</annotation>"}


def test_interrupted_merge_has_no_list_and_is_completed_by_the_next_run(server, tmp_path, monkeypatch):
    prepare(server, tmp_path, ARCHIVES[:1])
    replace = prepare_voc.os.replace

    def fail_at_an_image(source, target):
        if str(target).endswith("000002.jpg"):
            raise KeyboardInterrupt
        replace(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(prepare_voc.os, "replace", fail_at_an_image)
        with pytest.raises(KeyboardInterrupt):
            prepare(server, tmp_path, ARCHIVES[:2])
    assert not (tmp_path / "VOC2007" / "ImageSets" / "Main" / "test.txt").exists()
    prepare(server, tmp_path)
    assert contents(tmp_path) == EVERYTHING
