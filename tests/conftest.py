import importlib.util
import os
import subprocess
import sys
import threading
from functools import partial
from http.server import HTTPServer, SimpleHTTPRequestHandler
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from detectron2.data import DatasetCatalog, MetadataCatalog

from adapruner_det.experiments import processes

pytest_plugins = ["proxy_runs"]  # fixtures
ROOT = Path(__file__).resolve().parents[1]
SHARED_DATA = ROOT.parent / "shared" / "data"


def pytest_configure(config):
    # Small models on few cores: threads of several processes would only wait for each other.
    torch.set_num_threads(1)
    os.environ["OMP_NUM_THREADS"] = "1"


def load_script(path: Path):
    """A script of datasets/, which is no package, as a module."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder with the real data sets, beside the checkout."""
    if not SHARED_DATA.is_dir():
        pytest.skip(f"real data sets not found at {SHARED_DATA}")
    return SHARED_DATA


def write_voc_image(folder: Path, image_id: str, boxes, size=(64, 48), brightness=128) -> None:
    """One picture of filled rectangles with its XML; boxes are (class, xmin, ymin, xmax, ymax)."""
    width, height = size
    image = np.full((height, width, 3), brightness, np.uint8)
    objects = ""
    for name, xmin, ymin, xmax, ymax in boxes:
        image[ymin - 1 : ymax, xmin - 1 : xmax] = 255 if name == "white" else 0
        objects += (
            f"<object><name>{name}</name><pose>Unspecified</pose><truncated>0</truncated>"
            f"<difficult>0</difficult><bndbox><xmin>{xmin}</xmin><ymin>{ymin}</ymin>"
            f"<xmax>{xmax}</xmax><ymax>{ymax}</ymax></bndbox></object>"
        )
    for name in ("JPEGImages", "Annotations"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(folder / "JPEGImages" / f"{image_id}.jpg"), image)
    (folder / "Annotations" / f"{image_id}.xml").write_text(
        f"<annotation><filename>{image_id}.jpg</filename><size><width>{width}</width>"
        f"<height>{height}</height><depth>3</depth></size>{objects}</annotation>"
    )


def write_voc_folder(folder: Path, splits, seed=0, empty=(), classes=("black", "white")) -> Path:
    """A VOC folder: `splits` maps a list's name to its ids; those in `empty` hold no box.

    Each image has a brightness of its own, by its place in sorted order.
    """
    rng = np.random.default_rng(seed)
    ids = sorted({image_id for own in splits.values() for image_id in own})
    for place, image_id in enumerate(ids):
        boxes = []
        for x in (2, 34):  # side by side, so that they do not hide each other
            name = classes[rng.integers(len(classes))]
            side = int(rng.integers(14, 26))
            y = int(rng.integers(1, 48 - side))
            boxes.append((name, x, y, x + side, y + side))
        boxes = [] if image_id in empty else boxes[: rng.integers(1, 3)]
        write_voc_image(folder, image_id, boxes, brightness=60 + 130 * place // max(1, len(ids)))
    (folder / "ImageSets" / "Main").mkdir(parents=True)
    for name, own in splits.items():
        (folder / "ImageSets" / "Main" / f"{name}.txt").write_text("".join(f"{i}\n" for i in own))
    return folder


@pytest.fixture
def url(tmp_path):
    """Address of a server of the files in tmp_path."""
    quiet = type("Handler", (SimpleHTTPRequestHandler,), {"log_message": lambda *_: None})
    with HTTPServer(("127.0.0.1", 0), partial(quiet, directory=str(tmp_path))) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.fixture
def clean_catalogs():
    """Takes out of Detectron2's catalogs what a test put in."""
    before = set(DatasetCatalog), set(MetadataCatalog)
    yield
    for catalog, names in zip((DatasetCatalog, MetadataCatalog), before):
        for name in set(catalog) - names:
            catalog.remove(name)


@pytest.fixture(scope="session")
def run_tool(tmp_path_factory):
    """Runs one of the tools as a user would; returns its output, of train_net.py with all of log.txt, fails if it fails.

    Those that are commands of the package are forked, as comparisons do it, which saves a test the imports. In another
    environment, part of which libraries read when they are imported, or as several, they are processes of their own.
    """
    console = tmp_path_factory.mktemp("tools") / "console.txt"

    def run(tool, *arguments, expect=0, **environment):
        arguments = (*["--verbose"] * (tool == "train_net.py"), *arguments)
        command = [sys.executable, str(ROOT / "tools" / tool), *map(str, arguments)]
        alone = "--num-gpus" in arguments or environment.keys() - {"OMP_NUM_THREADS"}
        with open(console, "wb") as output:
            if processes.COMMANDS / tool in processes.COMMANDS.iterdir() and not alone:
                status = processes.call(command, output.fileno(), environment, ROOT)
            else:
                environment = {**os.environ, **environment}
                status = subprocess.call(command, cwd=ROOT, env=environment, stdout=output, stderr=output)
        said = console.read_text()
        assert status == expect, said[-6000:]
        return said

    return run
