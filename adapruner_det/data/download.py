"""Downloads of official archives, for the scripts in datasets/: resumed, verified, never half there."""

import hashlib
import http.client
import os
import urllib.error
import urllib.request
from pathlib import Path

from tqdm import tqdm

CHUNK = 1 << 20  # bytes
TIMEOUT = 60  # seconds without a byte until a connection counts as broken
MAX_STALLS = 3  # broken connections without progress until the download is given up


class PrepareError(Exception):
    """A data set cannot be prepared; the message names the file, the URL and the way out."""


def progress(text: str, total: int | None, done: int = 0) -> tqdm:
    return tqdm(desc=text, total=total, initial=done, unit="B", unit_scale=True, unit_divisor=1024)


def receive(url: str, part: Path) -> bool:
    """Appends to `part` what it lacks of the file at `url`.

    Returns:
        True if the file is complete, False if the connection broke before.

    Raises:
        OSError, http.client.HTTPException: there was no answer, or an error.
    """
    done = part.stat().st_size if part.exists() else 0
    request = urllib.request.Request(url, headers={"Range": f"bytes={done}-"} if done else {})
    try:
        response = urllib.request.urlopen(request, timeout=TIMEOUT)
    except urllib.error.HTTPError as error:
        if error.code == 416 and done:
            return True  # "range not satisfiable": nothing was left to send
        raise
    with response:
        if response.status != 206:
            done = 0  # the server cannot resume and sends the file from its start
        length = response.headers.get("Content-Length")
        total = None if length is None else done + int(length)
        with part.open("ab" if done else "wb") as file, progress(part.stem, total, done) as bar:
            try:
                while chunk := response.read(CHUNK):
                    file.write(chunk)
                    bar.update(len(chunk))
            except (ConnectionError, TimeoutError, http.client.IncompleteRead):
                return False
            return total is None or file.tell() == total


def download(url: str, target: Path) -> None:
    """Downloads `url` to `target`, by way of `target`.part, which a later run goes on with.

    Raises:
        PrepareError: the server refuses, or the connection keeps breaking.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(target.name + ".part")
    size, stalls = -1, 0
    try:
        while not receive(url, part):
            # a server without Range starts over each time, and may never get further
            if part.stat().st_size > size:
                size, stalls = part.stat().st_size, 0
            else:
                stalls += 1
            if stalls == MAX_STALLS:
                raise ConnectionError(f"the connection breaks again and again after {size} bytes")
    except (OSError, http.client.HTTPException) as error:
        raise PrepareError(
            f"{url}: cannot be downloaded to {part} ({error}). Run again to go on where it "
            "stopped, name a mirror with --base-url, or download the file in another way and "
            f"put it at {target}."
        ) from error
    os.replace(part, target)


def check_md5(file: Path, md5: str, url: str) -> None:
    """Raises PrepareError, and moves the file out of the way, if its MD5 is not the official."""
    digest = hashlib.md5()
    with file.open("rb") as stream, progress(f"checking {file.name}", file.stat().st_size) as bar:
        while chunk := stream.read(CHUNK):
            digest.update(chunk)
            bar.update(len(chunk))
    if digest.hexdigest() == md5:
        return
    broken = file.with_name(file.name + ".broken")
    os.replace(file, broken)
    raise PrepareError(
        f"{file}: MD5 is {digest.hexdigest()}, but the official archive has {md5} (source: "
        f"{url}). It was renamed to {broken.name}; run again to download it anew, and if that "
        "does not help name a mirror with --base-url."
    )
