import fcntl
import json
import sys

import pytest
import torch

from adapruner_det.experiments import runs as runs_module
from adapruner_det.experiments.runs import (
    Run,
    RunChangedError,
    RunFailedError,
    execute,
    seconds_of,
)

APPEND = "import sys; open(sys.argv[1], 'a').write(sys.argv[2])"


def append(name, path, text, **settings):
    return Run(name, (sys.executable, "-c", APPEND, str(path), text), **settings)


def test_runs_follow_those_they_depend_on(tmp_path):
    log = tmp_path / "log"
    slow = "import sys, time; time.sleep(0.5); open(sys.argv[1], 'a').write('a')"
    first = Run("first", (sys.executable, "-c", slow, str(log)))
    execute([first, append("second", log, "b", after=("first",))], tmp_path / "out", jobs=2)
    assert log.read_text() == "ab"
    assert seconds_of(tmp_path / "out/first") >= 0.5


def test_a_run_that_waits_for_another_keeps_no_place(tmp_path):
    mark, log = tmp_path / "mark", tmp_path / "log"
    until = "import sys, time, pathlib\nend = time.time() + 60\n"
    until += "while not pathlib.Path(sys.argv[1]).exists():\n    assert time.time() < end\n    time.sleep(0.05)"
    long = Run("long", (sys.executable, "-c", until, str(mark)))  # ends only when the last has run
    runs = [long, append("needs it", log, "a", after=("long",)), append("free", mark, "")]
    execute(runs, tmp_path / "out", jobs=2)
    assert log.read_text() == "a"


@pytest.mark.parametrize("visible, jobs, seen", [("5,7", 2, "57"), ("5,7", 1, "55"), ("5", 2, "55"), ("", 2, "--")])
def test_runs_at_a_time_are_shared_out_among_the_gpus(tmp_path, monkeypatch, visible, jobs, seen):
    """Two runs that wait for each other, if both can run, and write which GPU they see."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    write = "import os, sys, time, pathlib\nmine, other = map(pathlib.Path, sys.argv[1:])\n"
    write += "mine.write_text(os.environ['CUDA_VISIBLE_DEVICES'] or '-')\nend = time.time() + 60\n"
    write += "while not other.exists() and time.time() < end:\n    time.sleep(0.05)" if jobs == 2 else ""
    a, b = tmp_path / "a", tmp_path / "b"
    commands = [(sys.executable, "-c", write, *map(str, pair)) for pair in ((a, b), (b, a))]
    execute([Run(name, command) for name, command in zip("ab", commands)], tmp_path / "out", jobs)
    assert "".join(sorted(a.read_text() + b.read_text())) == seen


def test_without_a_choice_of_gpus_all_there_are_share_the_runs(tmp_path, monkeypatch):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 3)
    write = "import os, sys; open(sys.argv[1], 'a').write(os.environ.get('CUDA_VISIBLE_DEVICES', '-'))"
    runs = [Run(name, (sys.executable, "-c", write, str(tmp_path / "seen"))) for name in "abcd"]
    execute(runs, tmp_path / "out", jobs=1)
    assert (tmp_path / "seen").read_text() == "0000"
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    execute([*runs, Run("e", runs[0].command)], tmp_path / "out", jobs=1)
    assert (tmp_path / "seen").read_text() == "0000-"


def test_finished_runs_are_not_repeated(tmp_path):
    log = tmp_path / "log"
    runs = [append("one", log, "1"), append("two", log, "2")]
    execute(runs[:1], tmp_path / "out", jobs=1)
    execute(runs, tmp_path / "out", jobs=1)
    assert log.read_text() == "12"


def test_a_changed_command_or_config_is_not_mixed_with_old_results(tmp_path):
    log = tmp_path / "log"
    execute([append("one", log, "1", fingerprint="a")], tmp_path / "out", jobs=1)
    changes = {
        r"one holds a run with another command than asked for now \(1 there, x now\)": ("x", "a"),
        "one holds a run with the same command, but other settings in its config": ("1", "b"),
    }
    for message, (letter, fingerprint) in changes.items():
        with pytest.raises(RunChangedError, match=message):
            execute([append("one", log, letter, fingerprint=fingerprint)], tmp_path / "out", jobs=1)
    assert log.read_text() == "1"


def test_what_another_version_made_is_refused(tmp_path, monkeypatch):
    log = tmp_path / "log"
    monkeypatch.setattr(runs_module, "__version__", "0.1.7")
    execute([append("one", log, "1")], tmp_path / "out", jobs=1)
    monkeypatch.undo()
    with pytest.raises(RunChangedError, match="one holds a run with results of version 0.1.7 of this package"):
        execute([append("one", log, "1")], tmp_path / "out", jobs=1)
    plan = tmp_path / "out" / "one" / "run.json"  # as versions wrote it that did not say which they were
    content = json.loads(plan.read_text())
    del content["identity"]["version"]
    plan.write_text(json.dumps(content))
    with pytest.raises(RunChangedError, match="version 0.1.0"):
        execute([append("one", log, "1")], tmp_path / "out", jobs=1)


def test_a_run_that_another_comparison_finished_meanwhile_with_other_settings_is_refused(tmp_path):
    log = tmp_path / "log"
    code = (
        "import subprocess, sys; from adapruner_det.experiments.runs import Run, execute; "
        f"execute([Run('two', ('x', '-c', 'pass'), fingerprint='other')], {str(tmp_path / 'out')!r}, 1)"
    ).replace("'x'", repr(sys.executable))
    meddling = Run("one", (sys.executable, "-c", code))
    with pytest.raises(RunChangedError, match="two holds a run with"):
        execute([meddling, append("two", log, "2", after=("one",))], tmp_path / "out", jobs=1)
    assert not log.exists()


def test_a_failure_names_the_command_shows_its_last_words_and_starts_no_other(tmp_path):
    log = tmp_path / "log"
    bad = Run("bad", (sys.executable, "-c", "print('out of luck'); raise SystemExit(3)"))
    with pytest.raises(RunFailedError, match="(?s)status 3.*console.txt.*out of luck"):
        runs = [append("good", log, "g"), bad, append("after", log, "x", after=("bad",)), append("never", log, "n")]
        execute(runs, tmp_path / "out", jobs=1)
    assert log.read_text() == "g"


def test_a_failed_run_goes_on_and_its_seconds_add_up(tmp_path):
    marker = tmp_path / "marker"
    code = (
        "import pathlib, sys, time; time.sleep(0.3); m = pathlib.Path(sys.argv[1]); e = m.exists(); "
        "m.touch(); sys.exit(not e)"
    )
    run = Run("twice", (sys.executable, "-c", code, str(marker)))
    with pytest.raises(RunFailedError):
        execute([run], tmp_path / "out", jobs=1)
    execute([run], tmp_path / "out", jobs=1)
    assert seconds_of(tmp_path / "out/twice") >= 0.6
    assert json.loads((tmp_path / "out/twice/run.json").read_text())["seconds"] >= 0.3


def test_a_folder_in_use_is_left_alone(tmp_path):
    folder = tmp_path / "out/one"
    folder.mkdir(parents=True)
    with open(folder / "console.txt", "ab") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(RunFailedError, match="one is in use"):
            execute([append("one", tmp_path / "log", "1")], tmp_path / "out", jobs=1)
    execute([append("one", tmp_path / "log", "1")], tmp_path / "out", jobs=1)
    assert (tmp_path / "log").read_text() == "1"


def test_of_a_finished_run_s_checkpoints_the_last_one_stays_of_a_failed_one_s_all(tmp_path):
    save = "import sys, pathlib; p = pathlib.Path(sys.argv[1]); (p / 'deeper').mkdir(exist_ok=True)\n"
    save += "for n in ('model_0000099', 'deeper/model_0000199', 'model_final', 'early'):\n"
    save += "    (p / f'{n}.pth').touch()\nsys.exit(len(sys.argv) - 2)"
    for name, extra in (("good", ()), ("bad", ("1",))):
        folder = tmp_path / "out" / name
        run = Run(name, (sys.executable, "-c", save, str(folder), *extra))
        if extra:
            with pytest.raises(RunFailedError):
                execute([run], tmp_path / "out", jobs=1)
        else:
            execute([run], tmp_path / "out", jobs=1)
    left = {path.relative_to(tmp_path / "out").as_posix() for path in (tmp_path / "out").rglob("*.pth")}
    good = {"good/model_final.pth", "good/early.pth"}
    bad = {f"bad/{name}.pth" for name in ("model_0000099", "deeper/model_0000199", "model_final", "early")}
    assert left == good | bad
