import pytest

from adapruner_det.benchmark.mask import measure_masks


def test_a_row_says_what_a_sample_takes():
    (large,) = measure_masks([3_000_000], 16, steps=3, projections=1, device="cpu")
    assert large["samples"] == 3_000_000
    assert large["tensor_bytes_per_sample"] == pytest.approx(4, abs=0.01)
    assert large["step_ms"] > 0 and large["projection_s"] > 0
    assert large["kept_ratio"] == pytest.approx(0.8, abs=1e-6)  # random float32 logits tie now and then
    if large["grown_mb"] is not None:  # where the system tells
        assert 11 < large["grown_mb"] < 20
        assert large["projection_extra_mb"] < 60  # for kthvalue's copy of values and their indices
