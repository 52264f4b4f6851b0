import logging
from contextlib import nullcontext

import pytest
import torch

from adapruner_det.engine import precision


@pytest.fixture(autouse=True)
def unknown():
    """What was found out about this machine is forgotten, before and after."""
    precision._has_bfloat16.cache_clear()
    yield
    precision._has_bfloat16.cache_clear()


@pytest.mark.parametrize(
    "capabilities, expected",
    [
        ({"avx2": True, "avx512_f": False, "amx_bf16": False, "avx512_bf16": False}, torch.float32),
        ({"avx512_f": True, "avx512_bf16": False}, torch.float32),
        ({"neon": True, "bf16": False}, torch.float32),
        ({"avx512_bf16": True, "amx_bf16": False}, torch.bfloat16),
        ({"avx512_bf16": True, "amx_bf16": True}, torch.bfloat16),
        ({"neon": True, "bf16": True}, torch.bfloat16),
    ],
)
def test_a_cpu_computes_in_bfloat16_if_it_has_the_instructions(monkeypatch, caplog, capabilities, expected):
    caplog.set_level(logging.INFO)
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities)
    for _ in range(2):
        with precision.autocast(torch.device("cpu"), enabled=True):
            assert torch.nn.Conv2d(1, 1, 1)(torch.ones(1, 1, 2, 2)).dtype == expected
    said = [record.levelname for record in caplog.records if "This CPU has no bfloat16" in record.message]
    assert said == (["INFO"] if expected == torch.float32 else [])


def test_where_torch_does_not_tell_it_is_float32(monkeypatch):
    monkeypatch.delattr(torch.cpu, "get_capabilities")
    assert isinstance(precision.autocast(torch.device("cpu"), enabled=True), nullcontext)


@pytest.mark.parametrize("has", [True, False])
def test_a_gpu_without_bfloat16_is_told_of(monkeypatch, caplog, has):
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: has and not including_emulation)
    found = precision.autocast(torch.device("cuda"), enabled=True)
    assert isinstance(found, nullcontext) != has
    assert ("This GPU has no bfloat16" in caplog.text) != has


def test_what_is_not_asked_for_is_not_done():
    with precision.autocast(torch.device("cpu"), enabled=False):
        assert not torch.is_autocast_enabled("cpu")
