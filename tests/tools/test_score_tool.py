"""Other methods by the commands a user would type."""

from dataclasses import replace
from importlib import import_module

import cv2
import numpy as np
import pytest
from conftest import write_voc_folder

from adapruner_det.baselines.registry import GROUPS, METHODS
from adapruner_det.commands import compare, score, selection
from adapruner_det.pruning import Selection

SETTINGS = ("SOLVER.IMS_PER_BATCH", "8", "SOLVER.MAX_EPOCHS", "4", "SOLVER.WARMUP_ITERS", "0")


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """The options that name a data set of two classes with ten pictures each, and its config."""
    root = tmp_path_factory.mktemp("pictures")
    rng = np.random.default_rng(0)
    for name, brightness in (("dark", 60), ("light", 190)):
        (root / name).mkdir()
        for number in range(10):
            image = np.clip(rng.normal(brightness, 40, (32, 32, 3)), 0, 255).astype(np.uint8)
            cv2.imwrite(str(root / name / f"{number}.png"), image)
    return ("--config-file", "configs/cifar10/prune_small.yaml", "--register", f"mine=images:{root}")


def files(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_a_method_trains_its_proxy_as_far_as_it_needs_it_and_selects(pictures, run_tool, tmp_path):
    common = (*pictures, "--seed", "3", "--keep-ratio")
    out = run_tool("score.py", "el2n", *common, "0.7", "--output", tmp_path / "a", *SETTINGS)
    assert "el2n: 14 of 20 images kept; ratio asked for 0.700, reached 0.700" in out
    assert files(tmp_path / "a") == ["images.csv", "lists/mine_el2n_0.70.txt", "selection.json"]
    proxy = tmp_path / "proxy_seed3"  # beside the output
    assert (proxy / "early.pth").is_file() and not (proxy / "dynamics.npz").exists()
    selection = Selection.load(tmp_path / "a")
    assert selection.provenance["settings"] == {
        "max_iter": 10, "proxy_seed": 3, "early": 0.25, "networks": 3
    }  # fmt: skip

    trained = (proxy / "early.pth").stat().st_mtime_ns, (proxy / "statistics/early_0.npz").stat().st_mtime_ns
    out = run_tool("score.py", "el2n", *common, "0.5", "--output", tmp_path / "b/selection",
                   "--proxy", proxy, *SETTINGS)  # fmt: skip
    assert "Starting training" not in out
    after = (proxy / "early.pth").stat().st_mtime_ns, (proxy / "statistics/early_0.npz").stat().st_mtime_ns
    half = Selection.load(tmp_path / "b/selection")
    assert after == trained and half.scores == selection.scores and sum(half.kept) == 10


def test_random_is_the_same_by_both_tools(pictures, run_tool, tmp_path):
    for tool, name in (("score.py", "one"), ("selection.py", "other")):
        run_tool(tool, "random", *pictures, "--keep-ratio", "0.6", "--seed", "5", "--output", tmp_path / name)
    one, other = (Selection.load(tmp_path / name) for name in ("one", "other"))
    assert one.scores == other.scores and one.kept == other.kept
    assert files(tmp_path / "one") == files(tmp_path / "other") and not (tmp_path / "proxy_seed5").exists()


def test_cutting_scores_that_look_at_the_ratio_says_so(pictures, run_tool, tmp_path):
    made, out = tmp_path / "made", tmp_path / "cut"
    run_tool("selection.py", "random", *pictures, "--keep-ratio", "0.7", "--output", made)
    for method, looks in (("bnsl", True), ("el2n", False)):
        replace(Selection.load(made), method=method).save(tmp_path / method)
        shown = run_tool("selection.py", "cut", tmp_path / method, "--keep-ratio", "0.5", "--output", out / method)
        assert (f"adapruner score {method} --keep-ratio 0.5 may choose otherwise" in shown) == looks
        assert sum(Selection.load(out / method).kept) == 10


def test_a_method_that_does_not_apply_is_refused_with_its_reason(run_tool, tmp_path):
    folder = write_voc_folder(tmp_path / "voc", {"all": [f"i{n}" for n in range(6)]})
    out = run_tool("score.py", "el2n", "--config-file", "configs/bccd/prune_yolov3_tiny_R18.yaml",
                   "--register", f"boxes=voc:{folder}:all", "--keep-ratio", "0.5",
                   "--output", tmp_path / "selection", expect=1)  # fmt: skip
    assert out.strip().splitlines()[-1].startswith("el2n does not apply to detection: ")
    assert not (tmp_path / "proxy_seed0").exists()


def test_the_list_has_every_method_and_every_reason():
    shown = import_module("adapruner_det.commands.score").table()
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in shown.splitlines() if "|" in line]
    by_name = {row[0]: row for row in rows if row[0] in METHODS}
    assert set(by_name) == set(METHODS) and len(rows) == len(METHODS) + 2 * len(GROUPS)
    for name, method in METHODS.items():
        _, summary, source, needs, ratio, tasks, variants = by_name[name]
        assert (summary, source) == (method.summary, method.source)
        assert needs == (", ".join(method.needs) or "labels") and tasks == ", ".join(method.tasks)
        assert method.not_for_detection in shown and method.not_for_classification in shown
        assert (ratio == "cut") == (not method.looks_at_ratio) and all(own in variants for own in method.variants)
    assert "bnsl (supervised) does not apply to detection" in shown
    assert by_name["bnsl"][4:] == [
        "score again",
        "classification, detection",
        "SCORING.BNSL auto, easy, hard, supervised",
    ]


def test_what_the_config_gets_wrong_is_told_in_a_line(tmp_path, run_tool):
    arguments = ("--keep-ratio", "0.5", "--output", tmp_path / "x")
    for config, extra, message in (
        ("configs/nowhere.yaml", (), "configs/nowhere.yaml"),
        ("configs/cifar10/prune_small.yaml", ("SCORING.GRANT", "full"), "SCORING.GRANT"),
    ):
        out = run_tool("score.py", "el2n", "--config-file", config, *arguments, *extra, expect=1)
        assert "Traceback" not in out and message in out.splitlines()[-1]
        assert out.splitlines()[-1].startswith("score.py: error: ")


@pytest.mark.parametrize(
    "arguments, message",
    [
        (("el2n", "--output", "x"), "--keep-ratio needed"),
        (("--keep-ratio", "0.5"), "METHOD, --output, --config-file needed"),
        (("el2n", "--keep-ratio", "70", "--output", "x", "--config-file", "c"), "--keep-ratio is 70.0; it is a share"),
        (("proxy", "--keep-ratio", "0.5", "--output", "x", "--config-file", "c"), "proxy takes neither"),
        (("el2n", "--keep-ratio", "0.5", "--output", "x", "--sed", "1"), "unrecognized arguments: --sed"),
        (("el2m", "--keep-ratio", "0.5", "--output", "x"), "invalid choice: 'el2m'"),
        (("low_loss", "--keep-ratio", "0.5"), "low_loss is now mean_loss with SCORING.MEAN_LOSS low"),
    ],
)
def test_a_bad_command_is_explained(monkeypatch, capsys, arguments, message):
    score = import_module("adapruner_det.commands.score")
    monkeypatch.setattr("sys.argv", ["score.py", *arguments])
    with pytest.raises(SystemExit):
        score.parse_arguments()
    assert message in capsys.readouterr().err


def test_pairs_with_an_equals_sign_are_pairs(monkeypatch):
    given = ["SEED=3", "INPUT.MIN_SIZE_TRAIN=64,", "SOLVER.MAX_ITER", "5"]
    scoring = ["score", "herding", "--config-file", "c.yaml", "--keep-ratio", "0.5", "--output", "o"]
    for module, words in (
        (score, scoring),
        (selection, ["selection", "cut", "folder", "--keep-ratio", "0.5", "--output", "o"]),
    ):
        monkeypatch.setattr("sys.argv", [*words, *given])
        assert module.parse_arguments().opts == ["SEED", "3", "INPUT.MIN_SIZE_TRAIN", "64,", "SOLVER.MAX_ITER", "5"]
    assert compare.key_value_pairs("SEED=3 SOLVER.MAX_ITER 5") == {"SEED": "3", "SOLVER.MAX_ITER": "5"}
    assert compare.variant("mine=el2n SEED=3") == ("mine", {"method": "el2n", "SEED": "3"})
    assert compare.variant("mine=SEED=3") == ("mine", {"SEED": "3"})
