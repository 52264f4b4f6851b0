"""Downloads of official archives, for the scripts in datasets/: resumed, as torchvision's are not, and verified."""

import http.client
import os
import shutil
import urllib.error
import urllib.request
from pathlib import Path

from torchvision.datasets.utils import check_integrity
from tqdm import tqdm

TIMEOUT = 60  # seconds without a byte until a connection counts as broken


class PrepareError(Exception):
    """A data set cannot be prepared; the message names the file, the URL and the way out."""


def download(url: str, target: Path) -> None:
    """Downloads `url` to `target`, by way of `target`.part, which a later run goes on with.

    Raises:
        PrepareError: the server refuses, or a connection broke without having brought anything new.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(target.name + ".part")
    size = -1
    try:
        while not _receive(url, part):
            if part.stat().st_size <= size:
                raise ConnectionError(f"the connection breaks again and again after {size} bytes")
            size = part.stat().st_size
    except (OSError, http.client.HTTPException) as error:
        raise PrepareError(
            f"{url}: cannot be downloaded to {part} ({error}). Run again to go on where it stopped, name a mirror "
            f"with --base-url, or download the file in another way and put it at {target}."
        ) from error
    os.replace(part, target)


def _receive(url: str, part: Path) -> bool:
    """Appends to `part` what it lacks of the file at `url`; False if the connection broke before the end."""
    done = part.stat().st_size if part.exists() else 0
    request = urllib.request.Request(url, headers={"Range": f"bytes={done}-"} if done else {})
    try:
        response = urllib.request.urlopen(request, timeout=TIMEOUT)
    except urllib.error.HTTPError as error:
        if error.code == 416 and done:  # "range not satisfiable": nothing was left to send
            return True
        raise
    resumed = response.status == 206  # else the server sends the file from its start
    length = response.headers.get("Content-Length")
    total = None if length is None else int(length) + resumed * done
    bar = {"desc": part.stem, "total": total, "initial": resumed * done, "unit": "B", "unit_scale": True}
    with response, part.open("ab" if resumed else "wb") as file, tqdm.wrapattr(file, "write", **bar) as out:
        try:
            shutil.copyfileobj(response, out, 1 << 20)
        except (ConnectionError, TimeoutError, http.client.IncompleteRead):
            return False
        return total is None or file.tell() == total


def check_md5(file: Path, md5: str, url: str) -> None:
    """Raises PrepareError, and moves the file out of the way, if its MD5 is not the official."""
    if check_integrity(file, md5):
        return
    broken = file.with_name(file.name + ".broken")
    os.replace(file, broken)
    raise PrepareError(
        f"{file}: its MD5 is not {md5}, that of the official archive (source: {url}). It was renamed to {broken.name}; "
        "run again to download it anew, and if that does not help name a mirror with --base-url."
    )
