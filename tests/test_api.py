"""Pruning by one call, and by one command with what it prints."""

import re
import subprocess
import sys

import pytest
from conftest import ROOT, write_voc_folder

import adapruner_det
from adapruner_det.commands import options, train_net
from adapruner_det.engine import load_config, setup

QUICK = {"SOLVER.MAX_ITER": 4, "SOLVER.IMS_PER_BATCH": 4, "INPUT.MIN_SIZE_TRAIN": "(64,)", "INPUT.MIN_SIZE_TEST": 64}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    ids = [f"i{n}" for n in range(10)]
    return write_voc_folder(tmp_path_factory.mktemp("data") / "mine", {"trainval": ids, "test": ["t0", "t1"]})


def test_a_call_leaves_a_selection(data, tmp_path, clean_catalogs):
    settings = {**QUICK, "ADAPRUNER.WARMUP": 0}
    selection = adapruner_det.prune(data, keep=0.8, output=tmp_path / "run", settings=settings)
    assert len(selection.kept) == 8 and {*selection.kept, *selection.pruned} == {f"i{n}" for n in range(10)}
    assert {"id", "kept", "score", "reason", "similar_to"} <= set(selection.reasons.columns)
    assert selection.reasons.set_index("id").loc[selection.pruned, "reason"].ne("").all()
    (path,) = selection.export("voc", tmp_path / "lists")
    assert path.read_text().split() == selection.kept
    page = selection.report()
    page.unlink()
    assert adapruner_det.Selection(tmp_path / "run/selection").report() == page and page.is_file()
    with pytest.raises(ValueError, match="holds another run"):
        adapruner_det.prune(data, keep=0.8, output=tmp_path / "run", settings=settings)
    with pytest.raises(ValueError, match="did you mean 0.8"):
        adapruner_det.prune(data, keep=80)


def adapruner(*words):
    command = [sys.executable, "-m", "adapruner_det.cli", *map(str, words)]
    finished = subprocess.run(command, cwd=ROOT, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    assert finished.returncode == 0, finished.stdout
    return finished.stdout


def test_a_command_says_what_it_does_in_a_few_lines(data, tmp_path):
    run, words = tmp_path / "run", [f"{key}={value}" for key, value in QUICK.items()]
    said = adapruner("prune", data, "--keep", "auto", "--output", run, *words,
                    "ADAPRUNER.WARMUP=0", "ADAPRUNER.RANDOM=0.2")  # fmt: skip
    assert "\x1b" not in said and "\r" not in said
    lines = said.splitlines()
    about = [line.split()[0] for line in lines]
    assert about[:7] == ["data", "test", "model", "images", "device", "phases", "output"]
    assert about[-6:] == ["result", "verdict", "page", "next", "next", "next"] and len(lines) <= 19, said
    log = (run / "log.txt").read_text()
    assert "\x1b" not in log and "Running with full config" in log and lines[0] in log

    train = re.search(r"adapruner (train .*)", said)[1].split()
    said = adapruner(*train, *words[1:], "SOLVER.MAX_EPOCHS=1", "ADAPRUNER.RANDOM=0.1")
    about = [line.split()[0] for line in said.splitlines()]
    assert about.index("output") < 12 and "result" in about and "mine_test: AP" in said
    assert "ADAPRUNER.RANDOM: without effect" in said


@pytest.mark.parametrize("model, form", [("ImageClassifier", "ids"), ("YOLOv3Tiny", "yolo")])
def test_the_list_that_is_advised_suits_the_task(model, form):
    cfg = load_config(opts=["MODEL.META_ARCHITECTURE", model])
    assert train_net.list_format(cfg) == form


@pytest.mark.parametrize("by_config", [True, False])
def test_the_command_that_trains_next_names_the_data_of_the_run(data, tmp_path, clean_catalogs, by_config):
    words = ["--config-file", str(ROOT / "configs/bccd/prune_yolov3_tiny_R18.yaml")] if by_config else [str(data)]
    for name, part in (("a", "trainval"), ("b", "test"))[not by_config :]:
        words += ["--register", f"{name}=voc:{data}:{part}"]
    args = options.parse("prune", [*words, "--test", "b", "--output", str(tmp_path / "pruned")])
    cfg = setup(args)
    again = setup(options.parse("train", [*train_net.data_words(args, cfg), "--output", str(tmp_path / "trained")]))
    trained_on = "a" if by_config else "mine_trainval"
    assert (
        (again.DATASETS.TRAIN, again.DATASETS.TEST)
        == (cfg.DATASETS.TRAIN, cfg.DATASETS.TEST)
        == ((trained_on,), ("b",))
    )


@pytest.mark.parametrize(
    "words, message",
    [
        (["SOLVER.MAX_ITER", "5", "SOLVER.MAX_EPOCHS", "5"], "SOLVER.MAX_EPOCHS, 5, would take its place"),
        (["ADAPRUNER.KEPRATIO", "0.8"], "did you mean ADAPRUNER.KEEP_RATIO?"),
        (["ADAPRUNER.KEEP_RATIO", "80"], "did you mean 0.8?"),
        (["MODEL.DEVICE", "cuda"], "torch sees no GPU here: add MODEL.DEVICE cpu"),
        (
            ["--register", "b=voc:{data}:test"],
            "b: registered, but neither trained on (mine_trainval) nor evaluated on (mine_test)",
        ),
    ],
)
def test_what_cannot_be_meant_is_said_before_anything_is_computed(
    words, message, data, tmp_path, clean_catalogs, monkeypatch
):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    words = [word.format(data=data) for word in words]
    with pytest.raises(train_net.UserError) as refused:
        train_net.work(options.parse("prune", [str(data), "--output", str(tmp_path), *words]))
    assert message in str(refused.value) and not (tmp_path / "log.txt").exists()
