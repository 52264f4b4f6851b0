import pytest
import torch
from conftest import ROOT
from detectron2.utils.events import EventStorage

from adapruner_det.benchmark import DETECTORS, losses
from adapruner_det.benchmark.detectors import (
    RECIPES,
    build_detector,
    detector_config,
    make_batches,
)

SETTING = dict(device="cpu", small=True, batch_size=2, image_size=64, rounds=1, mixed_precision=True)


def build(name):
    return build_detector(name, detector_config(name, ROOT / "configs", True, "cpu"))


def test_every_detector_that_is_named_has_a_recipe():
    assert set(DETECTORS) == set(RECIPES)


def test_batches_hold_boxes_inside_their_images_and_known_identities():
    batches = make_batches(3, 4, 64, num_images=50)
    assert [len(batch) for batch in batches] == [4, 4, 4]
    for record in (record for batch in batches for record in batch):
        boxes = record["instances"].gt_boxes.tensor
        assert record["image"].shape == (3, 64, 64) and 1 <= len(boxes) <= 8
        assert float(boxes.min()) >= 0 and float(boxes.max()) <= 64
        assert bool((boxes[:, 2:] > boxes[:, :2]).all())
        assert 0 <= record["image_index"] < 50


@pytest.mark.parametrize("name", DETECTORS)
def test_recorded_calls_give_the_model_s_own_losses_again(name):
    models = losses._three_ways(build(name))
    (batch,) = make_batches(1, 2, 64, 2)
    native = losses._forward(build(name), batch, "cpu", False, seed=0)
    calls = losses._recorded(models, batch, "cpu", False)
    assert [bool(calls)] == [name != "YOLOv3-Tiny"]
    modules = {key: dict(model.named_modules()) for key, model in models.items()}
    again, ours = {}, {}
    with EventStorage():
        for module, method, arguments in calls:
            cut = losses._cut_off(arguments)
            again.update(getattr(modules["native"][module], method)(*cut))
            ours.update(getattr(modules["per image"][module], method)(*cut))
    assert ("loss_mask" in ours) == (name == "Mask R-CNN")
    # RetinaNet's and FCOS's normalizer moves at every call, and the first call is another one here.
    tolerance = 0.2 if name in ("RetinaNet", "FCOS") else 1e-5
    for term, values in again.items():
        torch.testing.assert_close(ours[term].mean(), values, rtol=tolerance, atol=1e-6)
        if "stage" not in term and term in native:
            torch.testing.assert_close(values, native[term], rtol=tolerance, atol=1e-6)


def test_rows_of_losses_compare_three_ways_in_mixed_precision():
    rows = losses.measure_losses(["YOLOv3-Tiny", "RetinaNet"], ROOT / "configs", **SETTING)
    assert [row["detector"] for row in rows] == ["YOLOv3-Tiny", "RetinaNet"]
    assert all(row["model_ratio"] > 0 and row["one_at_a_time_ratio"] > 0 for row in rows)
    assert "loss_ratio" not in rows[0] and rows[1]["loss_ratio"] > 0
    assert rows[1]["loss_cpu_ratio"] > 0 and rows[1]["model_cpu_ratio"] > 0
