import json
import sys

import pytest
from conftest import ROOT, load_script


def test_mask_prints_a_table_and_keeps_the_figures(run_tool, tmp_path):
    output = tmp_path / "figures" / "mask.json"
    printed = run_tool(
        "benchmark.py", "mask", "--sizes", "1e3", "2000", "--steps", "3", "--projections", "1",
        "--device", "cpu", "--output", output,
    )  # fmt: skip
    assert "| 1,000 " in printed and "| 2,000 " in printed and "step_ms" in printed
    record = json.loads(output.read_text())
    assert [row["samples"] for row in record["rows"]] == [1000, 2000]
    assert record["settings"]["steps"] == 3 and record["machine"]["torch"]


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["mask", "--sizes", "0.5"], "not a whole number"),
        (["mask", "--steps", "0"], "not above 0"),
        (["losses", "--detectors", "SSD"], "invalid choice: 'SSD'"),
    ],
)
def test_arguments_that_cannot_be_are_refused(arguments, message, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["benchmark.py", *arguments])
    with pytest.raises(SystemExit):
        load_script(ROOT / "tools" / "benchmark.py").parse_arguments()
    assert message in capsys.readouterr().err


def test_a_mask_that_does_not_fit_ends_with_what_is_free(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["benchmark.py", "mask", "--sizes", "1e16"])
    with pytest.raises(SystemExit, match="has [0-9,]+ MB free: measure fewer samples"):
        load_script(ROOT / "tools" / "benchmark.py").main()


def test_table_leaves_out_what_was_not_measured():
    rows = [{"detector": "A", "n": 12345, "ms": 1.23456}, {"detector": "B", "n": 1, "ms": None}]
    lines = load_script(ROOT / "tools" / "benchmark.py").table(rows).splitlines()
    assert [cell.strip() for cell in lines[2].split("|")[1:-1]] == ["A", "12,345", "1.235"]
    assert [cell.strip() for cell in lines[3].split("|")[1:-1]] == ["B", "1", ""]
