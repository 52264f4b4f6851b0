import os

import pytest
import torch

from adapruner_det.benchmark import memory
from adapruner_det.benchmark.mask import NotEnoughMemory, check_memory
from adapruner_det.pruning import AdaPruner, Objective

linux = pytest.mark.skipif(not os.path.exists(memory.STATUS), reason="needs Linux's /proc")


def test_peak_counts_what_is_held_together_and_nothing_from_before():
    before = torch.ones(10_000)

    def function():
        first = before + 1  # 40 kB
        second = torch.cat([first, first])  # 80 kB more
        del first
        second + 1  # 80 + 80 kB

    assert 160_000 <= memory.peak_of(function, "cpu") < 165_000


def test_storages_are_counted_once():
    values = torch.zeros(100)
    assert memory.bytes_of([values, values[:10], values.view(10, 10), torch.zeros(1)]) == 404


def test_tensors_of_a_pruner_are_found():
    found = list(memory.tensors_in(AdaPruner(1000, 0.5, 10, objective=Objective(ratio_control="penalty"))))
    assert 8000 <= memory.bytes_of(found) < 8400


@linux
def test_a_process_sees_its_memory_grow_and_its_peak_fall_when_forgotten():
    before = memory.resident()
    values = torch.ones(30_000_000)
    assert memory.resident() - before > 100e6
    del values
    assert memory.peak_resident() - before > 100e6
    memory.forget_peak()
    assert memory.resident() <= memory.peak_resident() < before + 100e6


def test_on_cuda_the_gpu_is_asked(monkeypatch):
    answers = {"memory_allocated": 1, "max_memory_allocated": 2, "mem_get_info": (3, 9)}
    for name, answer in answers.items():
        monkeypatch.setattr(torch.cuda, name, lambda device, answer=answer: answer)
    device = "cuda:0"
    found = memory.resident(device), memory.peak_resident(device), memory.available(device)
    assert found == (1, 2, 3)
    with pytest.raises(NotEnoughMemory, match="cuda:0 has 0 MB free"):
        check_memory(1000, device)


@linux
def test_a_mask_that_does_not_fit_is_refused_before_it_is_made():
    check_memory(1000)
    with pytest.raises(NotEnoughMemory, match="40,000,000 MB"):
        check_memory(int(1e13 * 1.048576))


def test_nothing_is_refused_where_the_system_does_not_tell(monkeypatch):
    monkeypatch.setattr(memory, "MEMORY", "/does/not/exist")
    monkeypatch.setattr(memory, "STATUS", "/does/not/exist")
    assert memory.available() is None and memory.resident() is None
    check_memory(10**13)
