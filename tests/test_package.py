import re
import subprocess
import sys
import tomllib
from pathlib import Path

import adapruner_det

ROOT = Path(__file__).resolve().parents[1]


def test_version_is_a_release_number():
    assert re.fullmatch(r"\d+\.\d+\.\d+", adapruner_det.__version__)


def test_the_lock_pins_every_dependency():
    described = tomllib.loads((ROOT / "pyproject.toml").read_text())
    project = described["project"]
    lists = [
        project["dependencies"],
        *project["optional-dependencies"].values(),
        *described["dependency-groups"].values(),
    ]
    needed = {re.match(r"[\w-]+", entry)[0].lower() for entries in lists for entry in entries}
    pinned = set(re.findall(r"^([\w-]+)==", (ROOT / "requirements.txt").read_text(), re.MULTILINE))
    assert not needed - pinned, "make lock writes requirements.txt anew"


R_CNN = """
import logging, warnings, adapruner_det, torch
from detectron2.layers import ShapeSpec
from detectron2.modeling.anchor_generator import DefaultAnchorGenerator
from detectron2.modeling.poolers import ROIPooler
from detectron2.structures import Boxes
maps = [torch.zeros(1, 1, 4, 4)]
DefaultAnchorGenerator(sizes=[[8]], aspect_ratios=[1.0], strides=[4])(maps)
ROIPooler(2, [0.25], 0, "ROIAlignV2")(maps, [Boxes(torch.tensor([[0.0, 0, 8, 8]]))])
warnings.warn("of one's own")
logging.getLogger("torch.fx._symbolic_trace").warning("of torch")
"""


def test_an_r_cnn_on_the_console_leaves_out_what_torch_says_of_detectron2_and_nothing_else():
    said = subprocess.run([sys.executable, "-c", R_CNN], capture_output=True, text=True, check=True, cwd=ROOT).stderr
    assert [line.split()[-1] for line in said.splitlines()] == ["own", "torch"]
