"""Small data sets in the real layouts, written by the tests."""

import gzip
import io
import pickle
import struct
import zipfile
from pathlib import Path

import numpy as np
from PIL import Image


def picture(seed=0, size=(8, 8), mode="RGB", format="PNG") -> bytes:
    """An encoded picture of random pixels, (width, height) large."""
    rng = np.random.default_rng(seed)
    shape = (size[1], size[0], 3) if mode == "RGB" else (size[1], size[0])
    buffer = io.BytesIO()
    Image.fromarray(rng.integers(0, 256, shape, dtype=np.uint8), mode).save(buffer, format)
    return buffer.getvalue()


def pixels(data: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))


def write_tree(folder: Path, files) -> Path:
    """`files` maps relative paths to bytes; a path that ends in / is an empty folder."""
    for name, content in files.items():
        path = folder / name
        if name.endswith("/"):
            path.mkdir(parents=True)
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
    return folder


def write_zip(path: Path, files, compression=zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


def tiny_imagenet_files(train_images=2, val_images=3):
    """The official tree, of three classes."""
    wnids = ["n02012849", "n01443537", "n03126707"]
    files = {"wnids.txt": "".join(f"{w}\n" for w in wnids).encode(), "test/images/test_0.JPEG": picture(99)}
    for i, wnid in enumerate(wnids):
        for k in range(train_images):
            files[f"train/{wnid}/images/{wnid}_{k}.JPEG"] = picture(10 * i + k, (64, 64), format="JPEG")
        files[f"train/{wnid}/{wnid}_boxes.txt"] = b""
    names = [f"val_{k}.JPEG" for k in range(val_images)]
    files |= {f"val/images/{name}": picture(90 + k, (64, 64), format="JPEG") for k, name in enumerate(names)}
    labels = "".join(f"{name}\t{wnids[(k + 1) % 3]}\t0\t32\t44\t62\n" for k, name in enumerate(names))
    return {**files, "val/val_annotations.txt": labels.encode()}


def cifar_files(kind, train=(2, 3), test=2):
    """The official batches of CIFAR10 or CIFAR100: uint8 rows of 3072, labels, names of classes.

    `train` holds the images of each of torchvision's training files; CIFAR10 gets empty ones for the rest.
    """
    rng = np.random.default_rng(0)
    label_key, classes_key = ("labels", "label_names") if kind == "CIFAR10" else ("fine_labels", "fine_label_names")
    names = ["airplane", "automobile", "bird"]

    def batch(count):
        rows = rng.integers(0, 256, (count, 3072), dtype=np.uint8)
        return pickle.dumps({"data": rows, label_key: [(i + 1) % 3 for i in range(count)]})

    if kind == "CIFAR10":
        counts = [*train, *[0] * (5 - len(train))]
        files = {f"data_batch_{i}": batch(count) for i, count in enumerate(counts, start=1)}
        return {**files, "test_batch": batch(test), "batches.meta": pickle.dumps({classes_key: names})}
    return {"train": batch(sum(train)), "test": batch(test), "meta": pickle.dumps({classes_key: names})}


def mnist_files(train=4, test=2, zipped=False):
    """The four idx files."""
    rng = np.random.default_rng(0)
    files = {}
    for start, count in (("train", train), ("t10k", test)):
        grey = rng.integers(0, 256, (count, 28, 28), dtype=np.uint8)
        files[f"{start}-images-idx3-ubyte"] = struct.pack(">4I", 0x803, count, 28, 28) + grey.tobytes()
        labels = bytes((i * 3 + 1) % 10 for i in range(count))
        files[f"{start}-labels-idx1-ubyte"] = struct.pack(">2I", 0x801, count) + labels
    return {f"{name}.gz": gzip.compress(data) for name, data in files.items()} if zipped else files
