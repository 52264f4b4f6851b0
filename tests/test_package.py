import re
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
