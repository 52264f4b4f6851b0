"""The config: presets, keys of former versions, whole numbers for floats."""

import re

import pytest

from adapruner_det.engine import load_config
from adapruner_det.engine.config import RENAMED_OR_GONE, without_preset


def options_of(cfg):
    return cfg.ADAPRUNER.MASK.RATIO_CONTROL, cfg.ADAPRUNER.MASK.LOSS_SCALE


def test_a_preset_stands_below_all_that_is_set_explicitly(tmp_path):
    base, file = tmp_path / "base.yaml", tmp_path / "config.yaml"
    base.write_text("ADAPRUNER:\n  MASK: {LOSS_SCALE: mean, ALPHA_END: 7.0}\n")
    file.write_text("_BASE_: base.yaml\nADAPRUNER:\n  PRESET: paper\n")
    assert options_of(load_config()) == ("projection", "expected")
    assert options_of(load_config(opts=["ADAPRUNER.PRESET", "paper"])) == ("penalty", "none")
    cfg = load_config(str(file))
    assert options_of(cfg) == ("penalty", "mean") and cfg.ADAPRUNER.MASK.ALPHA_END == 7.0
    first = ["ADAPRUNER.MASK.RATIO_CONTROL", "projection", "ADAPRUNER.PRESET", "paper"]
    assert options_of(load_config(opts=first)) == ("projection", "none")
    assert options_of(load_config(str(file), opts=["ADAPRUNER.PRESET", "''"])) == ("projection", "mean")
    with pytest.raises(ValueError, match="PRESET is 'papers'; it can be 'classification', 'paper'"):
        load_config(opts=["ADAPRUNER.PRESET", "papers"])


@pytest.mark.parametrize("key", RENAMED_OR_GONE)
def test_a_key_that_is_gone_is_answered_by_what_to_do(tmp_path, key):
    base, file = tmp_path / "base.yaml", tmp_path / "config.yaml"
    content = "1"
    for part in reversed(key.split(".")):
        content = f"{{{part}: {content}}}"
    base.write_text(content)
    file.write_text("_BASE_: base.yaml\n")
    advice = re.escape(f"{key}, which is gone: {RENAMED_OR_GONE[key]}")
    with pytest.raises(KeyError, match=f"{re.escape(str(file))} sets {advice}"):
        load_config(str(file))
    with pytest.raises(KeyError, match=f"the command line sets {advice}"):
        load_config(opts=[key, "1"])


@pytest.mark.parametrize("key", ["ADAPRUNER.DOUBTS", "ADAPRUNER.OUTLIER"])
def test_other_keys_that_are_not_there_are_named(key):
    with pytest.raises(KeyError, match=f"the command line sets {key}, which there is not"):
        load_config(opts=[key, "1"])


def test_classification_has_a_preset_that_the_command_line_can_replace():
    cfg = load_config("configs/Base-Classification-Small.yaml")
    assert (cfg.ADAPRUNER.MASK.LOSS_SCALE, cfg.ADAPRUNER.MASK.SELECTION_WEIGHT) == ("mean", 1.0)
    cfg = load_config("configs/Base-Classification-Small.yaml", opts=["ADAPRUNER.PRESET", "paper"])
    assert options_of(cfg) == ("penalty", "none") and not cfg.ADAPRUNER.SOLVE_AT_END


def test_a_run_is_not_known_by_the_name_of_its_preset():
    named = load_config(opts=["ADAPRUNER.PRESET", "paper"])
    assert "PRESET" not in without_preset(named).ADAPRUNER and named.ADAPRUNER.PRESET == "paper"


def test_a_whole_number_will_do_for_a_key_that_holds_a_float(tmp_path):
    file = tmp_path / "config.yaml"
    file.write_text("SOLVER: {MAX_EPOCHS: 0}\nADAPRUNER:\n  LABEL_ERRORS: 0\n  MASK: {LR: 1}\n")
    cfg = load_config(str(file), opts=["ADAPRUNER.WARMUP", "0", "SOLVER.MAX_ITER", "7"])
    values = cfg.SOLVER.MAX_EPOCHS, cfg.ADAPRUNER.LABEL_ERRORS, cfg.ADAPRUNER.MASK.LR, cfg.ADAPRUNER.WARMUP
    assert values == (0, 0, 1, 0) and all(type(value) is float for value in values)
    assert cfg.SOLVER.MAX_ITER == 7
    with pytest.raises(ValueError, match="SOLVER.MAX_ITER"):
        load_config(opts=["SOLVER.MAX_ITER", "7.5"])
