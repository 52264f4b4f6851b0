import signal
import socket
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from adapruner_det.experiments import fork_server, processes

ECHO = """
import atexit, os, random, signal, sys, time
import numpy, torch

def main():
    atexit.register(print, "at the exit")
    if sys.argv[1:] == ["drawn"]:
        return print(numpy.random.rand())
    if sys.argv[1:] == ["waiting"]:
        time.sleep(30)
    if sys.argv[1:] == ["killed"]:
        os.kill(os.getpid(), signal.SIGKILL)
    print(sys.argv, os.getcwd(), os.environ["CUDA_VISIBLE_DEVICES"], torch.get_num_threads())
    print("to stderr", file=sys.stderr)
    if sys.argv[1:]:
        sys.exit(int(sys.argv[1]) if sys.argv[1].isdigit() else sys.argv[1])
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Where commands run: with a file that is named as a module."""
    folder = tmp_path_factory.mktemp("working")
    (folder / "random.py").write_text("raise ImportError('a file of the working folder')")
    return folder


@pytest.fixture(scope="module")
def modules(tmp_path_factory):
    modules = tmp_path_factory.mktemp("modules")
    (modules / "echoing").mkdir()
    (modules / "echoing" / "echo.py").write_text(ECHO)
    return modules


@pytest.fixture(scope="module")
def server(folder, modules):
    """A process that commands are forked from, of this file's own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(processes, "_server", None)
        patch.chdir(folder)
        processes.start({"PYTHONPATH": str(modules), "OMP_NUM_THREADS": "1"})
        made = processes._server
    yield made
    made.close()


@pytest.fixture
def call(folder, server, monkeypatch):
    """Calls a command that says how it was called; returns status and output."""
    monkeypatch.setattr(processes, "_PACKAGE", "echoing")
    monkeypatch.setattr(processes, "_server", server)

    def called(*arguments, **environment):
        environment = {"CUDA_VISIBLE_DEVICES": "7", "OMP_NUM_THREADS": "1", **environment}
        path = folder / f"console_{'_'.join(arguments)}.txt"
        with open(path, "wb") as console:
            command = [sys.executable, "/any/echo.py", *arguments]
            status = processes.call(command, console.fileno(), environment, folder)
        return status, path.read_text()

    return called


def test_a_command_has_its_words_folder_environment_and_output(call, folder):
    status, said = call("5", CUDA_VISIBLE_DEVICES="3", OMP_NUM_THREADS="2")
    expected = {"at the exit", f"['/any/echo.py', '5'] {folder} 3 2", "to stderr"}
    assert status == 5 and set(said.splitlines()) == expected
    status, said = call(OMP_NUM_THREADS="2,1")
    assert status == 0 and f"['/any/echo.py'] {folder} 7 1\n" in said


def test_each_command_draws_other_numbers(call):
    drawn = [call("drawn")[1] for _ in range(2)]
    assert drawn[0] != drawn[1] and "0." in drawn[0]


def test_words_it_exits_with_are_its_last_and_a_signal_is_told(call):
    status, said = call("why it failed")
    assert status == 1 and {"to stderr", "why it failed", "at the exit"} <= set(said.splitlines())
    assert call("killed")[0] == -9


def test_commands_at_the_same_time_have_their_own_status(call):
    with ThreadPoolExecutor(4) as pool:
        assert [status for status, _ in pool.map(call, map(str, range(12)))] == list(range(12))


def test_a_signal_is_passed_on_to_those_that_run_and_those_that_start_later(call, monkeypatch):
    monkeypatch.setattr(processes, "_passed_on", [])
    with ThreadPoolExecutor(1) as pool:
        waits = pool.submit(call, "waiting")
        while not processes._running:
            time.sleep(0.01)
        processes.pass_on(signal.SIGTERM)
        assert waits.result()[0] == -signal.SIGTERM and not processes._running
    assert call("waiting")[0] == -signal.SIGTERM


def test_a_mistake_is_one_line(tmp_path):
    with open(tmp_path / "console.txt", "wb") as console:
        command = [sys.executable, str(processes.COMMANDS / "score.py"), "random"]
        assert processes.call(command, console.fileno(), {}) == 2
    assert (
        (tmp_path / "console.txt")
        .read_text()
        .startswith("score.py: error: --output, --config-file, --keep-ratio needed")
    )


def test_half_a_request_of_a_killed_comparison_ends_the_server():
    ours, theirs = socket.socketpair()
    with theirs:
        ours.sendall(b"half")
        ours.close()
        with pytest.raises(EOFError):
            fork_server._exactly(theirs, 9)
