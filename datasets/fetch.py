"""Official archives: downloaded, verified and unpacked by torchvision, with errors that name the way out."""

import argparse
import os
import tarfile
import zipfile
import zlib
from pathlib import Path

from torchvision.datasets.utils import download_url, extract_archive


class PrepareError(Exception):
    """A data set cannot be prepared; the message names the file, the URL and the way out."""


def fetch(url: str, folder: Path, md5: str, unpack_to: str) -> Path:
    """The archive of that URL in `folder`, downloaded unless it is there; it is unpacked to another folder.

    Raises:
        PrepareError: it cannot be downloaded, is not the official one, or cannot be unpacked.
    """
    file = folder / url.rsplit("/", 1)[-1]
    try:
        download_url(url, str(folder), file.name, md5)
    except (OSError, RuntimeError) as error:
        raise PrepareError(
            f"{url}: cannot be downloaded, or its MD5 is not {md5} ({error}). Run again, name a mirror with --base-url, "
            f"or put the official file at {file}."
        ) from error
    try:
        extract_archive(str(file), unpack_to)
    except (OSError, tarfile.TarError, zipfile.BadZipFile, zlib.error, EOFError) as error:
        raise PrepareError(f"{file}: cannot be unpacked ({error}). Delete it and run again.") from error
    return file


def option_parser(doc: str, what: str, base_url: str) -> argparse.ArgumentParser:
    """The options that scripts with archives have in common."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--output",
        default=os.getenv("DETECTRON2_DATASETS", "datasets"),
        help=f"folder that gets {what} [$DETECTRON2_DATASETS, here: %(default)s]",
    )
    parser.add_argument("--base-url", default=base_url, help="where the archives are [%(default)s]")
    parser.add_argument("--keep-archives", action="store_true", help="keep the downloaded archives in OUTPUT")
    return parser
