import time

from adapruner_det.benchmark.timing import alternate, ratio, spread


def test_all_functions_run_in_every_round_and_neither_always_first():
    calls = []
    functions = {name: lambda turn, name=name: calls.append((turn, name)) for name in "ab"}
    times = alternate(functions, rounds=20, warmup=3)
    assert sorted(calls) == [(turn, name) for turn in range(23) for name in "ab"]
    assert [turn for turn, _ in calls] == [turn for turn in range(23) for _ in "ab"]
    first = [name for _, name in calls[::2]]
    assert {"a", "b"} == set(first)
    assert all(len(own.wall) == len(own.cpu) == 20 for own in times.values())


def test_waiting_counts_by_the_clock_and_not_for_the_cpu():
    times = alternate({"wait": lambda turn: time.sleep(0.05)}, rounds=2, warmup=0)["wait"]
    assert min(times.wall) >= 0.05 > max(times.cpu)


def test_ratio_is_of_medians_and_spread_of_rounds():
    ours, baseline = [2.0, 3.0, 100.0, 2.0, 2.0], [1.0, 2.0, 1.0, 1.0, 4.0]
    assert ratio(ours, baseline) == 2.0
    first, third = spread([1.0, 2.0, 3.0], [1.0, 1.0, 1.0])
    assert (first, third) == (1.0, 3.0)
    assert spread([3.0], [2.0]) == (1.5, 1.5)
