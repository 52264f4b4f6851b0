#!/usr/bin/env python3
"""Makes the embedded demo set: handwritten digits on photographs, as a PASCAL VOC folder.

All pixels are real and come with scikit-learn, so nothing is downloaded: the digits are
`load_digits` (UCI's handwritten digits, 8x8), the backgrounds are crops of its two photographs.
Digits and photograph regions of the test images occur in no training image.

Two faults that data pruning should find are injected in the training list and recorded in
`injected.json`: near-duplicates of other training images, and wrong labels. Images without digits can
be injected as well. The test list is clean.
"""

import argparse
import json
import math
import os
import xml.etree.ElementTree as ET
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from sklearn.datasets import load_digits, load_sample_images
from voc_folder import list_path, make_folder

MAKER = "adapruner_det/datasets/make_demo_set.py"
VERSION = 3  # raise it whenever the same settings give other bytes

# Three digits that are hard to mistake for each other, so that a small network learns them in minutes.
CLASSES = {"zero": 0, "four": 4, "seven": 7}
IMAGE_SIZE = 128  # pixels
DIGIT_SIZE = (32, 60)  # pixels, the side of the square that the 8x8 sample is enlarged to
MAX_DIGITS = 4
MIN_VISIBLE = 0.85  # share of a digit's stroke that later digits have to leave uncovered
BRIGHTNESS = (0.3, 0.7)  # of a photograph: dark enough for light strokes to stand out
CONTRAST = (0.75, 1.0)  # of a stroke, from the background's colour (0) to white (1)
MAX_SHIFT = 3  # pixels between a near-duplicate and its parent
TRAIN_SHARE = 0.6  # of each photograph's height and of each digit's samples
WRONG_LABEL_KINDS = ("class", "box", "missing")


@dataclass
class LabelledBox:
    """One annotated digit: its class and the half-open pixel box (x0, y0, x1, y1)."""

    name: str
    box: tuple[int, int, int, int]


@dataclass
class Scene:
    """A picture with a border of MAX_SHIFT pixels, from which near-duplicates are cut.

    Attributes:
        canvas: uint8 BGR of (IMAGE_SIZE + 2 MAX_SHIFT) squared.
        objects: the digits, with their boxes in canvas coordinates.
    """

    canvas: np.ndarray
    objects: list[LabelledBox]


@dataclass
class Sources:
    """What one list (training or test) may be made of: photographs and samples by class name."""

    photographs: list[np.ndarray]
    digits: dict[str, np.ndarray]


def load_sources() -> tuple[Sources, Sources]:
    """Splits photographs and digits into those for training and those for the test images."""
    # scikit-learn gives RGB, OpenCV writes BGR
    photographs = [image[:, :, ::-1] for image in load_sample_images().images]
    samples, labels = load_digits(return_X_y=True)
    samples = (samples.reshape(-1, 8, 8) / 16).astype(np.float32)
    train, test = Sources([], {}), Sources([], {})
    for photograph in photographs:
        row = round(photograph.shape[0] * TRAIN_SHARE)
        train.photographs.append(photograph[:row])
        test.photographs.append(photograph[row:])
    for name, label in CLASSES.items():
        # in the file's order, so that most test digits are by other writers as well
        of_class = samples[labels == label]
        count = round(len(of_class) * TRAIN_SHARE)
        train.digits[name], test.digits[name] = of_class[:count], of_class[count:]
    return train, test


def draw_background(rng: np.random.Generator, photographs: list[np.ndarray]) -> np.ndarray:
    """A random square crop of a photograph, resized, perhaps mirrored, with other brightness."""
    photograph = photographs[rng.integers(len(photographs))]
    side = int(rng.integers(96, min(photograph.shape[:2]) + 1))
    top = rng.integers(photograph.shape[0] - side + 1)
    left = rng.integers(photograph.shape[1] - side + 1)
    crop = photograph[top : top + side, left : left + side]
    if rng.random() < 0.5:
        crop = crop[:, ::-1]
    size = IMAGE_SIZE + 2 * MAX_SHIFT
    crop = cv2.resize(np.ascontiguousarray(crop), (size, size), interpolation=cv2.INTER_AREA)
    return crop.astype(np.float32) * rng.uniform(*BRIGHTNESS)


def enlarge_digit(rng: np.random.Generator, digit: np.ndarray) -> np.ndarray:
    """Enlarges an 8x8 digit to a smooth stroke: opacity in [0, 1], float32 of (height, width)."""
    side = rng.uniform(*DIGIT_SIZE)
    stretch = rng.uniform(0.85, 1.15)
    width, height = round(side * stretch), round(side / stretch)
    stroke = cv2.resize(digit, (width, height), interpolation=cv2.INTER_CUBIC)
    # steepen the blurred edge, or the enlarged digit has no outline to put a box around
    return np.clip((stroke - 0.45) / 0.2, 0, 1)


def stroke_colour(rng: np.random.Generator, background: np.ndarray) -> np.ndarray:
    """A tinted colour, lighter than the pixels `background` (height, width, 3)."""
    mean = background.mean(axis=(0, 1))
    tint = rng.uniform(-40, 40, size=3)
    return np.clip(mean + rng.uniform(*CONTRAST) * (255.0 - mean) + tint, 0, 255)


def tight_box(mask: np.ndarray) -> tuple[int, int, int, int]:
    """The half-open box (x0, y0, x1, y1) around the True pixels of `mask`."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


def place_stroke(rng: np.random.Generator, stroke: np.ndarray) -> tuple[slice, slice]:
    """A random place on the canvas where no shift up to MAX_SHIFT cuts the stroke off."""
    top, left = (rng.integers(2 * MAX_SHIFT, IMAGE_SIZE - side + 1) for side in stroke.shape)
    return slice(top, top + stroke.shape[0]), slice(left, left + stroke.shape[1])


def draw_empty_scene(rng: np.random.Generator, sources: Sources) -> Scene:
    """A photograph without digits."""
    canvas = draw_background(rng, sources.photographs)
    return Scene(canvas.round().astype(np.uint8), [])


def draw_scene(rng: np.random.Generator, sources: Sources) -> Scene:
    """Pastes 1 to MAX_DIGITS digits on a photograph; they overlap, but none is hidden."""
    canvas = draw_background(rng, sources.photographs)
    names, masks, areas = [], [], []
    for _ in range(rng.integers(1, MAX_DIGITS + 1)):
        name = list(CLASSES)[rng.integers(len(CLASSES))]
        digit = sources.digits[name][rng.integers(len(sources.digits[name]))]
        stroke = enlarge_digit(rng, digit)
        # a crowded picture may have no room left; it then gets one digit fewer
        for _ in range(20):
            place = place_stroke(rng, stroke)
            mask = np.zeros(canvas.shape[:2], dtype=bool)
            mask[place] = stroke > 0.5
            if all((m & ~mask).sum() >= MIN_VISIBLE * area for m, area in zip(masks, areas)):
                break
        else:
            continue
        masks = [seen & ~mask for seen in masks] + [mask]
        areas.append(mask.sum())
        names.append(name)
        patch = canvas[place]
        patch += stroke[:, :, None] * (stroke_colour(rng, patch) - patch)
    objects = [LabelledBox(name, tight_box(seen)) for name, seen in zip(names, masks)]
    return Scene(np.clip(canvas, 0, 255).round().astype(np.uint8), objects)


def cut_image(
    rng: np.random.Generator, scene: Scene, shift: tuple[int, int] = (0, 0)
) -> tuple[np.ndarray, list[LabelledBox]]:
    """Cuts the picture out of its scene.

    Args:
        shift: (x, y) of the cut in pixels, at most MAX_SHIFT either way.

    Returns:
        The uint8 BGR image of IMAGE_SIZE squared, slightly brighter or darker than the scene,
        and its objects, with their boxes in image coordinates.
    """
    left, top = MAX_SHIFT + shift[0], MAX_SHIFT + shift[1]
    cut = scene.canvas[top : top + IMAGE_SIZE, left : left + IMAGE_SIZE]
    image = np.clip(cut * rng.uniform(0.95, 1.05), 0, 255).round().astype(np.uint8)
    offset = np.array([left, top, left, top])
    objects = [LabelledBox(item.name, tuple((np.array(item.box) - offset).tolist())) for item in scene.objects]
    return image, objects


def nonzero_shift(rng: np.random.Generator) -> tuple[int, int]:
    """A shift (x, y) of 1 to MAX_SHIFT pixels along at least one axis."""
    while True:
        x, y = (int(v) for v in rng.integers(-MAX_SHIFT, MAX_SHIFT + 1, size=2))
        if x or y:
            return x, y


def shifted_box(rng: np.random.Generator, box: tuple[int, int, int, int]) -> tuple[int, ...]:
    """Moves a box inside the image so far that it overlaps its old place with an IoU below 0.3."""
    x0, y0, x1, y1 = box
    width, height = x1 - x0, y1 - y0
    while True:
        left = int(rng.integers(IMAGE_SIZE - width + 1))
        top = int(rng.integers(IMAGE_SIZE - height + 1))
        overlap = max(0, width - abs(left - x0)) * max(0, height - abs(top - y0))
        if overlap < 0.3 * (2 * width * height - overlap):
            return left, top, left + width, top + height


def spoil_labels(
    rng: np.random.Generator, kind: str, objects: list[LabelledBox]
) -> tuple[list[LabelledBox], list[dict[str, Any]]]:
    """Makes half of an image's labels (rounded up) wrong.

    Args:
        kind: "class" gives another class, "box" moves the box away, "missing" drops the object.

    Returns:
        The labels to write, and for the record the true name and box of every spoilt object.
    """
    count = math.ceil(len(objects) / 2)
    chosen = sorted(int(i) for i in rng.choice(len(objects), size=count, replace=False))
    record = [{"name": objects[i].name, "bndbox": voc_box(objects[i].box)} for i in chosen]
    if kind == "missing":
        return [item for i, item in enumerate(objects) if i not in chosen], record
    spoilt = list(objects)
    for i in chosen:
        name, box = objects[i].name, objects[i].box
        if kind == "class":
            others = [other for other in CLASSES if other != name]
            spoilt[i] = LabelledBox(others[rng.integers(len(others))], box)
        else:
            spoilt[i] = LabelledBox(name, shifted_box(rng, box))
    return spoilt, record


def voc_box(box: tuple[int, ...]) -> list[int]:
    """Half-open pixel box to VOC's [xmin, ymin, xmax, ymax]: from 1, both ends included."""
    return [box[0] + 1, box[1] + 1, box[2], box[3]]


def annotation(image_id: str, objects: list[LabelledBox]) -> bytes:
    """The VOC annotation file of one image."""
    root = ET.Element("annotation")

    def add(parent: ET.Element, tag: str, text: Any = None) -> ET.Element:
        child = ET.SubElement(parent, tag)
        child.text = None if text is None else str(text)
        return child

    add(root, "folder", "demo")
    add(root, "filename", f"{image_id}.jpg")
    size = add(root, "size")
    for tag, value in (("width", IMAGE_SIZE), ("height", IMAGE_SIZE), ("depth", 3)):
        add(size, tag, value)
    add(root, "segmented", 0)
    for item in objects:
        node = add(root, "object")
        add(node, "name", item.name)
        for tag, value in (("pose", "Unspecified"), ("truncated", 0), ("difficult", 0)):
            add(node, tag, value)
        bndbox = add(node, "bndbox")
        for tag, value in zip(("xmin", "ymin", "xmax", "ymax"), voc_box(item.box)):
            add(bndbox, tag, value)
    ET.indent(root)
    return ET.tostring(root) + b"\n"


class DemoSet:
    """Draws and spoils the images of one demo set: the content of its files, by path.

    Every image number (a position in drawing order, which no file shows) has random generators
    of its own, so what is in one image does not depend on how the others came out.
    """

    def __init__(self, seed: int, images: int, test_images: int):
        self.files: dict[str, bytes] = {}
        self.lists: dict[str, str] = {}
        self.seed = seed
        self.train, self.test = load_sources()
        # ids say nothing about an image: one shuffled numbering for both lists
        self.plan_rng = np.random.default_rng(seed)
        numbering = self.plan_rng.permutation(images + test_images) + 1
        self.ids = [f"{number:06d}" for number in numbering]

    def rng(self, number: int, use: str) -> np.random.Generator:
        return np.random.default_rng([self.seed, number, ["scene", "cut"].index(use)])

    def draw_trainval(self, images: int, duplicates: int, wrong_labels: int, empty: int) -> dict[str, Any]:
        """The training images and their list; returns what was injected."""
        originals = images - duplicates
        with_digits = originals - empty
        scenes = [
            (draw_scene if number < with_digits else draw_empty_scene)(self.rng(number, "scene"), self.train)
            for number in range(originals)
        ]
        kinds = self.choose_wrong_labels(scenes, wrong_labels)
        clean = [number for number in range(with_digits) if number not in kinds]
        # a copy of a wrong label would be two faults at once, and muddle what the report counts
        parents = list(range(originals)) + [clean[i] for i in self.plan_rng.integers(len(clean), size=duplicates)]
        near_duplicate_of, wrong_label = {}, {}
        for number, parent in enumerate(parents):
            rng = self.rng(number, "cut")
            shift = (0, 0) if parent == number else nonzero_shift(rng)
            image, objects = cut_image(rng, scenes[parent], shift)
            if parent != number:
                near_duplicate_of[self.ids[number]] = self.ids[parent]
            if number in kinds:
                objects, truth = spoil_labels(rng, kinds[number], objects)
                wrong_label[self.ids[number]] = {"kind": kinds[number], "objects": truth}
            self.add_image(rng, self.ids[number], image, objects)
        self.add_list("trainval", self.ids[:images])
        return {
            "near_duplicate_of": dict(sorted(near_duplicate_of.items())),
            "wrong_label": dict(sorted(wrong_label.items())),
            "without_boxes": sorted(self.ids[with_digits:originals]),
        }

    def draw_test(self, images: int) -> None:
        """The last `images` numbers as test images, and their list."""
        first = len(self.ids) - images
        for number in range(first, len(self.ids)):
            scene = draw_scene(self.rng(number, "scene"), self.test)
            rng = self.rng(number, "cut")
            image, objects = cut_image(rng, scene)
            self.add_image(rng, self.ids[number], image, objects)
        self.add_list("test", self.ids[first:])

    def choose_wrong_labels(self, scenes: list[Scene], count: int) -> dict[int, str]:
        """Scene number -> kind of wrong label, the kinds in turn."""
        # an image must not lose its only object: Detectron2 would drop it from training
        several = [i for i, scene in enumerate(scenes) if len(scene.objects) > 1]
        if count > len(several):
            raise ValueError(
                f"wrong_labels asks for {count} images, but only {len(several)} have several "
                "digits: ask for more images or a smaller share"
            )
        chosen = self.plan_rng.choice(several, size=count, replace=False)
        return {int(i): WRONG_LABEL_KINDS[k % 3] for k, i in enumerate(chosen)}

    def add_image(self, rng: np.random.Generator, image_id: str, image: np.ndarray, objects: list[LabelledBox]) -> None:
        # every image has its own quality, or the quality would tell the near-duplicates
        quality = [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(80, 96))]
        self.files[f"JPEGImages/{image_id}.jpg"] = cv2.imencode(".jpg", image, quality)[1].tobytes()
        self.files[f"Annotations/{image_id}.xml"] = annotation(image_id, objects)

    def add_list(self, name: str, ids: list[str]) -> None:
        self.lists[list_path(name)] = "".join(f"{image_id}\n" for image_id in sorted(ids))


def check_settings(settings: dict[str, Any]) -> None:
    """Raises ValueError, naming the setting, for a demo set that cannot be made."""
    if settings["seed"] < 0:
        raise ValueError(f"seed is {settings['seed']}; it has to be 0 or more")
    for name in ("images", "test_images"):
        if settings[name] < 1:
            raise ValueError(f"{name} is {settings[name]}; it has to be at least 1")
    names = ("duplicates", "wrong_labels", "empty")
    shares = [settings[name] for name in names]
    # images with one digit only cannot take a wrong label, so some originals have to be left
    if min(shares) < 0 or sum(shares) > 0.5:
        raise ValueError(
            ", ".join(f"{name} is {share}" for name, share in zip(names, shares))
            + "; they are shares of the training images, 0 or more, and together at most 0.5"
        )


def make_demo_set(
    output: os.PathLike,
    seed: int = 0,
    images: int = 500,
    test_images: int = 120,
    duplicates: float = 0.15,
    wrong_labels: float = 0.06,
    empty: float = 0.0,
) -> dict[str, Any]:
    """Makes the demo set, unless the folder holds just that already.

    Args:
        output: the folder to make.
        seed: the same seed and settings give the same files, byte for byte.
        images: number of training images (list `trainval`), near-duplicates included.
        test_images: number of test images (list `test`).
        duplicates: share of the training images that are near-duplicates of others.
        wrong_labels: share of the training images with wrong labels.
        empty: share of the training images without digits; none of them is repeated or has a wrong label.

    Returns:
        The content of `injected.json`: "made_by", "version" and "settings"; "classes";
        "near_duplicate_of" (image id -> id of its parent); "wrong_label" (image id ->
        {"kind": "class", "box" or "missing", "objects": true name and VOC box of each});
        "without_boxes" (ids of the images without digits).

    Raises:
        FileExistsError: `output` holds something else.
        ValueError: a setting is out of range.
    """
    settings = {
        "seed": seed,
        "images": images,
        "test_images": test_images,
        "duplicates": duplicates,
        "wrong_labels": wrong_labels,
        "empty": empty,
    }
    check_settings(settings)
    demo = DemoSet(seed, images, test_images)
    injected = demo.draw_trainval(images, *(round(share * images) for share in (duplicates, wrong_labels, empty)))
    demo.draw_test(test_images)
    record = {"made_by": MAKER, "version": VERSION, "settings": settings, "classes": list(CLASSES), **injected}

    def fill(folder: Path) -> None:
        for name, content in demo.files.items():
            (folder / name).parent.mkdir(exist_ok=True)
            (folder / name).write_bytes(content)

    make_folder(output, {"injected.json": json.dumps(record, indent=1) + "\n", **demo.lists}, fill)
    return record


def summary(output: Path, record: dict[str, Any]) -> str:
    """What a person wants to know about the demo set in `output`."""
    settings = record["settings"]
    kinds = Counter(fault["kind"] for fault in record["wrong_label"].values())
    by_kind = ", ".join(f"{kind} {count}" for kind, count in sorted(kinds.items()))
    return "\n".join(
        [
            f"demo set in {output}: seed {settings['seed']}, classes {', '.join(record['classes'])}",
            f"  trainval: {settings['images']} images, of which "
            f"{len(record['near_duplicate_of'])} near-duplicates and "
            f"{len(record['wrong_label'])} with wrong labels ({by_kind or 'none'}), "
            f"{len(record['without_boxes'])} without digits",
            f"  test: {settings['test_images']} images, clean",
            f"  what was injected where: {output / 'injected.json'}",
        ]
    )


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__,
        epilog="Example: python datasets/make_demo_set.py --output datasets/demo --seed 0\n"
        "Then:    python tools/train_net.py --register demo_train=voc:datasets/demo:trainval "
        "--register demo_test=voc:datasets/demo:test ...",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    default = Path(__file__).resolve().parent / "demo"
    parser.add_argument("--output", type=Path, default=default, help="folder to make [datasets/demo]")
    parser.add_argument("--seed", type=int, default=0, help="same seed, same bytes [%(default)s]")
    parser.add_argument("--images", type=int, default=500, help="training images [%(default)s]")
    parser.add_argument("--test-images", type=int, default=120, help="test images [%(default)s]")
    parser.add_argument(
        "--duplicates",
        type=float,
        default=0.15,
        help="share of the training images that nearly repeat another one [%(default)s]",
    )
    parser.add_argument(
        "--wrong-labels", type=float, default=0.06, help="share of the training images with wrong labels [%(default)s]"
    )
    parser.add_argument(
        "--empty", type=float, default=0.0, help="share of the training images without digits [%(default)s]"
    )
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    try:
        record = make_demo_set(**vars(args))
    except (FileExistsError, ValueError) as error:
        raise SystemExit(f"make_demo_set.py: {error}") from error
    print(summary(args.output, record))


if __name__ == "__main__":
    main()
