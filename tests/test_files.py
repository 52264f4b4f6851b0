import pytest

from adapruner_det.files import new_folder, write_text


def test_text_is_replaced_whole_and_leaves_nothing_beside(tmp_path):
    path = tmp_path / "deep" / "file.txt"
    write_text(path, "one\n")
    write_text(path, "two\n")
    assert path.read_bytes() == b"two\n" and [p.name for p in path.parent.iterdir()] == ["file.txt"]


def test_new_folder_replaces_the_old_one_as_a_whole(tmp_path):
    target = tmp_path / "target"
    target.mkdir()
    (target / "old").write_text("old")
    with new_folder(target) as folder:
        (folder / "new").write_text("new")
        assert (target / "old").exists()
    assert [p.name for p in tmp_path.iterdir()] == ["target"]
    assert [p.name for p in target.iterdir()] == ["new"]


def test_a_block_that_fails_leaves_the_old_folder(tmp_path):
    target = tmp_path / "target"
    target.mkdir()
    (target / "old").write_text("old")
    with pytest.raises(RuntimeError):
        with new_folder(target) as folder:
            (folder / "half").write_text("half")
            raise RuntimeError
    assert [p.name for p in tmp_path.iterdir()] == ["target"]
    assert [p.name for p in target.iterdir()] == ["old"]
