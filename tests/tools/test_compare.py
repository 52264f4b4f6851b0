"""The comparison as a user runs it: prune, train, fine-tune and evaluate, then the table."""

import fcntl
import json
import os
import re
import subprocess
import sys
import time
from importlib import import_module

import cv2
import numpy as np
import pandas as pd
import pytest
from conftest import ROOT, load_script, write_voc_folder

CLASSES = {"dark": 40, "grey": 120, "light": 210}

EXPERIMENT = """
prune_config: {configs}/prune_small.yaml
train_configs: {{tiny: {configs}/train_small.yaml}}
methods: [adapruner]
keep_ratios: [0.9]
budgets: [epochs]
finetune: {{tiny: {configs}/train_small.yaml}}
opts:
  DATASETS.REGISTER:
    - "source=images:{data}/train"
    - "target=images:{data}/train:dark,light"
    - "target_test=images:{data}/test:dark,light"
  SOLVER.IMS_PER_BATCH: 8
  SOLVER.MAX_EPOCHS: 4
  SOLVER.WARMUP_ITERS: 0
  MODEL.DEVICE: cpu
prune_opts: {{DATASETS.TRAIN: [source]}}
train_opts: {{DATASETS.TRAIN: [source], DATASETS.TEST: []}}
finetune_opts: {{DATASETS.TRAIN: [target], DATASETS.TEST: [target_test], SOLVER.MAX_EPOCHS: 1}}
"""


@pytest.fixture
def experiment(tmp_path):
    """An experiment file over pictures of three classes that differ in brightness."""
    rng = np.random.default_rng(0)
    for split, images in (("train", 8), ("test", 3)):
        for name, brightness in CLASSES.items():
            folder = tmp_path / "data" / split / name
            folder.mkdir(parents=True)
            for number in range(images):
                image = np.clip(rng.normal(brightness, 20, (32, 32, 3)), 0, 255).astype(np.uint8)
                cv2.imwrite(str(folder / f"{number}.png"), image)
    path = tmp_path / "mine.yaml"
    path.write_text(EXPERIMENT.format(configs=ROOT / "configs/cifar10", data=tmp_path / "data"))
    return path


def iterations(folder):
    """How many a finished training took; evaluation writes a line of its own behind them."""
    records = [json.loads(line) for line in (folder / "metrics.json").read_text().splitlines()]
    return max(record["iteration"] for record in records if "total_loss" in record) + 1


def test_an_experiment_from_its_file_to_its_table(experiment, run_tool, tmp_path, monkeypatch, clean_catalogs):
    output = tmp_path / "out"
    out = run_tool("compare.py", "--experiment", experiment, "--seeds", "3", "--keep-ratios", "0.75",
                   "--output", output)  # fmt: skip
    runs = sorted(str(path.parent.relative_to(output)) for path in output.rglob("done.json"))
    assert runs == [
        "finetune/tiny/adapruner_0.75_epochs_seed3",
        "select/adapruner_0.75_seed3",
        "select/adapruner_0.80_seed3",
        "train/tiny/adapruner_0.75_epochs_seed3",
    ]
    # 4 passes over 24 images, over the 18 kept, and one over the 16 of the target, in batches of 8
    assert iterations(output / runs[2]) == 12
    assert iterations(output / runs[3]) == 9
    assert iterations(output / runs[0]) == 2
    tuned = (output / runs[0] / "log.txt").read_text()
    assert str(output / runs[3] / "model_final.pth") in tuned

    results = pd.read_csv(output / "results.csv")
    assert len(results) == 1
    row = results.iloc[0]
    assert (row["method"], row["images"], row["seed"], row["budget"]) == ("adapruner", 18, 3, "epochs")
    evaluation = output / runs[0] / "inference/target_test/evaluation.json"
    assert row["accuracy"] == json.loads(evaluation.read_text())["classification"]["accuracy"]
    table = (output / "table.md").read_text()
    assert "| adapruner 0.75 |" in table and table.split("\n\n")[0] in out
    assert (output / "figure.png").stat().st_size > 5000
    assert "| adapruner 0.75 | 18 " in " ".join((output / "selections.md").read_text().split())

    def no_space(*_):
        raise OSError("no space left")

    compare = import_module("adapruner_det.commands.compare")
    monkeypatch.setattr(compare, "draw", no_space)
    for left in ("results.csv", "table.md", "selections.csv", "selections.md"):
        (output / left).unlink()
    with pytest.raises(OSError, match="no space left"):
        compare.report(
            parse("--experiment", experiment, "--seeds", "3", "--keep-ratios", "0.75", "--output", output), output
        )
    assert all((output / left).exists() for left in ("results.csv", "table.md", "selections.csv", "selections.md"))


def test_selections_alone_and_what_they_do_with_injected_defects(tmp_path, run_tool):
    demo = load_script(ROOT / "datasets/make_demo_set.py")
    folder = tmp_path / "demo"
    demo.make_demo_set(folder, images=40, test_images=2, duplicates=0.2, wrong_labels=0.2)
    output = tmp_path / "out"
    out = run_tool("compare.py", "--prune-config", "configs/demo/prune_yolov3_tiny_R18.yaml", "--methods",
                   "random", "--seeds", "0", "1", "--injected", folder / "injected.json", "--output", output,
                   "DATASETS.REGISTER", f"('demo_trainval=voc:{folder}:trainval',)")  # fmt: skip
    text = (output / "selections.md").read_text()
    assert text.split("\n\n")[0] in out and "seed by seed" in text
    head, _, row = (dict(enumerate(map(str.strip, line.split("|")))) for line in text.splitlines()[:3])
    found = {head[column]: row[column] for column in head}
    assert found["selected by"] == "random 0.80" and found["images"] == "32" and found["seeds"] == "2"
    assert len(found["wrong labels"].split(", ")) == 2
    assert not (output / "table.md").exists() and not (output / "train").exists()


def test_defects_of_other_images_are_refused_before_anything_runs(tmp_path, run_tool):
    demo = load_script(ROOT / "datasets/make_demo_set.py")
    demo.make_demo_set(tmp_path / "demo", images=12, test_images=2)
    (tmp_path / "other.json").write_text('{"near_duplicate_of": {"x": "y"}, "wrong_label": {}}')
    sets = [f"{name}=voc:{tmp_path}/demo:trainval" for name in ("demo_trainval", "second")]
    for options, why in (
        ((f"('{sets[0]}',)",), "2 injected images are not in demo_trainval, such as x"),
        ((str(tuple(sets)), "DATASETS.TRAIN", "('demo_trainval', 'second')"), "demo_trainval, second are pruned"),
    ):
        out = run_tool("compare.py", "--prune-config", "configs/demo/prune_yolov3_tiny_R18.yaml", "--methods",
                       "random", "--injected", tmp_path / "other.json", "--output", tmp_path / "out",
                       "DATASETS.REGISTER", *options, expect=2)  # fmt: skip
        assert f"compare.py: error: {why}" in out and "Traceback" not in out
    assert not (tmp_path / "out").exists()


def test_defects_are_of_detection_images(experiment, run_tool, tmp_path):
    (tmp_path / "other.json").write_text('{"near_duplicate_of": {"0": "1"}, "wrong_label": {}}')
    out = run_tool("compare.py", "--experiment", experiment, "--injected", tmp_path / "other.json",
                   "--output", tmp_path / "out", expect=2)  # fmt: skip
    assert "defects are of detection images" in out


def parse(*arguments):
    """The experiment that a command line asks for."""
    compare = import_module("adapruner_det.commands.compare")
    return compare.experiment_of(compare.argument_parser().parse_args([*map(str, arguments)]))


def test_a_comparison_killed_behind_a_written_selection_makes_it_again(tmp_path, run_tool):
    folder = write_voc_folder(tmp_path / "data", {"trainval": [f"i{n}" for n in range(10)]})
    output = tmp_path / "out"
    command = ["compare.py", "--prune-config", "configs/demo/prune_yolov3_tiny_R18.yaml", "--methods", "random", "tfdp",
               "--output", output, "--register", f"mine=voc:{folder}:trainval"]  # fmt: skip
    run_tool(*command)
    finished = list(output.rglob("done.json"))
    assert len(finished) == 3  # drawn, scored, cut
    before = {path: (path.parent / "selection/selection.json").read_bytes() for path in finished}
    for path in finished:
        path.unlink()
    run_tool(*command)
    assert {path: (path.parent / "selection/selection.json").read_bytes() for path in finished} == before


def test_options_given_besides_an_experiment_take_the_place_of_its_own(experiment):
    asked = parse("--experiment", experiment, "--output", "out", "--budgets", "iterations",
                  "--variant", "no warm-up=ADAPRUNER.WARMUP 0", "--variant",
                  "by class=el2n SCORING.CLASS_BALANCE True", "--prune-opts", "SOLVER.BASE_LR 0.5",
                  "--register", "mine=voc:x:trainval", "--register", "mine_test=voc:x:test", "SEED", "7")  # fmt: skip
    assert asked.budgets == ["iterations"] and asked.keep_ratios == [0.9] and asked.seeds == [0]
    assert asked.variants == {
        "no warm-up": {"ADAPRUNER.WARMUP": "0"},
        "by class": {"method": "el2n", "SCORING.CLASS_BALANCE": "True"},
    }
    assert asked.prune_opts == {"DATASETS.TRAIN": ["source"], "SOLVER.BASE_LR": "0.5"}
    assert asked.opts["DATASETS.TRAIN"] == ["mine"] and asked.opts["SEED"] == "7"
    assert asked.train_opts == {"DATASETS.TRAIN": ["source"], "DATASETS.TEST": ["mine_test"]}


def test_options_alone_are_enough():
    config = ROOT / "configs/cifar10/train_small.yaml"
    named = [f"A b={config}", f"C={config}"]
    asked = parse("--output", "out", "--prune-config", config, "--train-configs", *named, "--finetune", *named,
                  "--seeds", "1", "2")  # fmt: skip
    assert asked.train_configs == asked.finetune == {"A b": str(config), "C": str(config)}
    assert asked.methods == ["full", "random", "adapruner"] and asked.seeds == [1, 2]


@pytest.mark.parametrize(
    "option, key",
    [
        (("--train-opts", "SOLVER.MAX_ITER many"), "SOLVER.MAX_ITER"),
        (("--variant", "x=ADAPRUNER.WARMAP 0"), "x: .*ADAPRUNER.WARMAP"),
        (("--variant", "x=ADAPRUNER.WARMUP 1"), "x: ADAPRUNER.WARMUP is 1.0"),
        (("--methods", "Random"), "methods: 'Random' is none of .*; did you mean random"),
        (("--jobs", "0"), "0 runs at a time"),
        (("--injected", "nowhere.json"), "nowhere.json does not exist"),
        (("SEED",), "opts: SEED has no value"),
        (("--seeds", "one"), "--seeds: invalid int value: 'one'"),
        (("--train-configs", "no name"), "'no name' is not of the form NAME="),
        (("--train-opts", "A.B 'x"), "--train-opts: invalid key_value_pairs value"),
        (("--variant", "=A.B 1"), "'=A.B 1' is not of the form NAME="),
        (("--variant", "x=A.B"), "variants: x: 'A.B' is none of"),
        (("--variant", "x=eln2 A.B 1"), "variants: x: 'eln2' is none of .*; did you mean el2n"),
    ],
)
def test_a_setting_that_cannot_be_is_refused_before_anything_runs(
    experiment, tmp_path, option, key, monkeypatch, capsys, clean_catalogs
):
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(
        "sys.argv", [*map(str, ("compare.py", "--experiment", experiment, "--output", tmp_path / "o", *option))]
    )
    with pytest.raises(SystemExit) as ended:
        import_module("adapruner_det.commands.compare").main()
    assert ended.value.code == 2 and re.search(key, capsys.readouterr().err.splitlines()[-1])
    assert not (tmp_path / "o").exists()


@pytest.mark.parametrize(
    "option",
    [
        ("--seeds", "1"),
        ("--keep-ratios", "0.9"),
        ("--methods", "random"),
        ("--budgets", "epochs"),
        ("--train-configs", f"A={ROOT / 'configs/cifar10/train_small.yaml'}"),
        ("--finetune", f"A={ROOT / 'configs/cifar10/train_small.yaml'}"),
    ],
)
def test_overrides_behind_an_option_with_several_values_are_told_where_to_stand(option, capsys):
    with pytest.raises(SystemExit):
        parse("--output", "out", *option, "DATASETS.TEST", "()")
    assert re.search(f"{option[0]}: DATASETS.TEST is a config key.*--output DIR DATASETS.TEST", capsys.readouterr().err)


def test_ctrl_c_is_no_traceback(experiment, tmp_path, monkeypatch, capsys, clean_catalogs):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.chdir(ROOT)
    compare = import_module("adapruner_det.commands.compare")
    monkeypatch.setattr(compare, "execute", interrupted)
    monkeypatch.setattr("sys.argv", ["compare.py", "--experiment", str(experiment), "--output", str(tmp_path / "out")])
    with pytest.raises(SystemExit) as ended:
        compare.main()
    assert ended.value.code == 130
    assert capsys.readouterr().err == "compare.py: stopped; the same command goes on where this one was\n"


def test_sigterm_ends_what_it_has_started_once_that_is_saved(experiment, tmp_path):
    output, script = tmp_path / "out", str(ROOT / "tools" / "compare.py")
    command = [sys.executable, script, "--experiment", str(experiment), "--output", str(output)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(
        [*command, "SOLVER.MAX_EPOCHS", "1000"], cwd=ROOT, env=environment, stderr=subprocess.PIPE, text=True
    ) as comparison:
        run = output / "select" / "adapruner_0.80_seed0"
        metrics, deadline = run / "metrics.json", time.monotonic() + 120
        while comparison.poll() is None and time.monotonic() < deadline:
            if metrics.exists() and metrics.read_text():  # it is empty until steps are made that can be saved
                break
            time.sleep(0.2)
        comparison.terminate()  # it alone
        said = comparison.stderr.read()
    assert comparison.returncode == 143, said
    assert said.splitlines()[-1] == "compare.py: stopped; the same command goes on where this one was"
    assert (run / "last_checkpoint").exists() and not (run / "done.json").exists()
    with open(run / "console.txt", "a") as console:
        fcntl.flock(console, fcntl.LOCK_EX | fcntl.LOCK_NB)  # nobody runs there any more
    assert "SIGTERM: " in (run / "console.txt").read_text()
