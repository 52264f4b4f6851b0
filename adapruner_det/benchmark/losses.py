"""A detector's native batch loss, its losses image by image, and its images one at a time."""

import copy
from pathlib import Path
from statistics import median
from types import MethodType
from typing import Any

import torch
from detectron2.utils.events import EventStorage
from torch import Tensor, nn
from tqdm import tqdm

from ..modeling.per_image import forward_one_at_a_time, return_per_image_losses
from .detectors import FLOAT32_ONLY, build_detector, detector_config, make_batches
from .timing import Times, alternate, ratio, spread

NATIVE, PER_IMAGE, ONE_AT_A_TIME = "native", "per image", "one at a time"
LOSS_ROUNDS = 10  # of the loss alone for each of the whole model's, since it takes milliseconds
Call = tuple[str, str, tuple]  # a module's name, that of its method, and what that was called with


def measure_losses(
    names: list[str],
    configs: Path,
    *,
    device: str,
    small: bool,
    batch_size: int,
    image_size: int,
    rounds: int,
    mixed_precision: bool,
) -> list[dict]:
    """One row a detector, forward and backward: the whole model's three ways, and the loss alone's two.

    The loss alone is what the modules' methods that compute it take, with the gradient back to the
    predictions; a YOLOv3-Tiny, whose loss is per image by construction, has no two ways of it.
    """
    (batch,) = make_batches(1, batch_size, image_size, num_images=batch_size)
    rows = []
    for name in tqdm(names, desc="losses"):
        cfg = detector_config(name, configs, small, device)
        mixed = mixed_precision and name not in FLOAT32_ONLY
        models = _three_ways(build_detector(name, cfg))
        run = {key: _whole(model, batch, device, mixed) for key, model in models.items()}
        times = alternate(run, rounds, device=device, name=name)
        precision = "bfloat16" if mixed else "float32"
        row = {"detector": name, "precision": precision, **_compared(times, NATIVE, PER_IMAGE, "model")}
        row["one_at_a_time_ratio"] = ratio(times[ONE_AT_A_TIME].wall, times[NATIVE].wall)
        calls = _recorded(models, batch, device, mixed)
        if calls:
            ways = (NATIVE, PER_IMAGE)
            alone = {key: _alone(models[key], calls, device, mixed) for key in ways}
            label = f"{name}, loss alone"
            times = alternate(alone, LOSS_ROUNDS * rounds, device=device, name=label)
            row.update(_compared(times, NATIVE, PER_IMAGE, "loss"))
        rows.append({**row, "rounds": rounds})
    return rows


def _compared(times: dict[str, Times], baseline: str, ours: str, prefix: str) -> dict:
    native, own = times[baseline], times[ours]
    first, third = spread(own.wall, native.wall)
    return {
        f"{prefix}_native_ms": 1e3 * median(native.wall),
        f"{prefix}_per_image_ms": 1e3 * median(own.wall),
        f"{prefix}_ratio": ratio(own.wall, native.wall),
        f"{prefix}_ratio_first_quartile": first,
        f"{prefix}_ratio_third_quartile": third,
        f"{prefix}_cpu_ratio": ratio(own.cpu, native.cpu),
    }


def _three_ways(model: nn.Module) -> dict[str, nn.Module]:
    per_image, one_at_a_time = copy.deepcopy(model), copy.deepcopy(model)
    return_per_image_losses(per_image)
    one_at_a_time.forward = MethodType(forward_one_at_a_time, one_at_a_time)
    return {NATIVE: model, PER_IMAGE: per_image, ONE_AT_A_TIME: one_at_a_time}


def _whole(model: nn.Module, batch: list[dict], device: str, mixed_precision: bool):
    def run(turn: int) -> None:
        model.zero_grad()
        _backward(_forward(model, batch, device, mixed_precision, turn))

    return run


def _forward(model, batch, device, mixed_precision, seed) -> dict[str, Tensor]:
    torch.manual_seed(seed)  # anchors and proposals are sampled
    with EventStorage(), _autocast(device, mixed_precision):
        return model(batch)


def _autocast(device: str, mixed_precision: bool) -> torch.autocast:
    return torch.autocast(torch.device(device).type, torch.bfloat16, enabled=mixed_precision)


def _backward(losses: dict[str, Tensor]) -> None:
    sum(values.mean() for values in losses.values()).backward()


def _recorded(models, batch, device, mixed_precision) -> list[Call]:
    """What the native model hands to those methods of its modules that the per-image one replaces.

    A mask head computes its loss in `forward`, after its layers; both models' heads are left without
    them here, and their loss is called with what they gave.
    """
    modules, calls = dict(models[NATIVE].named_modules()), []
    per_image = dict(models[PER_IMAGE].named_modules())
    replaced = [
        (name, method)
        for name, module in per_image.items()
        for method in ("losses", "forward")
        if method in vars(module)
    ]
    for name, method in replaced:
        setattr(modules[name], method, _recorder(name, method, modules[name], calls))
    try:
        _forward(models[NATIVE], batch, device, mixed_precision, seed=0)
    finally:
        for name, method in replaced:
            delattr(modules[name], method)
    for name, method in replaced:
        if method == "forward":
            modules[name].layers = per_image[name].layers = _unchanged
    return calls


def _recorder(name: str, method: str, module: nn.Module, calls: list[Call]):
    native = getattr(module, method)

    def recorded(*arguments):
        if method == "forward":
            features, instances = arguments
            calls.append((name, method, (module.layers(features), instances)))
        else:
            calls.append((name, method, arguments))
        return native(*arguments)

    return recorded


def _unchanged(logits: Tensor) -> Tensor:
    return logits


def _alone(model: nn.Module, calls: list[Call], device: str, mixed_precision: bool):
    modules = dict(model.named_modules())

    def run(turn: int) -> None:
        for name, method, arguments in calls:
            with EventStorage(), _autocast(device, mixed_precision):
                losses = getattr(modules[name], method)(*_cut_off(arguments))
            _backward(losses)

    return run


def _cut_off(thing: Any) -> Any:
    """The same arguments, their predictions being leaves that gradients flow to."""
    if isinstance(thing, Tensor):
        return thing.detach().requires_grad_() if thing.requires_grad else thing
    if isinstance(thing, (list, tuple)):
        return type(thing)(_cut_off(part) for part in thing)
    return thing
