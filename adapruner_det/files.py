"""Files that are either there whole or not there, also after a power cut."""

import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO


def write_text(path: "str | Path", text: str) -> None:
    """Writes UTF-8 as `write_bytes` does."""
    write_bytes(path, text.encode("utf-8"))


def write_bytes(path: "str | Path", content: bytes) -> None:
    """Writes beside `path` and renames, so that a reader never sees half a file."""
    with replacing(path) as file:
        file.write(content)


@contextmanager
def replacing(path: "str | Path") -> Iterator[BinaryIO]:
    """A file beside `path` to write into; it takes the place of `path` when the block ends well."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with _named(path), beside.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(beside, path)
        _sync(path.parent)
    finally:
        beside.unlink(missing_ok=True)


@contextmanager
def new_folder(path: "str | Path") -> Iterator[Path]:
    """A temporary folder beside `path` to fill; it takes the place of `path` when the block ends well.

    A folder that was there before is replaced as a whole, so that no file of it survives in the new one.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = Path(tempfile.mkdtemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent))
    try:
        with _named(path):
            yield beside
        beside.chmod(0o755)  # mkdtemp's folders are private
        for folder in (beside, *(sub for sub in beside.rglob("*") if sub.is_dir())):
            _sync(folder)
        if path.exists():
            old = Path(tempfile.mkdtemp(prefix=f".{path.name}.old.", suffix=".tmp", dir=path.parent))
            os.rename(path, old / path.name)
            os.rename(beside, path)
            _sync(path.parent)
            shutil.rmtree(old)
        else:
            os.rename(beside, path)
            _sync(path.parent)
    finally:
        shutil.rmtree(beside, ignore_errors=True)


@contextmanager
def _named(path: Path) -> Iterator[None]:
    """Errors of writing say what could not be written: those of a full disk do not."""
    try:
        yield
    except OSError as error:
        error.filename = error.filename or str(path)
        raise


def sweep(folder: "str | Path", names: Sequence[str]) -> None:
    """Removes what killed processes left beside the files and folders of these names (patterns) in `folder`.

    A folder that was being replaced, and has no successor yet, is put back. Nobody may be writing there.
    """
    folder = Path(folder)
    for name in names:
        for old in folder.glob(f".{name}.old.*.tmp/{name}"):
            if not (folder / name).exists():
                os.rename(old, folder / name)
        for left in folder.glob(f".{name}.*.tmp"):
            shutil.rmtree(left) if left.is_dir() else left.unlink()


def _sync(folder: Path) -> None:
    """Makes renames in a folder survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
