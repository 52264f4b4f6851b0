"""The command `adapruner`, and what its arguments mean."""

import signal
import subprocess
import sys
from inspect import signature

import pytest
from conftest import write_voc_folder

import adapruner_det
from adapruner_det import cli
from adapruner_det.commands import look, options, selection, train_net
from adapruner_det.data.export import EXPORTS
from adapruner_det.engine import load_config
from adapruner_det.engine.defaults import CLASSIFICATION, DETECTION
from adapruner_det.engine.stopping import Stopped

CONFIG = ["--config-file", "some.yaml"]


@pytest.fixture(autouse=True)
def own_argv(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["train_net.py"])


@pytest.mark.parametrize(
    "command, words, data, opts",
    [
        ("prune", ["mine", "--keep", "0.8"], "mine", ["ADAPRUNER.ENABLED", "True", "ADAPRUNER.KEEP_RATIO", "0.8"]),
        ("prune", ["--keep", "auto", "mine"], "mine", ["ADAPRUNER.ENABLED", "True", "ADAPRUNER.AUTO_KEEP_RATIO", "True"]),
        ("train", ["mine", "SEED=1"], "mine", ["ADAPRUNER.ENABLED", "False", "SEED", "1"]),
        ("train", ["VOC2007", "--selection", "S", "SEED", "-1"], "VOC2007",
         ["ADAPRUNER.ENABLED", "False", "DATASETS.SELECTION", "S", "SEED", "-1"]),
        ("train_net.py", [*CONFIG, "OUTPUT_DIR", "out", "--epochs", "2"], None,
         ["SOLVER.MAX_EPOCHS", "2.0", "OUTPUT_DIR", "out"]),
        ("train", ["mine", "SEED", "A=1"], "mine", ["ADAPRUNER.ENABLED", "False", "SEED", "A=1"]),
        ("train_net.py", ["SOLVER.STEPS=(1, 2)", "--register", "a=voc:b:c"], None, ["SOLVER.STEPS", "(1, 2)"]),
    ],
)  # fmt: skip
def test_words_are_data_options_and_pairs_in_any_order(command, words, data, opts):
    args = options.parse(command, words)
    assert (args.data, args.opts) == (data, opts)


@pytest.mark.parametrize(
    "words, message",
    [
        (["mine", "--keep", "80"], "80 is no share.*did you mean 0.8"),
        (["mine", "--keep", "1"], "1 is no share above 0 and below 1$"),
        (["mine", "--keep", "much"], "'much' is no number"),
        (["mine", "SEED"], "at 'SEED': it has no value"),
        (["mine", "yours"], "at 'yours': a key has capital letters"),
        (["SEED", "1"], "DATA or --config-file is missing"),
        (["mine", "--train", "a"], "mine is what is trained on"),
        (["mine", "--kep", "0.8"], "--kep"),
    ],
)
def test_words_that_make_no_command_are_refused_in_one_line(words, message):
    with pytest.raises(options.UsageError, match=message) as refused:
        options.parse("prune", words)
    assert "\n" not in str(refused.value)
    with pytest.raises(SystemExit, match=f"^adapruner prune: error: .*{message}"):
        cli.main(["prune", *words])


def test_errors_and_the_command_that_goes_on_are_those_of_the_user(monkeypatch, capsys):
    monkeypatch.setattr("adapruner_det.engine.distributed.launch", lambda main, args: main(args))
    with pytest.raises(SystemExit, match="^adapruner prune: error: .*nowhere.yaml"):
        cli.main(["prune", "--config-file", "nowhere.yaml"])

    def stopped(args):
        raise Stopped.by_signal(signal.SIGINT, "2 steps are done")

    monkeypatch.setattr(train_net, "work", stopped)
    with pytest.raises(Stopped):
        cli.main(["prune", "--overwrite", *CONFIG, "SEED", "1"])
    assert capsys.readouterr().err == (
        "adapruner prune: SIGINT: 2 steps are done; go on with: adapruner prune --resume --config-file some.yaml SEED 1\n"
    )


def test_an_unknown_command_is_answered_by_those_there_are(capsys):
    with pytest.raises(SystemExit, match="no command 'slim'(?s:.*)prune(?s:.*)compare"):
        cli.main(["slim"])
    with pytest.raises(SystemExit, match="no command 'pruen'; did you mean prune.$"):
        cli.main(["pruen"])
    cli.main([])
    assert "usage: adapruner COMMAND" in capsys.readouterr().out


@pytest.mark.parametrize("command", cli.COMMANDS)
def test_every_command_has_its_help(command, capsys):
    with pytest.raises(SystemExit) as ended:
        cli.main([command, "--help"])
    assert ended.value.code == 0 and f"usage: adapruner {command}" in capsys.readouterr().out


@pytest.mark.parametrize("words", [["--help"], ["prune", "--help"], ["cut", "--help"], ["demo", "--help"]])
def test_help_needs_no_torch(words):
    code = f"""
import sys, adapruner_det
from adapruner_det import cli
try:
    cli.main({words})
finally:
    assert "torch" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL)


def test_the_forms_to_export_are_those_there_are():
    assert set(selection.FORMS) == set(EXPORTS)


def test_a_path_with_an_equals_sign_is_a_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "VOC=1").mkdir()
    assert options.parse("prune", ["VOC=1", "SEED=3"]).data == "VOC=1"
    voc = write_voc_folder(tmp_path / "VOC=1", {"train": ["a", "b"]})
    assert look.specs_of(str(voc)) == [f"VOC_1_train=voc:{voc}:train"]


def test_what_is_wrong_with_a_command_is_one_line(capsys):
    for words in (["compare", "--jobs", "x"], ["cut", "folder"], ["score", "el2n"], ["look"], ["show", "a", "b"]):
        with pytest.raises(SystemExit):
            cli.main(words)
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith(f"adapruner {words[0]}: error: ")


@pytest.mark.parametrize("command", [["cut", "folder"], ["random"]])
@pytest.mark.parametrize("share, meant", [("1", ""), ("80", "; did you mean 0.8?")])
def test_a_selection_keeps_less_than_everything(command, share, meant, capsys):
    with pytest.raises(SystemExit):
        cli.main([*command, "--keep-ratio", share, "--output", "out"])
    assert f"--keep-ratio: {share} is no share above 0 and below 1{meant} (" in capsys.readouterr().err


def test_the_ratio_that_is_taken_without_one_is_what_help_says(capsys):
    taken = {load_config(file).ADAPRUNER.KEEP_RATIO for file in ("", *map(str, (DETECTION, CLASSIFICATION)))}
    assert taken == {options.DEFAULT_KEEP} == {signature(adapruner_det.prune).parameters["keep"].default}
    with pytest.raises(SystemExit):
        cli.main(["prune", "--help"])
    assert f"default: the config's, {options.DEFAULT_KEEP} without one" in " ".join(capsys.readouterr().out.split())
