"""On a GPU nothing would mix devices, and a step would wait for it no more often than Detectron2's own."""

import sys

import pytest
import torch
from conftest import ROOT
from detectron2.engine import SimpleTrainer
from detectron2.utils.events import EventStorage
from pretend_gpu import DEVICE, PretendGpu, to_device

from adapruner_det.engine.detection import DetectionTask
from adapruner_det.engine.detection_statistics import losses_of, set_modes_for_losses
from adapruner_det.engine.train_loop import AdaPrunerStep
from adapruner_det.modeling.per_image import return_per_image_losses
from adapruner_det.pruning import AdaPruner

sys.path.insert(0, str(ROOT / "projects" / "benchmark"))
from detectors import RECIPES, build_detector, detector_config, make_record  # noqa: E402

SIZE, IMAGES = 64, 2


@pytest.fixture
def batch():
    generator = torch.Generator().manual_seed(0)
    records = [make_record(SIZE, IMAGES, generator) for _ in range(IMAGES)]
    return [{**record, "image_index": i, "dataset_name": "d", "image_id": i} for i, record in enumerate(records)]


def waits_of_a_step(trainer_of, name, batch):
    cfg = detector_config(name, small=True, device="cpu")
    model = build_detector(name, cfg)
    with PretendGpu() as device, EventStorage(1) as storage:
        to_device(model)
        trainer = trainer_of(model, iter([batch]), torch.optim.SGD(model.parameters(), 1e-9))
        trainer.storage, trainer.iter = storage, 1
        trainer.run_step()
        return device.waits


def pruning_step(model, batches, optimizer):
    return_per_image_losses(model)
    pruner = AdaPruner(IMAGES, keep_ratio=0.5, total_steps=10, warmup_steps=0)
    return AdaPrunerStep(model, batches, optimizer, pruner, DetectionTask(), [])


@pytest.mark.parametrize("name", RECIPES)
def test_a_pruning_step_waits_no_more_often_than_detectron2_s(name, batch):
    native, ours = (waits_of_a_step(trainer, name, batch) for trainer in (SimpleTrainer, pruning_step))
    assert 0 < ours.total() <= native.total(), (ours, native)
    if name == "YOLOv3-Tiny":
        assert ours.total() == 1, ours  # the losses


@pytest.mark.parametrize("name", ["YOLOv3-Tiny", "Faster R-CNN", "RetinaNet"])
def test_what_is_asked_of_a_finished_model_stays_on_its_device(name, batch):
    cfg = detector_config(name, small=True, device="cpu")
    cfg.SOLVER.AMP.ENABLED = False
    model = build_detector(name, cfg)
    return_per_image_losses(model)
    with PretendGpu(), torch.no_grad():
        to_device(model)
        set_modes_for_losses(model)
        losses = losses_of(cfg, model, batch[:1])
        assert all(values.device.type == DEVICE and values.shape == (1,) for values in losses.values())
        model.eval()
        assert len(model(batch)) == IMAGES


def test_the_mask_may_be_on_a_gpu_and_what_it_is_told_on_the_cpu():
    with PretendGpu():
        pruner = AdaPruner(6, keep_ratio=0.5, total_steps=6, warmup_steps=2, num_classes=2, device=DEVICE)
        for _ in range(6):
            assert pruner.weights(torch.arange(6)).device.type == DEVICE
            counts = torch.tensor([[1, 0], [0, 1], [2, 0], [1, 1], [0, 3], [1, 2]])
            pruner.update(torch.arange(6), torch.linspace(0.1, 2, 6), counts)
        assert int(pruner.finish().sum()) == 3


def test_mixing_devices_raises_and_waiting_is_counted():
    with PretendGpu() as device:
        values = torch.arange(4.0, device=DEVICE)
        with pytest.raises(RuntimeError, match="same device"):
            values + torch.ones(4)
        assert (values + 1)[values > 1].sum().item() == 7
        assert values.to("cpu").tolist() == [0, 1, 2, 3]
    assert device.waits == {"index": 1, "_local_scalar_dense": 1, "_to_copy": 1}
