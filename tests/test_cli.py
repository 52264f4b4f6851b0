"""The command `adapruner` calls the tools' mains."""

import signal
import subprocess
import sys

import pytest

from adapruner_det import cli
from adapruner_det.commands import selection, train_net
from adapruner_det.engine.stopping import Stopped

CONFIG = ["--config-file", "some.yaml"]


@pytest.mark.parametrize(
    "module, given, called",
    [
        (train_net, ["prune", *CONFIG], ["adapruner prune", *CONFIG, "ADAPRUNER.ENABLED", "True"]),
        (
            train_net,
            ["train", *CONFIG, "KEY", "1"],
            ["adapruner train", *CONFIG, "KEY", "1", "ADAPRUNER.ENABLED", "False"],
        ),
        (selection, ["cut", "DIR"], ["adapruner", "cut", "DIR"]),
    ],
)
def test_a_command_is_the_tool_with_its_settings(module, given, called, monkeypatch):
    seen = []
    monkeypatch.setattr(sys, "argv", [])
    monkeypatch.setattr(module, "main", lambda: seen.append(sys.argv))
    cli.main(given)
    assert seen == [called]


def test_errors_and_the_command_that_goes_on_are_those_of_the_user(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", [])
    monkeypatch.setattr(train_net, "launch", lambda main, args: main(args))
    with pytest.raises(SystemExit, match="^adapruner prune: error: .*nowhere.yaml"):
        cli.main(["prune", "--config-file", "nowhere.yaml"])

    def stopped(args):
        raise Stopped.by_signal(signal.SIGINT, "2 steps are done")

    monkeypatch.setattr(train_net, "prepare", stopped)
    with pytest.raises(Stopped):
        cli.main(["prune", "--overwrite", *CONFIG, "KEY", "(1, 2)"])
    assert capsys.readouterr().err == (
        "adapruner prune: SIGINT: 2 steps are done; go on with: "
        "adapruner prune --resume --config-file some.yaml KEY '(1, 2)' ADAPRUNER.ENABLED True\n"
    )


def test_an_unknown_command_is_answered_by_those_there_are(capsys):
    with pytest.raises(SystemExit, match="no command 'slim'(?s:.*)prune(?s:.*)compare"):
        cli.main(["slim"])
    cli.main([])
    assert "usage: adapruner COMMAND" in capsys.readouterr().out


@pytest.mark.parametrize("command", cli.COMMANDS)
def test_every_command_has_its_help(command, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", [])
    with pytest.raises(SystemExit) as ended:
        cli.main([command, "--help"])
    assert ended.value.code == 0 and f"usage: adapruner {command}" in capsys.readouterr().out


def test_help_needs_no_torch():
    code = "import sys; from adapruner_det import cli; cli.main([]); sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_model_is_not_chosen_in_silence():
    with pytest.raises(SystemExit, match="adapruner prune: error: --config-file is missing"):
        cli.main(["prune", "--register", "mine=voc:folder:train"])
