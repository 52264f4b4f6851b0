#!/usr/bin/env python
"""Kills pruning runs and feeds broken files, to see that nothing is lost and nothing is wrong in silence.

Kill runs at random moments and in the middle of each write, resume them, and compare their selection with that of a run
left alone:
    python tools/stress.py kills --times 100 --output output/stress

Feed broken VOC XML, COCO JSON, lists, selections, statistics, checkpoints and overrides for ten minutes:
    python tools/stress.py fuzz --minutes 10 --output output/stress

Both print one line a kind of what happened, and leave in --output what went wrong, so that it can be looked at.
"""

import argparse
import builtins
import importlib
import io
import json
import os
import random
import re
import shutil
import signal
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from detectron2.data import DatasetCatalog, MetadataCatalog
from PIL import Image

from adapruner_det.commands import options, train_net
from adapruner_det.data.coco import coco_content
from adapruner_det.data.corrections import correct
from adapruner_det.data.export import export_selection
from adapruner_det.data.selection_lists import write_selection
from adapruner_det.data.selection_record import summary
from adapruner_det.data.yolo import label_file, label_lines
from adapruner_det.engine import load_config
from adapruner_det.engine.checkpoint import RunCheckpointer, newest_checkpoint, noted_settings
from adapruner_det.engine.select import solve_again
from adapruner_det.engine.tasks import task_of
from adapruner_det.engine.trainer import check_pruning
from adapruner_det.pruning import Selection

KILLED = -signal.SIGKILL
OURS = (AssertionError, FloatingPointError, ImportError, KeyError, OSError, SystemExit, ValueError)
BOXES = (
    "--config-file configs/bccd/prune_yolov3_tiny_R18.yaml --register data=voc:{data}:all SOLVER.MAX_ITER 9 "
    "SOLVER.IMS_PER_BATCH 2 SOLVER.CHECKPOINT_PERIOD 3 SOLVER.WARMUP_ITERS 0 DATALOADER.NUM_WORKERS 0 MODEL.DEVICE cpu "
    "INPUT.MIN_SIZE_TRAIN (64,) INPUT.MIN_SIZE_TEST 64 SEED 1 ADAPRUNER.KEEP_RATIO 0.5"
)
PICTURES = (
    "--config-file configs/cifar10/prune_small.yaml --register data=images:{data} SOLVER.MAX_EPOCHS 0 SOLVER.MAX_ITER 12 "
    "SOLVER.IMS_PER_BATCH 4 SOLVER.CHECKPOINT_PERIOD 3 SOLVER.WARMUP_ITERS 0 MODEL.DEVICE cpu SEED 1 ADAPRUNER.KEEP_RATIO 0.5"
)


def make_boxes(folder: Path, num: int = 12) -> Path:
    """A VOC folder of small images with one or two boxes each."""
    draw = np.random.default_rng(0)
    for name in ("JPEGImages", "Annotations", "ImageSets/Main"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    ids = [f"i{number:02d}" for number in range(num)]
    for image_id in ids:
        image, objects = draw.integers(0, 60, (48, 64, 3), dtype=np.uint8), ""
        for name, value in (("dark", 120), ("light", 220))[: draw.integers(1, 3)]:
            x, y, side = draw.integers(1, 40), draw.integers(1, 24), draw.integers(12, 22)
            image[y : y + side, x : x + side] = value
            box = f"<xmin>{x}</xmin><ymin>{y}</ymin><xmax>{x + side}</xmax><ymax>{y + side}</ymax>"
            objects += f"<object><name>{name}</name><bndbox>{box}</bndbox></object>"
        Image.fromarray(image).save(folder / "JPEGImages" / f"{image_id}.jpg")
        (folder / "Annotations" / f"{image_id}.xml").write_text(
            f"<annotation><size><width>64</width><height>48</height><depth>3</depth></size>{objects}</annotation>"
        )
    (folder / "ImageSets/Main/all.txt").write_text("\n".join(ids) + "\n")
    return folder


def make_pictures(folder: Path, num: int = 16) -> Path:
    """Two class folders of noise, darker and lighter."""
    draw = np.random.default_rng(0)
    for name, mean in (("dark", 70), ("light", 160)):
        (folder / name).mkdir(parents=True, exist_ok=True)
        for number in range(num // 2):
            image = np.clip(draw.normal(mean, 40, (32, 32, 3)), 0, 255).astype(np.uint8)
            Image.fromarray(image).save(folder / name / f"{number:02d}.png")
    return folder


def forked(work, log: Path, kill_after: float | None = None, limit: float = 600) -> int:
    """Runs `work` in a child whose output goes to `log`: its exit status, -9 where it was killed."""
    child = os.fork()
    if child == 0:
        sys.stdout = sys.stderr = log.open("w", buffering=1)
        status = 0
        try:
            work()
        except SystemExit as end:
            print(end.code)
            status = end.code if isinstance(end.code, int) else 1
        except BaseException:
            traceback.print_exc()
            status = 70
        sys.stdout.flush()
        os._exit(status)
    end = time.monotonic() + (kill_after if kill_after is not None else limit)
    while True:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        if time.monotonic() > end:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            return KILLED if kill_after is not None else 124
        time.sleep(0.002)


class Writes:
    """Counts what a process writes, and kills it in the middle of the n-th write.

    A write is a file opened for writing, a rename, or a save of torch's; in its middle the file is empty, half there,
    or beside its place.
    """

    def __init__(self, kill_in: int | None = None):
        self.count, self.kill_in = 0, kill_in
        self.open, self.replace, self.rename, self.save = builtins.open, os.replace, os.rename, torch.save
        builtins.open, os.replace, os.rename, torch.save = self.opening, self.moving, self.renaming, self.saving

    def reached(self) -> bool:
        self.count += 1
        return self.count == self.kill_in

    def opening(self, file, mode="r", *args, **options):
        opened = self.open(file, mode, *args, **options)
        if set(mode) & set("wax") and self.reached():
            kill_me()
        return opened

    def moving(self, *args, **options):
        if self.reached():
            kill_me()
        return self.replace(*args, **options)

    def renaming(self, *args, **options):
        if self.reached():
            kill_me()
        return self.rename(*args, **options)

    def saving(self, thing, file, *args, **options):
        self.save(thing, file, *args, **options)
        if self.reached():
            if isinstance(file, (str, os.PathLike)):
                os.truncate(file, os.path.getsize(file) // 2)
            elif hasattr(file, "name"):
                file.flush()
                os.truncate(file.name, os.path.getsize(file.name) // 2)
            kill_me()


def kill_me() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def prune(command: str, output: Path, resume: bool = False, kill_in: int | None = None) -> None:
    """A pruning run in this process; with `kill_in` it dies in that write.

    Leaves the number of writes in `output`.writes and the modules it imported in `output`.modules.
    """
    writes = Writes(kill_in)
    arguments = [*command.split(), "OUTPUT_DIR", str(output)]
    train_net.run(options.parse(words=[*["--resume"] * resume, *arguments]))
    Path(f"{output}.writes").write_text(str(writes.count))
    Path(f"{output}.modules").write_text("\n".join(sys.modules))


def import_as(modules: Path) -> None:
    """Imports what a run imported, so that the runs forked from here need not."""
    for name in modules.read_text().splitlines():
        with suppress(ImportError):
            importlib.import_module(name)


def says(folder: Path) -> tuple[list, list]:
    """Scores and kept of a selection, by identity."""
    selection = Selection.load(folder / "selection")
    return sorted(zip(selection.datasets, selection.ids, map(str, selection.scores), selection.kept, strict=True))


def kills(args) -> Counter:
    """Kills runs of both tasks, half of them at a random moment and half of them in a write."""
    found, draw = Counter(), random.Random(args.seed)
    commands = {
        "detection": BOXES.format(data=make_boxes(args.output / "boxes")),
        "classification": PICTURES.format(data=make_pictures(args.output / "pictures")),
    }
    alone = {}
    for name in ("first", "alone"):  # the first run says what to import, and the second how long a run takes then
        for task, command in commands.items():
            folder, start = args.output / f"{task}_{name}", time.monotonic()
            if forked(lambda c=command, f=folder: prune(c, f), Path(f"{folder}.log")):
                raise SystemExit(f"the run left alone failed: {folder}.log")
            alone[task] = says(folder), time.monotonic() - start, int(Path(f"{folder}.writes").read_text())
            import_as(Path(f"{folder}.modules"))
    for number in range(args.times):
        task = ("detection", "classification")[number % 2]
        wanted, seconds, writes = alone[task]
        in_write = number // 2 % 2
        after = None if in_write else draw.uniform(0, seconds)
        kill_in = draw.randint(1, writes) if in_write else None
        what = f"{task}, killed {f'in write {kill_in}' if in_write else 'at a moment'}"
        name = args.output / f"kill_{number:04d}"
        result = one_kill(commands[task], name, after, kill_in, wanted)
        found[f"{task}, {'in a write' if in_write else 'at a moment'}: {result}"] += 1
        if result in ("same selection", "not killed"):
            remove(name)
        else:
            print(f"{name}: {what}: {result}", flush=True)
    return found


def one_kill(command: str, name: Path, after: float | None, kill_in: int | None, wanted) -> str:
    """What became of a run that was killed and resumed."""
    first = forked(lambda: prune(command, name, kill_in=kill_in), Path(f"{name}.log"), kill_after=after)
    if first == 0:
        return "not killed"
    if first != KILLED:
        return f"ended with {first} before it was killed"
    status = forked(lambda: prune(command, name, resume=True), Path(f"{name}.resumed.log"))
    if status:
        return f"resuming ended with {status}"
    if says(name) != wanted:
        return "another selection"
    left = [str(path) for path in name.rglob("*") if path.name.endswith(".tmp")]
    return "temporary files are left" if left else "same selection"


def remove(name: Path) -> None:
    shutil.rmtree(name, ignore_errors=True)
    for path in name.parent.glob(f"{name.name}.*"):
        path.unlink()


ODD = (
    "",
    " ",
    "nan",
    "inf",
    "-1",
    "0",
    "1e309",
    "0x10",
    "１２",
    "a/b",
    "../up",
    "\n",
    "\x1b[31m",
    "=1+1",
    "é" * 300,
    "9" * 400,
    "None",
)
ODD_VALUES = (
    None,
    True,
    -1,
    0,
    10**30,
    0.5,
    float("nan"),
    float("inf"),
    "",
    "../up",
    "a\nb",
    [],
    {},
    [[]],
    {"counts": "x"},
)


def odd_bytes(content: bytes, draw: random.Random) -> bytes:
    """A file cut, holed, doubled in part or with bits turned."""
    at, length = draw.randrange(len(content) + 1), draw.choice((1, 1, 2, 8, 64, 4096))
    kind = draw.randrange(5)
    if kind == 0:
        return content[:at]
    if kind == 1:
        return content[:at] + content[at + length :]
    if kind == 2:
        return content[:at] + content[at : at + length] * 2 + content[at + length :]
    if kind == 3:
        return content[:at] + draw.randbytes(length) + content[at + length :]
    return content[:at] + draw.randbytes(length) + content[at:]


def odd_words(content: bytes, draw: random.Random) -> bytes:
    """A text with one of its words, numbers or lines replaced, moved, doubled or gone."""
    pattern = draw.choice((rb"[\w.]+", rb"[\d.]+", rb"<[^>]*>", rb"[^\n]*\n", rb"<(\w+)>.*?</\1>"))
    places = list(re.finditer(pattern, content, re.S))
    if not places:
        return odd_bytes(content, draw)
    place, other = draw.choice(places), draw.choice(places)
    new = draw.choice((draw.choice(ODD).encode(), b"", other[0], place[0] * 2))
    return content[: place.start()] + new + content[place.end() :]


def odd_json(content: bytes, draw: random.Random) -> bytes:
    """A JSON with one of its values replaced, gone, doubled, or of another place."""
    tree = json.loads(content)
    places = []

    def walk(node):
        for key in list(node) if isinstance(node, dict) else range(len(node)):
            places.append((node, key))
            if isinstance(node[key], (dict, list)):
                walk(node[key])

    walk(tree)
    node, key = draw.choice(places)
    other, its = draw.choice(places)
    kind = draw.randrange(5)
    if kind == 0:
        del node[key]
    elif kind == 1:
        node[key] = json.loads(json.dumps(other[its]))
    elif kind == 2 and isinstance(node, list):
        node.append(node[key])
    elif kind == 3 and isinstance(node, dict):
        node[draw.choice(ODD)] = node.pop(key)
    else:
        node[key] = draw.choice(ODD_VALUES)
    return json.dumps(tree).encode()


def odd_array(content: bytes, draw: random.Random) -> bytes:
    """An npz with one of its arrays gone, shortened, of another type or with odd values."""
    arrays = dict(np.load(io.BytesIO(content)))
    name = draw.choice(sorted(arrays))
    kind, values = draw.randrange(5), arrays[name]
    if kind == 0 or not values.size:
        del arrays[name]
    elif kind == 1 and values.ndim:
        arrays[name] = values[: len(values) // 2]
    elif kind == 2:
        arrays[name] = values.astype(np.str_)
    elif kind == 3 and values.dtype.kind in "fi" and values.ndim:
        odd = np.nan if values.dtype.kind == "f" else np.array(draw.choice((-1, 10**6))).astype(values.dtype)
        arrays[name] = values.copy()
        arrays[name].flat[draw.randrange(values.size)] = odd
    else:
        arrays[name] = values.reshape(-1)[:1]
    written = io.BytesIO()
    np.savez(written, **arrays)
    return written.getvalue()


def records_of(spec: str, *overrides: str) -> list[dict]:
    """What a training would get of a data set, pictures read."""
    cfg = load_config("configs/bccd/prune_yolov3_tiny_R18.yaml", [spec], list(overrides))
    task = task_of(cfg)
    records = task.load_records(cfg)
    for record in records:
        task.read_image(cfg, record)
    return records


def write_again(folder: Path) -> None:
    """What `selection.py` does with a selection: load, write, write lists."""
    selection = Selection.load(folder)
    summary(selection)
    write_selection(selection, folder.parent / "out" / "selection")
    export_selection(selection, "ids", folder.parent / "out" / "lists", lambda name: [])


def load_checkpoints(folder: Path) -> None:
    """What a resumed run does first: the newest sound checkpoint, by the pointer, read and compared."""
    path, _ = newest_checkpoint(folder)
    if path is not None:
        RunCheckpointer(torch.nn.Linear(1, 1), str(folder)).load(str(path))
        noted_settings(folder)


def override(file: Path) -> None:
    key, _, value = file.read_text("utf-8").partition(" ")
    cfg = load_config("configs/Base-YOLOv3-Tiny-R18.yaml", [], [key, value])
    check_pruning(cfg)


class Kind(NamedTuple):
    """One kind of input: what is broken, how, and what reads it.

    Attributes:
        file: within the seed folder; empty for one that is no file.
        ways: of breaking it.
        read: called with the folder.
    """

    file: str
    ways: tuple
    read: Callable[[Path], object]


def kinds_in(seed: Path) -> dict[str, Kind]:
    """Makes one of everything in `seed`, to be broken."""
    boxes = make_boxes(seed / "boxes", num=4)
    forked(lambda: prune(BOXES.format(data=boxes), seed / "run"), seed / "run.log")
    write_other_formats(boxes, seed / "coco.json", seed / "yolo")
    text, coco = (odd_bytes, odd_words, odd_words), (odd_bytes, odd_json, odd_json, odd_json)
    (seed / "override").write_text("")
    selection = Selection.load(seed / "run/selection")
    (seed / "corrections.csv").write_text("dataset,id,kept\n" + "".join(f"data,{i},1\n" for i in selection.ids))
    checkpointer = RunCheckpointer(torch.nn.Linear(1, 1), str(seed / "weights"), save_to_disk=True)
    for iteration in (0, 1):
        checkpointer.save(f"model_{iteration:07d}", iteration=iteration, trainer={"settings": {"SEED": 1}})
    return {
        "override": Kind("override", (odd_override,), lambda f: override(f / "override")),
        "VOC XML": Kind("boxes/Annotations/i01.xml", text, lambda f: records_of(f"x=voc:{f / 'boxes'}:all")),
        "VOC list": Kind("boxes/ImageSets/Main/all.txt", text, lambda f: records_of(f"x=voc:{f / 'boxes'}:all")),
        "picture": Kind("boxes/JPEGImages/i01.jpg", (odd_bytes,), lambda f: records_of(f"x=voc:{f / 'boxes'}:all")),
        "COCO JSON": Kind(
            "coco.json", coco, lambda f: records_of(f"x=coco:{f / 'coco.json'}:{f / 'boxes/JPEGImages'}")
        ),
        "YOLO labels": Kind("yolo/labels/i01.txt", text, lambda f: records_of(f"x=yolo:{f / 'yolo/data.yaml'}:train")),
        "YOLO data.yaml": Kind("yolo/data.yaml", text, lambda f: records_of(f"x=yolo:{f / 'yolo/data.yaml'}:train")),
        "selection": Kind("run/selection/selection.json", coco, lambda f: write_again(f / "run/selection")),
        "corrections": Kind("corrections.csv", text, lambda f: correct(selection, f / "corrections.csv")),
        "pointer": Kind("weights/last_checkpoint", text, lambda f: load_checkpoints(f / "weights")),
        "checkpoint": Kind("weights/model_0000001.pth", (odd_bytes,), lambda f: load_checkpoints(f / "weights")),
        "statistics": Kind(
            "run/selection/statistics.npz",
            (odd_bytes, odd_array, odd_array),
            lambda f: solve_again(f / "run/selection", 0.7),
        ),
    }


def write_other_formats(boxes: Path, json_file: Path, yolo: Path) -> None:
    """The VOC folder as COCO JSON and as YOLO's files."""
    records = records_of(f"seed=voc:{boxes}:all")
    for record in records:
        for name in ("images", "labels"):
            (yolo / name).mkdir(parents=True, exist_ok=True)
        picture = shutil.copy(record["file_name"], yolo / "images")
        label_file(Path(picture)).write_text("\n".join(label_lines(record)))
    (yolo / "data.yaml").write_text("train: images\nnames: [dark, light]\n")
    json_file.write_text(json.dumps(coco_content(records, ["dark", "light"], boxes / "JPEGImages")))


def odd_override(_: bytes, draw: random.Random) -> bytes:
    """A key of the config with an odd value, as on a command line."""
    cfg = load_config("configs/Base-YOLOv3-Tiny-R18.yaml")
    keys = [f"{a}.{b}" for a in ("ADAPRUNER", "SOLVER", "DATASETS", "INPUT", "SCORING") for b in cfg[a]]
    return f"{draw.choice(keys)} {draw.choice((*ODD, '0.8', '80', '(1, 2)', 'True', 'adam', '[', '{'))}".encode()


def one_input(kind: Kind, folder: Path, content: bytes) -> str:
    """What the product says of it, in a word or two."""
    (folder / kind.file).write_bytes(content)
    for catalog in (DatasetCatalog, MetadataCatalog):
        catalog.pop("x", None)
    try:
        kind.read(folder)
    except OURS as problem:
        message = str(problem.code if isinstance(problem, SystemExit) else problem)
        name = content.decode().split(" ")[0].split(".")[-1] if kind.file == "override" else Path(kind.file).stem
        return "refused" if name.lower() in message.lower() else f"refused, {name} not named ({type(problem).__name__})"
    except Exception as problem:
        return f"TRACEBACK {type(problem).__name__}"
    return "read"


def batch(name: str, kind: Kind, folder: Path, seed: int, size: int) -> None:
    """Breaks and reads `size` files; a line each in `folder`.results, before it is read and after."""
    draw, good = random.Random(seed), (folder / kind.file).read_bytes()
    with open(f"{folder}.results", "w", buffering=1) as results:
        for number in range(size):
            content = draw.choice(kind.ways)(good, draw)
            (folder.parent / "last").write_bytes(content)
            results.write(f"{number} ")
            signal.alarm(60)
            found = one_input(kind, folder, content)
            signal.alarm(0)
            results.write(f"{found}\n")
            if found != "read" and found != "refused":
                case = folder.parent / "cases" / f"{name.replace(' ', '_')}_{found.split('(')[0].replace(' ', '_')}"
                case.mkdir(parents=True, exist_ok=True)
                if len(list(case.iterdir())) < 10:
                    (case / f"{seed}_{number}").write_bytes(content)


def fuzz(args) -> Counter:
    """Breaks files of every kind in turn until the time is over."""
    kinds = kinds_in(args.output / "seed")
    found, end, turn = Counter(), time.monotonic() + 60 * args.minutes, args.seed * 10**6
    while time.monotonic() < end:
        for name, kind in kinds.items():
            turn += 1
            folder = args.output / "input"
            shutil.rmtree(folder, ignore_errors=True)
            shutil.copytree(args.output / "seed", folder)
            status = forked(
                lambda n=name, k=kind, f=folder, s=turn: batch(n, k, f, s, 100), args.output / "batch.log", limit=900
            )
            lines = Path(f"{folder}.results").read_text().splitlines()
            found.update(f"{name}: {line.split(' ', 1)[1]}" for line in lines if line.split(" ", 1)[1:])
            if status:
                found[f"{name}: the process ended with {status}"] += 1
                shutil.copy(args.output / "last", args.output / f"ended_{name.replace(' ', '_')}_{turn}")
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True, metavar="kills | fuzz")
    command = commands.add_parser("kills", help="kill pruning runs and resume them")
    command.add_argument("--times", type=int, default=20, help="runs to kill (default: 20)")
    command.set_defaults(run=kills)
    other = commands.add_parser("fuzz", help="read broken files")
    other.add_argument("--minutes", type=float, default=10, help="how long (default: 10)")
    other.set_defaults(run=fuzz)
    for own in (command, other):
        own.add_argument("--output", type=Path, required=True, help="folder for the runs and for what went wrong")
        own.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    args.output.mkdir(parents=True, exist_ok=True)
    args.output = args.output.resolve()
    torch.set_num_threads(1)
    for what, times in sorted(args.run(args).items()):
        print(f"{times:7d}  {what}")


if __name__ == "__main__":
    main()
