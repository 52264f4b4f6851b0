import sys
from concurrent.futures import ThreadPoolExecutor

import pytest

from adapruner_det.experiments import processes

ECHO = """
import os, random, signal, sys, warnings
import torch

def main():
    if sys.argv[1:] == ["killed"]:
        os.kill(os.getpid(), signal.SIGKILL)
    print(sys.argv, os.getcwd(), os.environ["CUDA_VISIBLE_DEVICES"], torch.get_num_threads(), warnings.filters[0][0])
    print("to stderr", file=sys.stderr)
    if sys.argv[1:]:
        sys.exit(int(sys.argv[1]) if sys.argv[1].isdigit() else sys.argv[1])
"""


@pytest.fixture
def call(tmp_path, monkeypatch):
    """Calls a command that says how it was called; returns status and output."""
    (tmp_path / "echoing").mkdir()
    (tmp_path / "echoing" / "echo.py").write_text(ECHO)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(processes, "_PACKAGE", "echoing")

    def called(*arguments, **environment):
        environment = {"CUDA_VISIBLE_DEVICES": "7", "PYTHONWARNINGS": "ignore", "OMP_NUM_THREADS": "1", **environment}
        path = tmp_path / f"console_{'_'.join(arguments)}.txt"
        with open(path, "wb") as console:
            status = processes.call(
                [sys.executable, "/any/echo.py", *arguments], console.fileno(), environment, tmp_path
            )
        return status, path.read_text()

    return called


def test_a_command_has_its_words_folder_environment_and_output(call, tmp_path):
    status, said = call("5", CUDA_VISIBLE_DEVICES="3", OMP_NUM_THREADS="2")
    assert status == 5 and said == f"['/any/echo.py', '5'] {tmp_path} 3 2 ignore\nto stderr\n"
    assert call() == (0, f"['/any/echo.py'] {tmp_path} 7 1 ignore\nto stderr\n")


def test_words_it_exits_with_are_its_last_and_a_signal_is_told(call):
    status, said = call("why it failed")
    assert status == 1 and said.endswith("to stderr\nwhy it failed\n")
    assert call("killed")[0] == -9


def test_commands_at_the_same_time_have_their_own_status(call):
    with ThreadPoolExecutor(8) as pool:
        assert [status for status, _ in pool.map(call, map(str, range(40)))] == list(range(40))


def test_a_mistake_is_one_line(tmp_path):
    with open(tmp_path / "console.txt", "wb") as console:
        command = [sys.executable, str(processes.COMMANDS / "score.py"), "random"]
        assert processes.call(command, console.fileno(), {}) == 2
    assert (
        (tmp_path / "console.txt")
        .read_text()
        .startswith("score.py: error: --output, --config-file, --keep-ratio needed")
    )
