#!/usr/bin/env python
"""What pruning costs: makes the tables of docs/performance.md, with torch.utils.benchmark.

    python projects/benchmark/benchmark.py mask        # a step and a projection of the mask alone
    python projects/benchmark/benchmark.py overhead    # a training step that prunes, and Detectron2's plain one
    python projects/benchmark/benchmark.py losses      # native losses, image by image, images one at a time
    python projects/benchmark/benchmark.py loader --config-file configs/cifar10/train_small.yaml
    python projects/benchmark/benchmark.py reading --config-file configs/voc/prune_yolov3_tiny_R18.yaml
    python projects/benchmark/benchmark.py whole --config-file configs/voc/prune_yolov3_tiny_R18.yaml
    python projects/benchmark/benchmark.py phases --config-file configs/voc/prune_yolov3_tiny_R18.yaml

What is compared alternates in one process, in an order drawn anew each round, on one thread. Ratios are of
medians, with the quartiles of the ratios round by round. `SUBCOMMAND --help` shows the options.
"""

import argparse
import copy
import itertools
import json
import tempfile
import time
import warnings
from functools import partial
from pathlib import Path
from types import MethodType
from unittest import mock

import numpy as np
import torch
from PIL import Image
from tabulate import tabulate
from torch.profiler import ProfilerActivity, profile
from torch.utils.benchmark import Timer, timer
from tqdm import tqdm

from adapruner_det.engine import AdaPrunerTrainer, load_config  # first: it quiets imports

from detectors import RECIPES, build_detector, detector_config, make_record  # isort: skip
from detectron2.data import DatasetMapper, build_detection_train_loader
from detectron2.engine import SimpleTrainer
from detectron2.modeling import build_model
from detectron2.solver import build_optimizer
from detectron2.utils.events import EventStorage

from adapruner_det.data.detection_records import NumberedRecords
from adapruner_det.data.mapper import QuickMapper
from adapruner_det.data.sampling import ResumableSampler
from adapruner_det.data.small_copies import SmallCopies, copies_of
from adapruner_det.engine.console import Progress
from adapruner_det.engine.detection import DetectionTask
from adapruner_det.engine.precision import autocast
from adapruner_det.engine.setup import set_num_classes
from adapruner_det.engine.tasks import task_of
from adapruner_det.engine.train_loop import AdaPrunerStep, MixedPrecisionTrainer
from adapruner_det.engine.trainer import small_copies
from adapruner_det.modeling.per_image import forward_one_at_a_time, return_per_image_losses
from adapruner_det.pruning import AdaPruner

FLOAT32_ONLY = ("FCOS",)  # Detectron2's own loss of it fails under autocast
MB = 1024**2


def alternate(functions, rounds, steps=1):
    """{name: (rounds, 2) seconds of a call: by the clock, and of the process's CPU}."""
    cpu = []

    def clock():
        cpu.append(time.process_time())
        return timer()  # torch's, which waits for the GPU

    seconds, rng = {name: [] for name in functions}, np.random.default_rng(0)
    for _ in tqdm(range(rounds), leave=False, delay=5):
        for name in rng.permutation(list(functions)):
            wall = Timer("run()", globals={"run": functions[name]}, timer=clock).timeit(steps).mean
            seconds[name].append((wall, (cpu[-1] - cpu[-2]) / steps))
    return {name: np.array(own) for name, own in seconds.items()}


def compared(ours, baseline):
    """Ratio of medians and its quartiles, and the ratio of CPU seconds, of what `alternate` gives."""
    first, third = np.quantile(ours[:, 0] / baseline[:, 0], (0.25, 0.75))
    ratio, cpu = np.median(ours, axis=0) / np.median(baseline, axis=0)
    return {"ratio": ratio, "quartiles": f"{first:.2f} - {third:.2f}", "CPU ratio": cpu}


def peak_of(function, device):
    """Megabytes of tensors that `function` holds at most, beyond what was there before it."""
    if torch.device(device).type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        function()
        return (torch.cuda.max_memory_allocated(device) - before) / MB
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as recorded:
        function()
    with tempfile.NamedTemporaryFile(suffix=".json") as file:
        recorded.export_chrome_trace(file.name)
        events = json.loads(Path(file.name).read_text())["traceEvents"]
    changes = sorted((event["ts"], event["args"]["Bytes"]) for event in events if event.get("name") == "[memory]")
    return max(np.cumsum([0, *(change for _, change in changes)])) / MB


def mask_row(size, args):
    made = []
    held = peak_of(lambda: made.append(AdaPruner(size, 0.8, 10**12, device=args.device)), args.device)
    (pruner,) = made
    pruner.mask.logits.normal_()
    draws = itertools.cycle(torch.randint(size, (64, args.batch_size), device=args.device))
    losses = torch.rand(args.batch_size, device=args.device)

    def step():
        index = next(draws)
        pruner.weights(index)
        pruner.update(index, losses)

    def project():
        pruner.mask.project(pruner.num_to_keep)

    step_seconds, seconds = (
        Timer("run()", globals={"run": run}).timeit(times).mean for run, times in ((step, args.steps), (project, 3))
    )
    return {
        "samples": size,
        "a step, ms": 1e3 * step_seconds,
        "a projection, s": seconds,
        "a sample, ns": 1e9 * seconds / size,
        "the mask, MB": held,
        "projection needs beyond, MB": peak_of(project, args.device),
    }


def overhead_row(name, args):
    cfg, mixed, batches = setting(name, args, number=4)

    def plain():
        model = build_detector(name, cfg)
        return MixedPrecisionTrainer(model, itertools.cycle(batches), build_optimizer(cfg, model), mixed)

    def pruning():
        model = build_detector(name, cfg)
        return_per_image_losses(model)
        pruner = AdaPruner(args.num_images, keep_ratio=0.8, total_steps=10**9)  # past its warm-up: the mask moves
        optimizer = build_optimizer(cfg, model)
        task = {"task": DetectionTask(), "records": []}
        return AdaPrunerStep(model, itertools.cycle(batches), optimizer, pruner, **task, mixed_precision=mixed)

    def two_steps(build):
        step = stepper(build())
        step(), step()

    memory = {build: peak_of(lambda build=build: two_steps(build), args.device) for build in (plain, pruning)}
    steps = {"plain": stepper(plain()), "pruning": stepper(pruning())}
    times = alternate(steps, args.rounds)
    waits = {f"{way}, waits": waits_of(step) for way, step in steps.items()} if args.device == "cuda" else {}
    return {
        "detector": name,
        **milliseconds(times),
        "pruning, images/s": args.batch_size / np.median(times["pruning"][:, 0]),
        **waits,
        **compared(times["pruning"], times["plain"]),
        "plain, MB": memory[plain],
        "pruning, MB": memory[pruning],
        "memory ratio": memory[pruning] / memory[plain],
    }


def waits_of(step):
    """How often the host waits for the GPU in a step."""
    torch.cuda.set_sync_debug_mode("warn")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        step()
    torch.cuda.set_sync_debug_mode("default")
    return sum("synchroniz" in str(warning.message) for warning in caught)


def losses_row(name, args):
    cfg, mixed, (batch,) = setting(name, args, number=1)
    native, per_image, alone = models = [build_detector(name, cfg) for _ in range(3)]
    return_per_image_losses(per_image)
    alone.forward = MethodType(forward_one_at_a_time, alone)

    def whole(model):
        seeds = itertools.count()
        return lambda: (model.zero_grad(), backward(forward(model, batch, mixed, next(seeds))))

    ways = dict(zip(("native", "per image", "one at a time"), map(whole, models)))
    times = alternate(ways, args.rounds)
    row = {"detector": name, **milliseconds(times), **compared(times["per image"], times["native"])}
    row["one at a time, ratio"] = compared(times["one at a time"], times["native"])["ratio"]
    calls = recorded_calls(native, per_image, batch, mixed)
    if calls:  # a YOLOv3-Tiny's loss is per image in both
        ways = {"native": native, "per image": per_image}
        times = alternate({way: partial(run_alone, own, calls, mixed) for way, own in ways.items()}, 10 * args.rounds)
        loss = {**milliseconds(times), **compared(times["per image"], times["native"])}
        row.update({f"loss alone: {key}": value for key, value in loss.items()})
    return row


def loader_row(args):
    cfg = load_config(args.config_file, args.register, [*args.opts, "MODEL.DEVICE", args.device])
    if cfg.MODEL.META_ARCHITECTURE != "ImageClassifier":
        raise SystemExit(f"{args.config_file} is of a detector; what is measured is the loader of an ImageClassifier")
    cfg.SOLVER.BASE_LR = 1e-9
    task = task_of(cfg)
    records = task.load_records(cfg)
    batches = task.train_loader(cfg, records, ResumableSampler(len(records), seed=0))
    model = build_model(cfg).train()
    task.adapt_model(model, records)
    steps = {}
    for name, data in (("loader", batches), ("fixed batch", itertools.repeat(next(iter(batches))))):
        own = copy.deepcopy(model)
        steps[name] = stepper(MixedPrecisionTrainer(own, data, build_optimizer(cfg, own), cfg.SOLVER.AMP.ENABLED))
    times = alternate(steps, args.rounds, args.steps)
    speeds = {f"{name}, images/s": cfg.SOLVER.IMS_PER_BATCH / np.median(own[:, 0]) for name, own in times.items()}
    return {
        "network": cfg.MODEL.CLASSIFIER.NAME,
        "images": len(records),
        **speeds,
        **compared(times["fixed batch"], times["loader"]),  # fewer seconds are more images a second
    }


def reading_row(args):
    cfg = load_config(args.config_file, args.register, args.opts)
    task, cfg.OUTPUT_DIR = task_of(cfg), tempfile.mkdtemp()
    if not isinstance(task, DetectionTask):
        raise SystemExit(f"{args.config_file} is of a classifier; what is measured is reading for a detector")
    with small_copies(cfg):
        records = task.load_records(cfg)

    def reader(mapper):
        draws, numbered = itertools.count(), NumberedRecords(records, mapper, seed=0)
        return lambda: numbered[next(draws)]

    first, copies, native = (mapper(cfg, is_train=True) for mapper in (QuickMapper, QuickMapper, DatasetMapper))
    ways = {
        "ours": reader(copies.reading(copies_of(cfg))),
        "without copies": reader(first),
        "Detectron2's": reader(native),
    }
    files = [record["file_name"] for record in records]
    ways.update({"first pass": first_pass(cfg, files, True), "decoded whole": first_pass(cfg, files, False)})
    times = alternate(ways, args.rounds, args.steps)
    times = {name: own[:, ::-1] for name, own in times.items()}  # what counts here is the CPU's clock
    ratios = compared(times["ours"], times["Detectron2's"])
    return {"images": len(records), "pixels": max(cfg.INPUT.MIN_SIZE_TRAIN), **milliseconds(times),
            "ratio": ratios["ratio"], "quartiles": ratios["quartiles"],
            "first pass / decoded whole": compared(times["first pass"], times["decoded whole"])["ratio"]}  # fmt: skip


def first_pass(cfg, files, scaled):
    """Decodes the next file and leaves its small copy."""
    sizes = [(cfg.INPUT.MIN_SIZE_TEST, cfg.INPUT.MAX_SIZE_TEST)]
    copies = SmallCopies(Path(cfg.OUTPUT_DIR, f"copies_{scaled}"), sizes, cfg.INPUT.FORMAT, 2**33, scaled)
    draws = itertools.cycle(files)

    def add():
        file = next(draws)
        with Image.open(file) as picture:
            copies.add(file, picture)

    return add


def whole_row(args):
    """A step of the config as it is, from the files on: our trainer and copies, and Detectron2's trainer and mapper."""
    cfg = load_config(args.config_file, args.register, [*args.opts, "SOLVER.AMP.ENABLED", "False"])  # which it has not
    cfg.OUTPUT_DIR = tempfile.mkdtemp()
    set_num_classes(cfg)
    ours = AdaPrunerTrainer(cfg)
    model, loader = build_model(cfg).train(), build_detection_train_loader(cfg, dataset=ours._records)
    native = SimpleTrainer(model, loader, build_optimizer(cfg, model))
    times = alternate({"ours": stepper(ours._trainer), "Detectron2's": stepper(native)}, args.rounds, args.steps)
    return {"images a step": cfg.SOLVER.IMS_PER_BATCH, **milliseconds(times),
            **compared(times["ours"], times["Detectron2's"])}  # fmt: skip


def phases_row(args):
    """A pruning run from its start to its page: CPU seconds of this process by phase."""
    marks = [("imports", 0.0), ("labels and pictures", time.process_time())]

    def mark(progress, name, *_, **__):
        if name != marks[-1][0]:
            marks.append((name, time.process_time()))

    overrides = ["DATALOADER.NUM_WORKERS", "0", "OUTPUT_DIR", tempfile.mkdtemp()]
    cfg = load_config(args.config_file, args.register, [*args.opts, *overrides])
    with mock.patch.object(Progress, "phase", mark):
        set_num_classes(cfg)
        trainer = AdaPrunerTrainer(cfg)
        trainer.resume_or_load(resume=False)
        trainer.train()
    ends = [start for _, start in marks[1:]] + [time.process_time()]
    seconds = {f"{name}, s": end - start for (name, start), end in zip(marks, ends)}
    return {"images": len(trainer._records), "iterations": trainer.max_iter, **seconds, "all, s": ends[-1]}


def milliseconds(times):
    return {f"{name}, ms": 1e3 * np.median(own[:, 0]) for name, own in times.items()}


def setting(name, args, number):
    """Config, whether it runs in bfloat16, and `number` batches."""
    cfg = detector_config(name, args.model_size == "R18", args.device)
    generator = torch.Generator().manual_seed(0)
    records = [make_record(args.image_size, args.num_images, generator) for _ in range(number * args.batch_size)]
    batches = [records[start::number] for start in range(number)]
    return cfg, args.mixed_precision and name not in FLOAT32_ONLY, batches


def stepper(trainer):
    """A training step; those of two trainers draw the same anchors and proposals."""
    turns = itertools.count()

    def step():
        trainer.iter = next(turns)
        torch.manual_seed(trainer.iter)
        with EventStorage(trainer.iter) as trainer.storage:
            trainer.run_step()

    return step


def forward(model, batch, mixed, seed):
    torch.manual_seed(seed)
    with EventStorage(), autocast(next(model.parameters()).device, mixed):
        return model(batch)


def backward(losses):
    sum(values.mean() for values in losses.values()).backward()


def recorded_calls(native, per_image, batch, mixed):
    """[(module, method, arguments)] of what the native model hands to the methods that `per_image` replaces.

    A mask head computes its loss in `forward`, after its layers: these are taken out of both models.
    """
    modules, calls = dict(native.named_modules()), []
    replaced = [(name, method, module) for name, module in per_image.named_modules()
                for method in ("losses", "forward") if method in vars(module)]  # fmt: skip
    for name, method, _ in replaced:
        own, original = modules[name], getattr(modules[name], method)

        def record(*arguments, name=name, method=method, own=own, original=original):
            is_mask = method == "forward"
            calls.append((name, method, (own.layers(arguments[0]), arguments[1]) if is_mask else arguments))
            return original(*arguments)

        setattr(own, method, record)
    forward(native, batch, mixed, seed=0)
    for name, method, module in replaced:
        delattr(modules[name], method)
        if method == "forward":
            modules[name].layers = module.layers = lambda logits: logits
    return calls


def run_alone(model, calls, mixed):
    """The losses of these calls, with the gradient back to the predictions."""
    modules = dict(model.named_modules())
    for name, method, arguments in calls:
        with EventStorage(), autocast(next(model.parameters()).device, mixed):
            losses = getattr(modules[name], method)(*as_leaves(arguments))
        backward(losses)


def as_leaves(thing):
    if isinstance(thing, torch.Tensor):
        return thing.detach().requires_grad_() if thing.requires_grad else thing
    return type(thing)(map(as_leaves, thing)) if isinstance(thing, list | tuple) else thing


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True, dest="command")
    for name in ("mask", "overhead", "losses", "loader", "reading", "whole", "phases"):
        command = commands.add_parser(name, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
        add = command.add_argument
        add("--device", default="cuda" if torch.cuda.is_available() else "cpu", help=" ")
        add("--rounds", type=int, default=10, help="of what is compared")
        add("--steps", type=int, default={"mask": 300, "reading": 50}.get(name, 10), help="timed at once")
        if name == "mask":
            add("--sizes", nargs="+", type=float, default=[1e4, 1e6, 1e8], help="numbers of samples")
            add("--batch-size", type=int, default=256, help=" ")
        elif name in ("overhead", "losses"):
            default = list(RECIPES)[: 3 if name == "overhead" else None]
            add("--detectors", nargs="+", choices=RECIPES, default=default, metavar="NAME", help=" ")
            add("--model-size", choices=("R18", "R50"), default="R18", help="backbone")
            add("--image-size", type=int, default=128, help="pixels")
            add("--batch-size", type=int, default=8, help=" ")
            add("--num-images", type=int, default=10**5, help="of the training set")
            add("--mixed-precision", action=argparse.BooleanOptionalAction, default=True, help="bfloat16")
        else:
            add("--config-file", required=True, help="its training set is read")
            add("--register", action="append", default=[], metavar="NAME=FORMAT:...", help="a data set of your own")
            add("opts", nargs="*", metavar="KEY VALUE", help="overrides of the config")
    return parser.parse_args()


def main():
    args = parse_arguments()
    if args.command == "mask":
        rows = [mask_row(int(size), args) for size in args.sizes]
    elif args.command in ("overhead", "losses"):
        make_row = overhead_row if args.command == "overhead" else losses_row
        rows = [make_row(name, args) for name in tqdm(args.detectors, desc=args.command)]
    else:
        makers = {"loader": loader_row, "reading": reading_row, "whole": whole_row, "phases": phases_row}
        rows = [makers[args.command](args)]
    print(tabulate(rows, headers="keys", tablefmt="github", floatfmt=",.3f", intfmt=","))


if __name__ == "__main__":
    main()
